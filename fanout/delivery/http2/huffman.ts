/**
 * Huffman decoding of HPACK strings (RFC 7541 section 5.2 and appendix B).
 *
 * The code is canonical: symbols in the order of length, then value, get consecutive codes. So the table of lengths is all that there is to copy from the RFC.
 */

/** Length in bits of the code of each byte value, then of EOS (RFC 7541 appendix B). */
// biome-ignore format: a table of sixteen columns
export const CODE_LENGTHS: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
  28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
  5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
  6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
  24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
  21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
  26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  30,
];
const EOS = 256;
/** More padding than this is an error (RFC 7541 section 5.2). */
const MAX_PADDING_BITS = 7;
const SHORTEST_CODE_BITS = 5;

/** The code of each symbol, right aligned. */
export function huffmanCodes(): Uint32Array {
  const codes = new Uint32Array(CODE_LENGTHS.length);
  const order = [...CODE_LENGTHS.keys()].sort((a, b) => lengthOf(a) - lengthOf(b) || a - b);
  let code = 0;
  let length = lengthOf(order[0] ?? 0);
  for (const symbol of order) {
    code <<= lengthOf(symbol) - length;
    length = lengthOf(symbol);
    codes[symbol] = code++;
  }
  return codes;
}

const TREE = codeTree();

/** The bytes, or undefined: the padding is not what it must be, or EOS is in the string. */
export function tryDecodeHuffman(input: Uint8Array): Buffer | undefined {
  const output = Buffer.allocUnsafe(Math.floor((input.length * 8) / SHORTEST_CODE_BITS));
  let length = 0;
  let at = 0;
  /** Bits since the last symbol, and whether all of them were ones. */
  let pending = 0;
  let isOnes = true;
  for (const byte of input) {
    for (let shift = 7; shift >= 0; shift--) {
      const bit = (byte >> shift) & 1;
      const next = TREE[at * 2 + bit] ?? 0;
      pending++;
      isOnes &&= bit === 1;
      if (next > 0) at = next;
      else {
        const symbol = -next - 1;
        if (symbol === EOS) return undefined;
        output[length++] = symbol;
        at = 0;
        pending = 0;
        isOnes = true;
      }
    }
  }
  return pending > MAX_PADDING_BITS || !isOnes ? undefined : output.subarray(0, length);
}

/** Two entries a node: the next node when positive, else -(symbol + 1). */
function codeTree(): Int16Array {
  const tree = new Int16Array(CODE_LENGTHS.length * 2);
  const codes = huffmanCodes();
  let nodes = 1;
  for (const [symbol, length] of CODE_LENGTHS.entries()) {
    const code = codes[symbol] ?? 0;
    let at = 0;
    for (let shift = length - 1; shift > 0; shift--) {
      const slot = at * 2 + ((code >> shift) & 1);
      if (tree[slot] === 0) tree[slot] = nodes++;
      at = tree[slot] ?? 0;
    }
    tree[at * 2 + (code & 1)] = -symbol - 1;
  }
  return tree;
}

function lengthOf(symbol: number): number {
  return CODE_LENGTHS[symbol] ?? 0;
}
