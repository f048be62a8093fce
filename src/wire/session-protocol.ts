/**
 * The server's end of the record stream, as a transition table: which event is allowed when, and what it makes the session do. Pure; `fanout/session`
 * carries the effects out. `docs/protocol.md` has the table and the invariants.
 */

import { MAX_BUCKET_BITS } from "./digest.ts";
import { WireError } from "./error.ts";
import { type AgentMessage, AgentMessage as AgentMessageCodec, type ViewState } from "./gen/sedge/sync/v1/sync.ts";

/** greeting: Hello is due. waiting: in the line for an answer. answering: buckets go out. live: deltas. restating: greeted anew, another Hello is due. over: ended. */
export type SessionState = "greeting" | "waiting" | "answering" | "live" | "restating" | "over";
/** restart: the table's revisions are of another run of the root now. hello-overdue: no Hello in time. replaced: the node opened another session. broken: bytes that are no AgentMessage, or none that is known. */
export type SessionEvent =
  | "hello"
  | "ack"
  | "report"
  | "repair"
  | "broken"
  | "admitted"
  | "refused"
  | "answered"
  | "restart"
  | "drain"
  | "drain-overdue"
  | "replaced"
  | "hello-overdue"
  | "closed";
export type SessionEffect =
  | "greet"
  | "record-ack"
  | "take-report"
  | "queue-repair"
  | "greet-anew"
  | "take-hello"
  | "answer"
  | "go-live"
  | "send-move"
  | "ignore"
  | "forget"
  | "end-invalid"
  | "end-overdue"
  | "end-replaced"
  | "end-refused"
  | "end-draining";

export interface SessionTransition {
  readonly next: SessionState;
  readonly effect: SessionEffect;
}

const INVALID: SessionTransition = { next: "over", effect: "end-invalid" };
const to = (next: SessionState, effect: SessionEffect): SessionTransition => ({ next, effect });
/** The same in every state but `over`. */
const ALWAYS = { broken: INVALID, replaced: to("over", "end-replaced"), "drain-overdue": to("over", "end-draining"), closed: to("over", "forget") } as const;

/** Every event in every state. */
export const SESSION_TRANSITIONS: Readonly<Record<SessionState, Readonly<Record<SessionEvent, SessionTransition>>>> = {
  greeting: {
    ...ALWAYS,
    hello: to("waiting", "greet"),
    ack: INVALID,
    report: INVALID,
    repair: INVALID,
    admitted: to("greeting", "ignore"),
    refused: to("over", "end-refused"),
    answered: to("greeting", "ignore"),
    restart: to("greeting", "ignore"),
    drain: to("over", "end-draining"),
    "hello-overdue": to("over", "end-overdue"),
  },
  waiting: {
    ...ALWAYS,
    hello: INVALID,
    ack: to("waiting", "record-ack"),
    report: to("waiting", "take-report"),
    repair: INVALID,
    admitted: to("answering", "answer"),
    refused: to("over", "end-refused"),
    answered: to("waiting", "ignore"),
    restart: to("restating", "greet-anew"),
    drain: to("over", "end-draining"),
    "hello-overdue": to("waiting", "ignore"),
  },
  answering: {
    ...ALWAYS,
    hello: INVALID,
    ack: to("answering", "record-ack"),
    report: to("answering", "take-report"),
    repair: INVALID,
    admitted: to("answering", "ignore"),
    refused: to("answering", "ignore"),
    answered: to("live", "go-live"),
    restart: to("restating", "greet-anew"),
    drain: to("answering", "send-move"),
    "hello-overdue": to("answering", "ignore"),
  },
  live: {
    ...ALWAYS,
    hello: INVALID,
    ack: to("live", "record-ack"),
    report: to("live", "take-report"),
    repair: to("waiting", "queue-repair"),
    admitted: to("live", "ignore"),
    refused: to("live", "ignore"),
    answered: to("live", "ignore"),
    restart: to("restating", "greet-anew"),
    drain: to("live", "send-move"),
    "hello-overdue": to("live", "ignore"),
  },
  restating: {
    ...ALWAYS,
    hello: to("waiting", "take-hello"),
    // Of before: revisions in it are another run's.
    ack: to("restating", "ignore"),
    report: to("restating", "take-report"),
    repair: to("restating", "ignore"),
    admitted: to("restating", "ignore"),
    refused: to("restating", "ignore"),
    answered: to("restating", "ignore"),
    restart: to("restating", "greet-anew"),
    drain: to("restating", "send-move"),
    "hello-overdue": to("over", "end-overdue"),
  },
  over: {
    hello: to("over", "ignore"),
    ack: to("over", "ignore"),
    report: to("over", "ignore"),
    repair: to("over", "ignore"),
    broken: to("over", "ignore"),
    admitted: to("over", "ignore"),
    refused: to("over", "ignore"),
    answered: to("over", "ignore"),
    restart: to("over", "ignore"),
    drain: to("over", "ignore"),
    "drain-overdue": to("over", "ignore"),
    replaced: to("over", "ignore"),
    "hello-overdue": to("over", "ignore"),
    closed: to("over", "ignore"),
  },
};

export type AgentMessageValue = NonNullable<AgentMessage["message"]>;

/** Decodes what an agent sent; throws WireError when it is no AgentMessage that this version knows. */
export function decodeAgentMessage(bytes: Uint8Array): AgentMessageValue {
  let message: AgentMessageValue | undefined;
  try {
    message = AgentMessageCodec.decode(bytes).message;
  } catch (error) {
    throw new WireError("malformed", "not an AgentMessage", { cause: error });
  }
  if (message === undefined) throw new WireError("unexpected", "an AgentMessage without content that this version knows");
  return message;
}

/** Which event a message is. */
export function eventOfAgentMessage(message: AgentMessageValue): SessionEvent {
  switch (message.$case) {
    case "hello":
      return "hello";
    case "ack":
      return "ack";
    case "endpointReport":
      return "report";
    case "repair":
      return "repair";
  }
}

/** Digests that a Hello or repair states, as an array of 2^bits; throws WireError when their number does not fit. A view without digests is empty: zeros. */
export function statedDigests(view: ViewState | undefined): { readonly bits: number; readonly digests: BigUint64Array } {
  const bits = view?.bucketBits ?? 0;
  if (bits > MAX_BUCKET_BITS) throw new WireError("unexpected", `bucket_bits is ${bits}, at most ${MAX_BUCKET_BITS}`);
  const digests = view?.digests ?? [];
  if (digests.length !== 0 && digests.length !== 2 ** bits) throw new WireError("unexpected", `${digests.length} digests for ${2 ** bits} buckets`);
  return { bits, digests: digests.length === 0 ? new BigUint64Array(2 ** bits) : BigUint64Array.from(digests) };
}
