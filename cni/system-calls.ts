/**
 * Reading, writing, the agent's socket and the few files of the executable: the calls of native/host.c, with errors that have a name.
 *
 * Invariant: every call blocks until it is done or its time-out is over, so no callback is ever pending. The only file that touches `host`.
 */

/** What native/host.c offers. A call that fails returns its errno, negated. */
export interface Host {
  readAll(fd: number, maxBytes: number): string | number;
  writeAll(fd: number, text: string): number;
  connectUnix(path: string, timeoutMs: number): number;
  close(fd: number): number;
  sync(fd: number): number;
  openFile(path: string, kind: FileKind): number;
  makeDirectory(path: string): number;
  rename(from: string, to: string): number;
  remove(path: string): number;
  variable(name: string): string | undefined;
  processId(): number;
  exit(code: number): never;
}

/** "replace" empties the file that is there, "append" writes behind it; both make one of mode 0600. "directory": to sync it. */
export type FileKind = "replace" | "append" | "directory";

declare const host: Host;

const ENOENT = 2;
const EEXIST = 17;
const EFBIG = 27;
const ERRNO_NAMES: Readonly<Record<number, string>> = {
  [ENOENT]: "ENOENT",
  5: "EIO",
  9: "EBADF",
  11: "EAGAIN",
  12: "ENOMEM",
  13: "EACCES",
  [EEXIST]: "EEXIST",
  20: "ENOTDIR",
  21: "EISDIR",
  22: "EINVAL",
  [EFBIG]: "EFBIG",
  28: "ENOSPC",
  30: "EROFS",
  32: "EPIPE",
  36: "ENAMETOOLONG",
  104: "ECONNRESET",
  111: "ECONNREFUSED",
};

/** A system call that failed. */
export class SystemCallError extends Error {
  /** "ENOENT", …; "errno 71" for one without a name here. */
  readonly code: string;

  constructor(call: string, errno: number) {
    const code = ERRNO_NAMES[errno] ?? `errno ${errno}`;
    super(`${call}: ${code}`);
    this.name = "SystemCallError";
    this.code = code;
  }
}

/** All of a descriptor, to its end, from UTF-8. Throws SystemCallError; RangeError beyond `maxBytes`. */
export function readAll(fd: number, maxBytes: number): string {
  const text = host.readAll(fd, maxBytes);
  if (typeof text === "string") return text;
  if (text === -EFBIG) throw new RangeError(`more than ${maxBytes} bytes`);
  throw new SystemCallError("read", -text);
}

/** The whole text, as UTF-8, to a file or a connected socket. Throws SystemCallError. */
export function writeAll(fd: number, text: string): void {
  checked("write", host.writeAll(fd, text));
}

/** Connected to the listener at the path; every later call on it ends after `timeoutMs` (EAGAIN). Close it with `close`. Throws SystemCallError. */
export function connectUnix(path: string, timeoutMs: number): number {
  return checked("connect", host.connectUnix(path, timeoutMs));
}

export function close(fd: number): void {
  host.close(fd);
}

/** What was written to the descriptor is on the disk. Throws SystemCallError. */
export function sync(fd: number): void {
  checked("fsync", host.sync(fd));
}

/** A descriptor; close it with `close`. Throws SystemCallError. */
export function openFile(path: string, kind: FileKind): number {
  return checked(`open ${path}`, host.openFile(path, kind));
}

/** With those above it, of mode 0700; of one that is there: nothing. Throws SystemCallError. */
export function makeDirectories(path: string): void {
  const result = host.makeDirectory(path);
  if (result >= 0 || result === -EEXIST) return;
  const parent = path.slice(0, path.lastIndexOf("/"));
  if (parent === "" || parent === path) checked(`mkdir ${path}`, result);
  makeDirectories(parent);
  const again = host.makeDirectory(path);
  if (again !== -EEXIST) checked(`mkdir ${path}`, again);
}

/** Throws SystemCallError. */
export function rename(from: string, to: string): void {
  checked(`rename to ${to}`, host.rename(from, to));
}

/** Of one that is not there: nothing. Throws SystemCallError. */
export function remove(path: string): void {
  const result = host.remove(path);
  if (result !== -ENOENT) checked(`unlink ${path}`, result);
}

/** Of the environment. */
export function variable(name: string): string | undefined {
  return host.variable(name);
}

export function processId(): number {
  return host.processId();
}

/** Ends the process at once. */
export function exit(code: number): never {
  return host.exit(code);
}

function checked(call: string, result: number): number {
  if (result < 0) throw new SystemCallError(call, -result);
  return result;
}
