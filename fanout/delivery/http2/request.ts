/**
 * A request's header list, checked by RFC 9113 section 8 and by "gRPC over HTTP2".
 *
 * Invariant: what is malformed by RFC 9113 is a stream error; what is well formed and no gRPC call gets an HTTP status; what is a call and cannot be served gets
 * a gRPC status. `te: trailers` may be missing: it tells a proxy from a client, and there is no proxy's harm here.
 */
import { status } from "@grpc/grpc-js";
import { CODE, StreamError } from "./frames.ts";
import { GrpcError } from "./grpc-error.ts";
import type { Header } from "./hpack.ts";

export interface Request {
  readonly method: string;
  readonly path: string;
  /** RFC 9110 section 8.6; undefined: not stated. */
  readonly contentLength: number | undefined;
  readonly headers: ReadonlyMap<string, string>;
}

/** What a call asks of the transport. */
export interface CallTerms {
  readonly path: string;
  readonly isGzip: boolean;
  /** Undefined: no deadline. */
  readonly timeoutMs: number | undefined;
}

const NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
/** RFC 9113 section 8.2.1. */
// oxlint-disable-next-line no-control-regex
const BAD_VALUE = /[\0\r\n]|^[ \t]|[ \t]$/;
const CONNECTION_SPECIFIC: ReadonlySet<string> = new Set(["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]);
const PSEUDO: ReadonlySet<string> = new Set([":method", ":scheme", ":path", ":authority"]);
const REQUIRED = [":method", ":scheme", ":path"] as const;
const DECIMAL = /^\d{1,15}$/;

/** Throws StreamError. */
export function parseRequest(streamId: number, list: readonly Header[]): Request {
  const headers = new Map<string, string>();
  let isPseudoOver = false;
  for (const [name, value] of list) {
    if (name.startsWith(":")) {
      if (isPseudoOver) throw malformed(streamId, `${name} after a regular header`);
      if (!PSEUDO.has(name)) throw malformed(streamId, `${name} is no header of a request`);
      if (headers.has(name)) throw malformed(streamId, `${name} twice`);
    } else {
      isPseudoOver = true;
      checkRegular(streamId, name, value);
    }
    if (BAD_VALUE.test(value)) throw malformed(streamId, `${name} has a value that no header may have`);
    const before = headers.get(name);
    headers.set(name, before === undefined ? value : `${before}, ${value}`);
  }
  for (const name of REQUIRED) if ((headers.get(name) ?? "") === "") throw malformed(streamId, `${name} is missing`);
  const length = headers.get("content-length");
  if (length !== undefined && !DECIMAL.test(length)) throw malformed(streamId, "content-length is no number");
  return {
    method: headers.get(":method") ?? "",
    path: headers.get(":path") ?? "",
    contentLength: length === undefined ? undefined : Number(length),
    headers,
  };
}

/** Throws StreamError. */
export function checkTrailers(streamId: number, list: readonly Header[]): void {
  for (const [name, value] of list) {
    if (name.startsWith(":")) throw malformed(streamId, `${name} in trailers`);
    checkRegular(streamId, name, value);
  }
}

/** The HTTP status that tells a client that this is no gRPC call, undefined when it is one. */
export function refusedHttpStatus({ method, headers }: Request): 405 | 415 | undefined {
  const type = headers.get("content-type") ?? "";
  if (type !== "application/grpc" && !type.startsWith("application/grpc+") && !type.startsWith("application/grpc;")) return 415;
  return method === "POST" ? undefined : 405;
}

/** Throws GrpcError. */
export function termsOf({ path, headers }: Request): CallTerms {
  const encoding = headers.get("grpc-encoding") ?? "identity";
  if (encoding !== "identity" && encoding !== "gzip")
    throw new GrpcError(status.UNIMPLEMENTED, `grpc-encoding ${JSON.stringify(encoding)} is not known here; identity and gzip are`);
  const timeout = headers.get("grpc-timeout");
  return { path, isGzip: encoding === "gzip", timeoutMs: timeout === undefined ? undefined : timeoutMsOf(timeout) };
}

const UNIT_MS: ReadonlyMap<string, number> = new Map([
  ["H", 3_600_000],
  ["M", 60_000],
  ["S", 1_000],
  ["m", 1],
  ["u", 0.001],
  ["n", 0.000_001],
]);

function timeoutMsOf(text: string): number {
  const unit = UNIT_MS.get(text.slice(-1));
  const amount = text.slice(0, -1);
  if (unit === undefined || !/^\d{1,8}$/.test(amount)) throw new GrpcError(status.INTERNAL, `grpc-timeout ${JSON.stringify(text)} cannot be read`);
  return Number(amount) * unit;
}

function checkRegular(streamId: number, name: string, value: string): void {
  if (!NAME.test(name)) throw malformed(streamId, `${JSON.stringify(name)} is no name of a header`);
  if (CONNECTION_SPECIFIC.has(name)) throw malformed(streamId, `${name} does not belong into HTTP/2`);
  if (name === "te" && value !== "trailers") throw malformed(streamId, `te is ${JSON.stringify(value)}; it may only be "trailers"`);
}

function malformed(streamId: number, message: string): StreamError {
  return new StreamError(streamId, CODE.protocolError, message);
}
