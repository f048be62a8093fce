/**
 * One request on the agent's unix socket, as HTTP by hand: Bun.connect takes 2 ms less than fetch or node:http to start.
 *
 * Invariant: every call ends: with the agent's answer, or with AgentCallError that says whether the agent can have seen the request.
 */
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

/** The part of Bun's API that is used; @types/bun would be a dependency for twenty lines. */
interface BunSocket {
  write(bytes: Uint8Array): number;
  end(): void;
}
interface BunConnect {
  connect(options: {
    readonly unix: string;
    readonly socket: {
      open(socket: BunSocket): void;
      data(socket: BunSocket, bytes: Uint8Array): void;
      drain(socket: BunSocket): void;
      close(): void;
      error(socket: BunSocket, error: Error): void;
      connectError(socket: BunSocket, error: Error): void;
    };
  }): Promise<unknown>;
}
declare const Bun: BunConnect;

/** Longer than the agent takes for any request. */
const TIMEOUT_MS = 60_000;
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

export async function askAgent(socketPath: string, verb: AgentVerb, request: object): Promise<AgentAnswer> {
  return parseAnswer(await exchange(socketPath, httpRequest(verb, request)));
}

/** HTTP/1.0: the answer is never chunked and ends with the connection. */
export function httpRequest(verb: AgentVerb, request: object): Uint8Array {
  const body = new TextEncoder().encode(JSON.stringify(request));
  const head = new TextEncoder().encode(
    `POST /v1/cni/${verb} HTTP/1.0\r\nHost: agent\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`,
  );
  const bytes = new Uint8Array(head.length + body.length);
  bytes.set(head);
  bytes.set(body, head.length);
  return bytes;
}

/** Throws AgentCallError "unreadable", or "lost" when the answer is cut off. */
export function parseAnswer(text: string): AgentAnswer {
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) throw new AgentCallError("lost", "the agent closed the connection before it answered");
  const head = text.slice(0, end);
  const body = text.slice(end + 4);
  const length = /^content-length:\s*(\d+)\s*$/im.exec(head)?.[1];
  if (length !== undefined && new TextEncoder().encode(body).length < Number(length)) throw new AgentCallError("lost", "the agent's answer is cut off");
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

function exchange(unix: string, request: Uint8Array): Promise<string> {
  return new Promise((resolve, reject) => {
    const decoder = new TextDecoder();
    let answer = "";
    let rest = request;
    let isOpen = false;
    const timer = setTimeout(() => reject(new AgentCallError("lost", `the agent did not answer in ${TIMEOUT_MS / 1_000} s`)), TIMEOUT_MS);
    const settle = (action: () => void): void => {
      clearTimeout(timer);
      action();
    };
    const fail = (error: unknown): void => {
      const reason = error instanceof Error ? error.message : String(error);
      settle(() =>
        reject(
          new AgentCallError(
            isOpen ? "lost" : "unreachable",
            isOpen ? `the connection to the agent broke: ${reason}` : `no agent answers at ${unix}: ${reason}`,
            { cause: error },
          ),
        ),
      );
    };
    const push = (socket: BunSocket): void => {
      rest = rest.subarray(socket.write(rest));
    };
    Bun.connect({
      unix,
      socket: {
        open(socket) {
          isOpen = true;
          push(socket);
        },
        drain: push,
        data(socket, bytes) {
          answer += decoder.decode(bytes, { stream: true });
          if (answer.length <= MAX_ANSWER_BYTES) return;
          socket.end();
          settle(() => reject(new AgentCallError("unreadable", `the agent's answer is longer than ${MAX_ANSWER_BYTES} bytes`)));
        },
        close: () => settle(() => resolve(answer)),
        error: (_socket, error) => fail(error),
        connectError: (_socket, error) => fail(error),
      },
    }).catch(fail);
  });
}
