/**
 * One record stream's way past the stream, the connection and the output, for messages that go to thousands: what a delivery touches is this object and the
 * kernel's socket, where else it is eight objects, each in memory that was not looked at since the last change.
 *
 * Invariants: it is open only while nothing else waits on the connection, and holds a part of both windows then; whoever else writes or counts settles it first
 * (`settle`), which gives back what was not used and closes it. It opens by itself with the next message when nothing stands against that. Its descriptor is
 * forgotten in the moment in which the socket gives it up, before it can be another's.
 */
import type { Lane, LaneResult } from "../delivery.ts";
import type { SendTo } from "./direct-send.ts";
import { HEADER_BYTES } from "./frames.ts";
import { PREFIX_BYTES } from "./message-reader.ts";
import { MAX_SHARED_BYTES } from "./shared-frames.ts";

export interface LaneHost {
  readonly sendTo: SendTo;
  /** The message in one frame of the stream, the same for all that ask for it one after the other. */
  framed(message: Uint8Array): Buffer;
  /** What may be sent now, and the descriptor; undefined: something else has to go first. */
  openLane(): { readonly descriptor: number; readonly bytes: number } | undefined;
  /** DATA that the lane has sent. */
  spentByLane(bytes: number): void;
  /** What the system did not take of a frame. */
  keepOfLane(bytes: Uint8Array): void;
}

const NONE = -1;

export class DirectLane implements Lane {
  readonly #host: LaneHost;
  readonly #sendTo: SendTo;
  #descriptor = NONE;
  #granted = 0;
  #left = 0;

  constructor(host: LaneHost) {
    this.#host = host;
    this.#sendTo = host.sendTo;
  }

  offer(message: Uint8Array): LaneResult {
    if (message.length > MAX_SHARED_BYTES - PREFIX_BYTES) return "refused";
    const framed = this.#host.framed(message);
    const bytes = framed.length - HEADER_BYTES;
    if (bytes > this.#left && !this.#open(bytes)) return "refused";
    const sent = this.#sendTo(this.#descriptor, framed);
    if (sent === 0) {
      this.settle();
      return "refused";
    }
    this.#left -= bytes;
    if (sent === framed.length) return "taken";
    this.settle();
    this.#host.keepOfLane(framed.subarray(sent));
    return "partly";
  }

  /** Closes it, when it is open. */
  settle(): void {
    if (this.#granted === 0) return;
    const spent = this.#granted - this.#left;
    this.#granted = 0;
    this.#left = 0;
    this.#descriptor = NONE;
    if (spent > 0) this.#host.spentByLane(spent);
  }

  #open(bytes: number): boolean {
    this.settle();
    const open = this.#host.openLane();
    if (open === undefined || open.bytes < bytes) return false;
    this.#descriptor = open.descriptor;
    this.#granted = open.bytes;
    this.#left = open.bytes;
    return true;
  }
}
