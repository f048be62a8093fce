/** Header blocks of answers. The constant ones are encoded once. */
import { type StatusObject, status } from "@grpc/grpc-js";
import { encodeHeaders, type Header } from "./hpack.ts";

const CALL: readonly Header[] = [
  [":status", "200"],
  ["content-type", "application/grpc"],
  ["grpc-accept-encoding", "identity,gzip"],
];

/** Clients refuse header lists of 8 or 16 kB, and with them the status. */
const MAX_DETAILS = 1024;

/** Before the first message. */
export const CALL_HEADERS = encodeHeaders(CALL);
const OK_TRAILERS = encodeHeaders([["grpc-status", "0"]]);

/** `isOnly`: nothing was sent before ("trailers only"). */
export function trailersOf({ code, details, metadata }: StatusObject, isOnly: boolean): Buffer {
  const custom = Object.entries(metadata.toHttp2Headers());
  if (code === status.OK && !isOnly && custom.length === 0) return OK_TRAILERS;
  const headers: Header[] = [...(isOnly ? CALL : []), ["grpc-status", String(code)]];
  if (details !== "") headers.push(["grpc-message", percentEncoded(details.slice(0, MAX_DETAILS))]);
  for (const [name, value] of custom) for (const one of [value].flat()) if (one !== undefined) headers.push([name, String(one)]);
  return encodeHeaders(headers);
}

/** gRPC over HTTP2, "Status-Message": UTF-8 with all but printable ASCII escaped. */
function percentEncoded(text: string): string {
  let encoded = "";
  for (const byte of Buffer.from(text)) {
    const isPlain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    encoded += isPlain ? String.fromCodePoint(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return encoded;
}
