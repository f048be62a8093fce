/**
 * What to do next when listing and watching one kind: a pure table of states and inputs. The shell (watch-kind.ts) does it.
 *
 * SPEC
 *   M1  A watch is opened only at a version that a complete list, a bookmark or an event of this same chain has given.
 *   M2  Objects are known to be gone only by a DELETED event or by `list-complete`; no failure whatever removes anything.
 *   M3  `list-complete` comes only from the last page of one snapshot, or from the bookmark that ends a streaming list.
 *   M4  An expired version (410, in whatever form) leads to a new list; a dropped connection leads back to where the chain was.
 *   M5  Every way back to the server after a failure goes through `wait`, except a watch that the server ended in order after a while.
 *   M6  A kind that the server does not have counts as listed and empty for those who wait for the first list (`list-missing`), deletes nothing, and is asked for again.
 *
 * Versions are opaque: they are handed back, never compared. Rejected: a loop with flags, in which "list page 3 expired while falling back" is a path that
 * nobody wrote down.
 */
import { assertNever } from "../model/event.ts";

export type WatchState =
  /** Nothing asked yet. */
  | { readonly kind: "idle" }
  /** Streaming list: a watch that begins with every object and a bookmark after the last. */
  | { readonly kind: "stream-list" }
  /** Paged list. `continueToken` "": the first page. `isWhole`: without a page size, after pages have expired under way. */
  | { readonly kind: "page-list"; readonly continueToken: string; readonly isWhole: boolean }
  | { readonly kind: "watch"; readonly resourceVersion: string }
  /** Between tries. `next` is entered when the time is over. */
  | { readonly kind: "waiting"; readonly next: ResumePoint };

export type ResumePoint = Exclude<WatchState, { kind: "waiting" } | { kind: "idle" }>;

export type WatchInput =
  /** Start, or the wait is over. */
  | { readonly kind: "due" }
  | { readonly kind: "page"; readonly resourceVersion: string; readonly continueToken: string }
  /** The bookmark after the last initial event. */
  | { readonly kind: "initial-end"; readonly resourceVersion: string }
  /** An event or a bookmark with this version. */
  | { readonly kind: "progress"; readonly resourceVersion: string }
  /** The server ended the stream in order. `isShort`: at once, so that opening again at once would be a busy loop. */
  | { readonly kind: "ended"; readonly isShort: boolean }
  | { readonly kind: "failed"; readonly failure: WatchFailure };

/** Why a try ended, as far as the answer to it differs. */
export type WatchFailure =
  /** 410 Gone: the version or the continue token is too old. */
  | { readonly kind: "expired" }
  /** The server has not come as far as the version asked for (a restored or lagging store). */
  | { readonly kind: "ahead"; readonly retryAfterMs: number }
  /** The server refuses, ignores or never finishes a streaming list. */
  | { readonly kind: "no-streaming" }
  /** 404: the kind is not served. */
  | { readonly kind: "missing" }
  /** 429, 503 and the like, or a refusal that may pass (401, 403). */
  | { readonly kind: "refused"; readonly retryAfterMs: number }
  /** Reset, refused connection, time-out, silence, garbage. */
  | { readonly kind: "disconnected"; readonly isSilence: boolean };

export type WatchAction =
  /** Forget which objects this list has shown so far; none are gone yet. */
  | { readonly kind: "list-begin" }
  /** What this list did not show is gone. */
  | { readonly kind: "list-complete" }
  | { readonly kind: "list-missing" }
  | { readonly kind: "open-stream-list" }
  | { readonly kind: "get-page"; readonly continueToken: string; readonly isWhole: boolean }
  | { readonly kind: "open-watch"; readonly resourceVersion: string }
  /** `pace` "slow": the kind is missing. */
  | { readonly kind: "wait"; readonly pace: "backoff" | "slow"; readonly atLeastMs: number };

/** What outlives a state. */
export interface WatchMemory {
  /** False once the server has shown that it has no streaming lists. */
  readonly canStream: boolean;
  /** A paged list has expired under way since the last complete one: do without pages. */
  readonly hasExpiredPages: boolean;
}

export interface WatchMachine {
  readonly state: WatchState;
  readonly memory: WatchMemory;
}

export interface Transition {
  readonly machine: WatchMachine;
  readonly actions: readonly WatchAction[];
}

export const INITIAL_MACHINE: WatchMachine = { state: { kind: "idle" }, memory: { canStream: true, hasExpiredPages: false } };

/** Advances by one input. Inputs that a state cannot get (a late event of a closed stream) change nothing. */
export function advance(machine: WatchMachine, input: WatchInput): Transition {
  return TABLE[machine.state.kind][input.kind]({ ...machine, input });
}

type Handler<State, Input> = (at: { state: State; memory: WatchMemory; input: Input }) => Transition;
type StateOf<Kind extends WatchState["kind"]> = Extract<WatchState, { kind: Kind }>;
type InputOf<Kind extends WatchInput["kind"]> = Extract<WatchInput, { kind: Kind }>;

/** Complete by type: a new state or input does not compile until each pair is decided. */
type TypedTable = { readonly [S in WatchState["kind"]]: { readonly [I in WatchInput["kind"]]: Handler<StateOf<S>, InputOf<I>> } };

const stay: Handler<WatchState, WatchInput> = ({ state, memory }) => ({ machine: { state, memory }, actions: [] });

const TYPED_TABLE: TypedTable = {
  idle: {
    due: ({ memory }) => enter(listPoint(memory), memory),
    page: stay,
    "initial-end": stay,
    progress: stay,
    ended: stay,
    failed: stay,
  },
  "stream-list": {
    due: stay,
    page: stay,
    "initial-end": ({ memory, input }) => ({
      machine: { state: { kind: "watch", resourceVersion: input.resourceVersion }, memory: { ...memory, hasExpiredPages: false } },
      actions: [{ kind: "list-complete" }],
    }),
    // Versions of initial events are those of the objects, not a place in the history: only the bookmark gives one (M1).
    progress: stay,
    ended: ({ memory }) => wait(listPoint(memory), memory),
    failed: ({ state, memory, input }) => {
      const { failure } = input;
      const paged = { ...memory, canStream: false };
      switch (failure.kind) {
        case "no-streaming":
          return enter(listPoint(paged), paged);
        case "missing":
          return missing(memory);
        case "disconnected":
          // A server that knows nothing of streaming lists sends its objects and then falls silent.
          return failure.isSilence ? wait(listPoint(paged), paged) : wait(state, memory);
        case "expired":
          return wait(state, memory);
        case "ahead":
        case "refused":
          return wait(state, memory, failure.retryAfterMs);
        default:
          return assertNever(failure);
      }
    },
  },
  "page-list": {
    due: stay,
    page: ({ state, memory, input }) =>
      input.continueToken === ""
        ? enter({ kind: "watch", resourceVersion: input.resourceVersion }, { ...memory, hasExpiredPages: false }, [{ kind: "list-complete" }])
        : enter({ ...state, continueToken: input.continueToken }, memory),
    "initial-end": stay,
    progress: stay,
    ended: stay,
    failed: ({ state, memory, input }) => {
      const { failure } = input;
      switch (failure.kind) {
        case "expired": {
          const memoryAfter = { ...memory, hasExpiredPages: memory.hasExpiredPages || state.continueToken !== "" };
          return wait(listPoint(memoryAfter), memoryAfter);
        }
        case "missing":
          return missing(memory);
        case "ahead":
        case "refused":
          return wait(state, memory, failure.retryAfterMs);
        case "disconnected":
        case "no-streaming":
          return wait(state, memory);
        default:
          return assertNever(failure);
      }
    },
  },
  watch: {
    due: stay,
    page: stay,
    "initial-end": ({ memory, input }) => moved(input.resourceVersion, memory),
    progress: ({ memory, input }) => moved(input.resourceVersion, memory),
    ended: ({ state, memory, input }) => (input.isShort ? wait(state, memory) : enter(state, memory)),
    failed: ({ state, memory, input }) => {
      const { failure } = input;
      switch (failure.kind) {
        case "expired":
        case "no-streaming":
          return wait(listPoint(memory), memory);
        case "ahead":
          return wait(listPoint(memory), memory, failure.retryAfterMs);
        case "missing":
          return missing(memory);
        case "refused":
          return wait(state, memory, failure.retryAfterMs);
        case "disconnected":
          return wait(state, memory);
        default:
          return assertNever(failure);
      }
    },
  },
  waiting: {
    due: ({ state, memory }) => enter(state.next, memory),
    page: stay,
    "initial-end": stay,
    progress: stay,
    ended: stay,
    failed: stay,
  },
};

/** The same table with its pairs erased: `advance` picks each handler by the very kinds that it is typed for. */
const TABLE = TYPED_TABLE as Readonly<Record<WatchState["kind"], Readonly<Record<WatchInput["kind"], Handler<never, never>>>>> as Readonly<
  Record<WatchState["kind"], Readonly<Record<WatchInput["kind"], Handler<WatchState, WatchInput>>>>
>;

/** Where a new list begins, from what is known of the server. */
function listPoint(memory: WatchMemory): ResumePoint {
  return memory.canStream ? { kind: "stream-list" } : { kind: "page-list", continueToken: "", isWhole: memory.hasExpiredPages };
}

function enter(state: ResumePoint, memory: WatchMemory, before: readonly WatchAction[] = []): Transition {
  return { machine: { state, memory }, actions: [...before, ...entryActions(state)] };
}

function entryActions(state: ResumePoint): readonly WatchAction[] {
  switch (state.kind) {
    case "stream-list":
      return [{ kind: "list-begin" }, { kind: "open-stream-list" }];
    case "page-list": {
      const page: WatchAction = { kind: "get-page", continueToken: state.continueToken, isWhole: state.isWhole };
      return state.continueToken === "" ? [{ kind: "list-begin" }, page] : [page];
    }
    case "watch":
      return [{ kind: "open-watch", resourceVersion: state.resourceVersion }];
    default:
      return assertNever(state);
  }
}

function wait(next: ResumePoint, memory: WatchMemory, atLeastMs = 0): Transition {
  return { machine: { state: { kind: "waiting", next }, memory }, actions: [{ kind: "wait", pace: "backoff", atLeastMs }] };
}

function missing(memory: WatchMemory): Transition {
  return {
    machine: { state: { kind: "waiting", next: listPoint(memory) }, memory },
    actions: [{ kind: "list-missing" }, { kind: "wait", pace: "slow", atLeastMs: 0 }],
  };
}

function moved(resourceVersion: string, memory: WatchMemory): Transition {
  return { machine: { state: { kind: "watch", resourceVersion }, memory }, actions: [] };
}
