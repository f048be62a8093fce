/**
 * Reads an Ack that only tells progress, without making an object of it: it comes from every agent after every commit, and decoding it by the generated code
 * costs as much as sending the commit.
 *
 * Invariant: what is read here means the same to the generated decoder; whatever is not plainly such a message is left to that one.
 */

const ACK_TAG = 0x12;
const RECEIVED_TAG = 0x08;
const PROGRAMMED_TAG = 0x10;
const HELD_TAG = 0x20;
const PROGRAMMED_HELD_TAG = 0x28;
/** Message of one byte of length: four tags and four varints have 44 bytes at most. */
const MAX_LENGTH = 0x7f;
const MAX_VARINT_BYTES = 7;
const MAX_UINT32 = 0xffff_ffff;

export class AckReader {
  /** Of the last message for which `read` was true. */
  received = 0;
  programmed = 0;
  /** Ack.held_us; -1: not told. */
  heldUs = -1;
  /** Ack.programmed_held_us; -1: not told. */
  programmedHeldUs = -1;
  #at = 0;

  /** True: an AgentMessage that is an Ack without failures, its revisions (below 2^49) are in `received` and `programmed`. */
  read(bytes: Uint8Array): boolean {
    const length = bytes[1] ?? MAX_LENGTH + 1;
    if (bytes[0] !== ACK_TAG || length > MAX_LENGTH || bytes.length !== length + 2) return false;
    this.#at = 2;
    const received = this.#field(bytes, RECEIVED_TAG);
    const programmed = this.#field(bytes, PROGRAMMED_TAG);
    const isHeldTold = bytes[this.#at] === HELD_TAG;
    const held = this.#field(bytes, HELD_TAG);
    const isProgrammedHeldTold = bytes[this.#at] === PROGRAMMED_HELD_TAG;
    const programmedHeld = this.#field(bytes, PROGRAMMED_HELD_TAG);
    if (this.#at !== bytes.length || received < 0 || programmed < 0 || held < 0 || held > MAX_UINT32) return false;
    if (programmedHeld < 0 || programmedHeld > MAX_UINT32) return false;
    this.received = received;
    this.programmed = programmed;
    this.heldUs = isHeldTold ? held : -1;
    this.programmedHeldUs = isProgrammedHeldTold ? programmedHeld : -1;
    return true;
  }

  /** 0 when the field is absent, as in every proto3 message; -1 when it cannot be read here. */
  #field(bytes: Uint8Array, tag: number): number {
    if (bytes[this.#at] !== tag) return 0;
    let value = 0;
    let factor = 1;
    for (let i = 1; i <= MAX_VARINT_BYTES; i++) {
      const byte = bytes[this.#at + i];
      if (byte === undefined) return -1;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) {
        this.#at += i + 1;
        return value;
      }
      factor *= 0x80;
    }
    return -1;
  }
}
