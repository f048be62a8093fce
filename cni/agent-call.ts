/** One request to the agent and its answer, as HTTP by hand: the executable has no library for it. Pure; `agent-socket.ts` carries it. */
import type { Connection } from "./result.ts";

export type AgentVerb = "add" | "del" | "check" | "status" | "gc";

export type AgentAnswer =
  | { readonly ok: true; readonly result?: Connection }
  | { readonly ok: false; readonly error: { readonly code: number; readonly msg: string; readonly details: string } };

/** unreachable: the agent never saw the request. lost: it may have. unreadable: it answered what is no answer. */
export type AgentCallProblem = "unreachable" | "lost" | "unreadable";

export class AgentCallError extends Error {
  readonly code: AgentCallProblem;

  constructor(code: AgentCallProblem, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "AgentCallError";
    this.code = code;
  }
}

/** HTTP/1.0: the answer is never chunked and ends with the connection. */
export function httpRequest(verb: AgentVerb, request: object): string {
  const body = JSON.stringify(request);
  return `POST /v1/cni/${verb} HTTP/1.0\r\nHost: agent\r\nContent-Type: application/json\r\nContent-Length: ${utf8Length(body)}\r\n\r\n${body}`;
}

/** Throws AgentCallError "unreadable", or "lost" when the answer is cut off. */
export function parseAnswer(text: string): AgentAnswer {
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) throw new AgentCallError("lost", "the agent closed the connection before it answered");
  const head = text.slice(0, end);
  const body = text.slice(end + 4);
  const length = /^content-length:\s*(\d+)\s*$/im.exec(head)?.[1];
  if (length !== undefined && utf8Length(body) < Number(length)) throw new AgentCallError("lost", "the agent's answer is cut off");
  let answer: unknown;
  try {
    answer = JSON.parse(body);
  } catch (error) {
    throw new AgentCallError("unreadable", `the agent's answer is not JSON: ${body.slice(0, 200)}`, { cause: error });
  }
  const { ok, error } = (answer ?? {}) as { readonly ok?: unknown; readonly error?: { readonly code?: unknown; readonly msg?: unknown } };
  if (ok === true || (ok === false && typeof error?.code === "number" && typeof error.msg === "string")) return answer as AgentAnswer;
  throw new AgentCallError("unreadable", `the agent's answer is not understood: ${body.slice(0, 200)}`);
}

/** Bytes of the text in UTF-8; each half of a surrogate pair counts for half of its four. */
function utf8Length(text: string): number {
  let length = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) length += 1;
    else if (unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff)) length += 2;
    else length += 3;
  }
  return length;
}
