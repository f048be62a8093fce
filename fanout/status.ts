/** The one table from what ended a call to its gRPC status. `proto/sedge/sync/v1/sync.proto` says what a client does with each. */
import { Metadata, type StatusObject, status } from "@grpc/grpc-js";

/** Why a call ends with an error. */
export type CallProblem =
  | "broken-message"
  | "hello-overdue"
  | "unidentified"
  | "wrong-identity"
  | "incompatible"
  | "not-in-sync"
  | "older-upstream"
  | "draining"
  | "not-admitted"
  | "replaced"
  | "too-slow"
  | "relay-loop"
  | "too-many-hops"
  | "parent-lost"
  | "new-epoch"
  | "unknown-object"
  | "no-free-block"
  | "too-many-streams"
  | "too-many-calls"
  | "api-unavailable"
  | "internal";

/** code; whether the trailer `retry-after-ms` belongs to it. */
const STATUS: Readonly<Record<CallProblem, { readonly code: status; readonly hasRetry: boolean }>> = {
  "broken-message": { code: status.INVALID_ARGUMENT, hasRetry: false },
  "hello-overdue": { code: status.INVALID_ARGUMENT, hasRetry: false },
  unidentified: { code: status.UNAUTHENTICATED, hasRetry: false },
  "wrong-identity": { code: status.PERMISSION_DENIED, hasRetry: false },
  incompatible: { code: status.FAILED_PRECONDITION, hasRetry: false },
  "not-in-sync": { code: status.UNAVAILABLE, hasRetry: true },
  "older-upstream": { code: status.UNAVAILABLE, hasRetry: true },
  draining: { code: status.UNAVAILABLE, hasRetry: true },
  "not-admitted": { code: status.RESOURCE_EXHAUSTED, hasRetry: true },
  replaced: { code: status.ABORTED, hasRetry: false },
  "too-slow": { code: status.UNAVAILABLE, hasRetry: true },
  "relay-loop": { code: status.FAILED_PRECONDITION, hasRetry: false },
  "too-many-hops": { code: status.FAILED_PRECONDITION, hasRetry: false },
  "parent-lost": { code: status.UNAVAILABLE, hasRetry: true },
  "new-epoch": { code: status.UNAVAILABLE, hasRetry: true },
  "unknown-object": { code: status.NOT_FOUND, hasRetry: false },
  "too-many-streams": { code: status.RESOURCE_EXHAUSTED, hasRetry: true },
  // An agent takes RESOURCE_EXHAUSTED of a claim for a pool that is full.
  "too-many-calls": { code: status.UNAVAILABLE, hasRetry: true },
  "no-free-block": { code: status.RESOURCE_EXHAUSTED, hasRetry: true },
  "api-unavailable": { code: status.UNAVAILABLE, hasRetry: true },
  internal: { code: status.INTERNAL, hasRetry: false },
};

/** Every problem, for tests and metrics. */
export const CALL_PROBLEMS = Object.keys(STATUS) as readonly CallProblem[];

/** Ends a call; `retryAfterMs` is sent when the problem is one that passes. */
export class CallError extends Error {
  readonly problem: CallProblem;
  readonly retryAfterMs: number;

  constructor(problem: CallProblem, message: string, options: ErrorOptions & { readonly retryAfterMs?: number } = {}) {
    super(message, options);
    this.name = "CallError";
    this.problem = problem;
    this.retryAfterMs = options.retryAfterMs ?? 1000;
  }
}

export const RETRY_AFTER_TRAILER = "retry-after-ms";

/** The status of anything that was thrown. What is not a CallError is ours: INTERNAL, without its text (it goes to the log). */
export function statusOf(error: unknown): StatusObject {
  const metadata = new Metadata();
  if (!(error instanceof CallError)) return { code: status.INTERNAL, details: "internal error; the server's log has more", metadata };
  const { code, hasRetry } = STATUS[error.problem];
  if (hasRetry) metadata.set(RETRY_AFTER_TRAILER, String(Math.ceil(error.retryAfterMs)));
  return { code, details: error.message, metadata };
}
