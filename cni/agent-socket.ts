/**
 * The way to the agent: one connection on its unix socket, one request, one answer.
 *
 * Invariant: every call ends: with the agent's answer, or with AgentCallError that says whether the agent can have seen the request.
 */
import { type AgentAnswer, AgentCallError, type AgentVerb, httpRequest, parseAnswer } from "./agent-call.ts";
import { close, connectUnix, readAll, SystemCallError, writeAll } from "./system-calls.ts";

/** Longer than the agent takes for any request. */
const TIMEOUT_MS = 60_000;
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

/** Throws AgentCallError. */
export function askAgent(socketPath: string, verb: AgentVerb, request: object): AgentAnswer {
  return parseAnswer(exchange(socketPath, httpRequest(verb, request)));
}

function exchange(path: string, request: string): string {
  let socket: number;
  try {
    socket = connectUnix(path, TIMEOUT_MS);
  } catch (error) {
    throw new AgentCallError("unreachable", `no agent answers at ${path}: ${reasonOf(error)}`, { cause: error });
  }
  try {
    writeAll(socket, request);
    return readAll(socket, MAX_ANSWER_BYTES);
  } catch (error) {
    if (error instanceof RangeError) throw new AgentCallError("unreadable", `the agent's answer is longer than ${MAX_ANSWER_BYTES} bytes`);
    const isLate = error instanceof SystemCallError && error.code === "EAGAIN";
    const reason = isLate ? `the agent did not answer in ${TIMEOUT_MS / 1_000} s` : `the connection to the agent broke: ${reasonOf(error)}`;
    throw new AgentCallError("lost", reason, { cause: error });
  } finally {
    close(socket);
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
