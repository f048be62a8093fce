/**
 * Content negotiation: protobuf is asked for where the server may have it, and JSON is read whenever the server answers JSON
 * (custom resources, the embedded API). A watch is cut into frames here, from chunks of any size.
 *
 * Invariant: a frame that cannot be decoded throws; it is never skipped, because where the next one begins would be a guess.
 */
import type { ApiResource } from "./api-resources.ts";
import { WatchEvent } from "./gen/kubernetes/meta/v1/meta.ts";
import { type JsonObject, objectAt, stringAt, tryJsonObject } from "./json-object.ts";
import { parseLosslessJson } from "./lossless-json.ts";
import { type DecodedList, decodeProtobufList, decodeProtobufObject } from "./protobuf.ts";

const JSON_TYPE = "application/json";
const PROTOBUF_TYPE = "application/vnd.kubernetes.protobuf";
/** An object is at most a few MiB in etcd; a longer frame is garbage that must not fill the memory. */
const MAX_FRAME_BYTES = 64 << 20;

const FRAME_TYPES = ["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"] as const;

/** One event of a watch; `object` is in its JSON shape whatever the wire had. */
export interface WatchFrame {
  readonly type: (typeof FRAME_TYPES)[number];
  readonly object: JsonObject;
}

export function acceptHeader(resource: ApiResource, isWatch: boolean): string {
  if (!resource.hasProtobuf) return JSON_TYPE;
  return isWatch ? `${PROTOBUF_TYPE};stream=watch, ${JSON_TYPE}` : `${PROTOBUF_TYPE}, ${JSON_TYPE}`;
}

export function isProtobuf(contentType: string | undefined): boolean {
  return contentType?.startsWith(PROTOBUF_TYPE) === true;
}

/** One object or Status, its large integers kept. Throws SyntaxError or RangeError for bytes that are not that. */
export function decodeObject(body: Buffer, contentType: string | undefined): JsonObject {
  return isProtobuf(contentType) ? decodeProtobufObject(body) : objectOf(parseLosslessJson(body.toString("utf8")));
}

export function decodeList(body: Buffer, contentType: string | undefined): DecodedList {
  if (isProtobuf(contentType)) return decodeProtobufList(body);
  const list = objectOf(JSON.parse(body.toString("utf8")));
  const items: unknown = list["items"];
  const metadata = objectAt(list, "metadata");
  // A list without items is null in JSON made by Go; without metadata it is no list, and taking it for an empty one would delete everything.
  if (metadata === undefined || !(Array.isArray(items) || items === null || items === undefined) || stringAt(metadata, "resourceVersion") === undefined) {
    throw new SyntaxError(`the body is JSON but no list (kind ${JSON.stringify(list["kind"])})`);
  }
  return { items: items ?? [], resourceVersion: stringAt(metadata, "resourceVersion") ?? "", continueToken: stringAt(metadata, "continue") ?? "" };
}

function objectOf(value: unknown): JsonObject {
  const object = tryJsonObject(value);
  if (object === undefined) throw new SyntaxError("the body is JSON but no object");
  return object;
}

/** Cuts a watch's bytes into frames. */
export class WatchDecoder {
  readonly #next: (bytes: Buffer) => { readonly frame: WatchFrame; readonly length: number } | undefined;
  #rest: Buffer[] = [];
  #restBytes = 0;
  /** Bytes needed before another try can succeed, so that a large frame in small chunks is not joined anew for each. */
  #wantedBytes = 0;
  readonly #separator: number | undefined;

  constructor(contentType: string | undefined) {
    const binary = isProtobuf(contentType);
    this.#next = binary ? nextProtobufFrame : nextJsonFrame;
    this.#separator = binary ? undefined : 0x0a;
  }

  push(chunk: Buffer): WatchFrame[] {
    this.#rest.push(chunk);
    this.#restBytes += chunk.length;
    if (this.#restBytes > MAX_FRAME_BYTES) throw new RangeError(`a watch event is longer than ${MAX_FRAME_BYTES} bytes`);
    if (this.#separator === undefined ? this.#restBytes < this.#wantedBytes : !chunk.includes(this.#separator)) return [];
    let bytes = this.#rest.length === 1 ? chunk : Buffer.concat(this.#rest);
    const frames: WatchFrame[] = [];
    for (let found = this.#next(bytes); found !== undefined; found = this.#next(bytes)) {
      frames.push(found.frame);
      bytes = bytes.subarray(found.length);
    }
    this.#rest = bytes.length === 0 ? [] : [bytes];
    this.#restBytes = bytes.length;
    this.#wantedBytes = this.#separator === undefined && bytes.length >= 4 ? 4 + bytes.readUInt32BE(0) : 0;
    return frames;
  }
}

function nextJsonFrame(bytes: Buffer): { frame: WatchFrame; length: number } | undefined {
  const end = bytes.indexOf(0x0a);
  if (end < 0) return undefined;
  const event = tryJsonObject(JSON.parse(bytes.toString("utf8", 0, end)));
  return { frame: frameOf(stringAt(event, "type"), objectAt(event, "object")), length: end + 1 };
}

function nextProtobufFrame(bytes: Buffer): { frame: WatchFrame; length: number } | undefined {
  if (bytes.length < 4) return undefined;
  const length = 4 + bytes.readUInt32BE(0);
  if (length > MAX_FRAME_BYTES) throw new RangeError(`a watch event is longer than ${MAX_FRAME_BYTES} bytes`);
  if (bytes.length < length) return undefined;
  const event = WatchEvent.decode(bytes.subarray(4, length));
  return { frame: frameOf(event.type, event.object === undefined ? undefined : decodeProtobufObject(event.object.raw)), length };
}

function frameOf(type: string | undefined, object: JsonObject | undefined): WatchFrame {
  const known = FRAME_TYPES.find((one) => one === type);
  if (known === undefined || object === undefined)
    throw new SyntaxError(`not a watch event: type ${JSON.stringify(type)}, object ${object === undefined ? "missing" : "present"}`);
  return { type: known, object };
}
