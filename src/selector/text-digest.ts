/**
 * Digests of texts, for identities that must not be forgeable.
 *
 * A start computes one or two for each policy and stack, nearly all of texts shorter than 200 characters, so the hash's state and its buffers are kept:
 * making them anew would be most of the work. Nothing here waits, so no two computations are ever under way.
 */
import { sha224, sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";

const FRESH_256 = sha256.create();
const WORK_256 = sha256.create();
const FRESH_224 = sha224.create();
const WORK_224 = sha224.create();
const DIGEST = new Uint8Array(32);
const TEXT = new Uint8Array(512);

/** The first `bytes` of the text's SHA-256 (of its UTF-8), in hexadecimal. */
export function hexDigest(text: string, bytes: number): string {
  FRESH_256._cloneInto(WORK_256);
  WORK_256.update(utf8(text)).digestInto(DIGEST);
  return bytesToHex(DIGEST.subarray(0, bytes));
}

const DIGEST_224 = DIGEST.subarray(0, 28);

/** SHA-224 of the text's UTF-8. Overwritten by the next call. */
export function sha224Of(text: string): Uint8Array {
  FRESH_224._cloneInto(WORK_224);
  WORK_224.update(utf8(text)).digestInto(DIGEST_224);
  return DIGEST_224;
}

/** Overwritten by the next call. */
function utf8(text: string): Uint8Array {
  const { length } = text;
  if (length > TEXT.length) return utf8ToBytes(text);
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0x7f) return utf8ToBytes(text);
    TEXT[i] = code;
  }
  return TEXT.subarray(0, length);
}
