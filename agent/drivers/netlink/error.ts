/** The one error of the kernel drivers: which operation, on what, errno by name, and the kernel's own words. */
import { errnoName } from "./libc.ts";

export type NetlinkErrorFacts = {
  /** What was asked: "add route", "delete link", "apply transaction", … */
  readonly operation: string;
  /** What it was asked of: "10.65.0.0/26 via 192.0.2.7", "chain sedge/pod-1", … */
  readonly object: string;
  readonly errno: number;
  /** The kernel's extended acknowledgement. */
  readonly reason?: string | undefined;
};

export class NetlinkError extends Error {
  /** "ENOENT", "EEXIST", "EBUSY", … */
  readonly code: string;
  readonly errno: number;
  readonly operation: string;
  readonly object: string;
  readonly reason: string | undefined;

  constructor({ operation, object, errno, reason }: NetlinkErrorFacts) {
    const code = errnoName(errno);
    super(`${operation} ${object}: ${code}${reason === undefined ? "" : ` (${reason})`}`);
    this.name = "NetlinkError";
    this.code = code;
    this.errno = errno;
    this.operation = operation;
    this.object = object;
    this.reason = reason;
  }
}

/** True for a NetlinkError with one of the given codes; with any, when none is given. */
export function isNetlinkError(error: unknown, ...codes: readonly string[]): error is NetlinkError {
  return error instanceof NetlinkError && (codes.length === 0 || codes.includes(error.code));
}
