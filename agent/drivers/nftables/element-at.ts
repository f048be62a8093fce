/** Which element of a message the kernel objects to, from the offset in its extended acknowledgement. */
import type { NftSet } from "../../plan/nft/ruleset.ts";
import { keyFromRanges, valueBytes } from "../../plan/nft/values.ts";
import { Attributes, align4, listAttributes } from "../netlink/attributes.ts";
import { NFTA_DATA, NFTA_SET_ELEM, NFTA_SET_ELEM_LIST } from "./protocol.ts";

/** struct nlmsghdr and struct nfgenmsg. */
const HEADERS = 20;

/** Undefined when the kernel gave no offset, or one outside the element list. */
export function elementKeyAt(batch: Buffer, messageAt: number, offset: number | undefined, set: NftSet): string | undefined {
  if (offset === undefined) return undefined;
  const message = batch.subarray(messageAt, messageAt + batch.readUInt32LE(messageAt));
  const list = new Attributes(message.subarray(HEADERS)).raw(NFTA_SET_ELEM_LIST.elements);
  if (list === undefined) return undefined;
  for (const { value } of listAttributes(list)) {
    const start = value.byteOffset - message.byteOffset - 4;
    if (offset < start || offset >= start + 4 + value.length) continue;
    const attributes = new Attributes(value);
    const from = attributes.nested(NFTA_SET_ELEM.key)?.raw(NFTA_DATA.value);
    const to = attributes.nested(NFTA_SET_ELEM.keyEnd)?.raw(NFTA_DATA.value) ?? from;
    if (from === undefined || to === undefined) return undefined;
    let at = 0;
    const ranges = set.key.map((type) => {
      const bytes = valueBytes(type);
      const range = { from: from.subarray(at, at + bytes), to: to.subarray(at, at + bytes) };
      at += align4(bytes);
      return range;
    });
    return keyFromRanges(set.key, ranges);
  }
  return undefined;
}
