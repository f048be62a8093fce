/**
 * A transaction as one nfnetlink batch.
 *
 * Invariant: all messages of a batch lie in one buffer for one send(2), between BATCH_BEGIN and BATCH_END, so the kernel
 * commits all or nothing; each message's sequence number leads back to the operation that it came from. Element lists are
 * cut into several messages because a netlink nest holds 64 KiB.
 */
import { type ElementShape, mergeElements } from "../../plan/nft/intervals.ts";
import type { NftChain, NftElement, NftFamily, NftOperation, NftSet, NftTable, NftTransaction } from "../../plan/nft/ruleset.ts";
import { type ByteRange, isHostOrder, keyRanges, type NftValueType, valueBytes, valueRange } from "../../plan/nft/values.ts";
import { align4 } from "../netlink/attributes.ts";
import { MessageWriter, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST } from "../netlink/message.ts";
import { encodeExpression, encodeValue, encodeVerdict } from "./expression.ts";
import { type AnonymousSet, lowerRule } from "./lower.ts";
import {
  NF_HOOK,
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFNL_SUBSYS_NFTABLES,
  NFPROTO,
  NFT_BYTE_ORDER,
  NFT_CONCAT_TYPE_BITS,
  NFT_DATA_VERDICT,
  NFT_DATATYPE,
  NFT_MSG,
  NFT_SET_ELEM_INTERVAL_END,
  NFT_SET_FLAG,
  NFT_UDATA,
  NFTA_CHAIN,
  NFTA_HOOK,
  NFTA_LIST_ELEM,
  NFTA_RULE,
  NFTA_SET,
  NFTA_SET_DESC,
  NFTA_SET_ELEM,
  NFTA_SET_ELEM_LIST,
  NFTA_SET_FIELD_LEN,
  NFTA_TABLE,
  nftMessageType,
  VERDICT_CODE,
} from "./protocol.ts";

/** Leaves room for one more element below the 64 KiB of a nest. */
const MAX_LIST_BYTES = 60_000;
const MAX_COMMENT_BYTES = 128;

export type EncodedMessage = {
  /** Index into the transaction's operations. */
  readonly operation: number;
  /** Where the message starts in the batch. */
  readonly offset: number;
};

export type EncodedBatch = {
  readonly bytes: Buffer;
  /** Sequence number of BATCH_BEGIN; `messages[i]` has the number `firstSequence + 1 + i`. */
  readonly firstSequence: number;
  readonly messages: readonly EncodedMessage[];
};

/** Throws RangeError or TypeError for a value that cannot be expressed, naming it. The last operation asks for an acknowledgement. */
export function encodeTransaction({ operations }: NftTransaction, firstSequence: number): EncodedBatch {
  const encoder = new BatchEncoder(firstSequence);
  for (const [index, operation] of operations.entries()) encoder.operation(index, operation);
  return encoder.finish();
}

type MessageStart = { readonly message: number; readonly flags?: number; readonly family: NftFamily };

class BatchEncoder {
  readonly #writer = new MessageWriter(64 * 1024);
  readonly #firstSequence: number;
  readonly #messages: EncodedMessage[] = [];
  #operation = 0;
  #lastSetId = 0;

  constructor(firstSequence: number) {
    this.#firstSequence = firstSequence;
    this.#batchMarker(NFNL_MSG_BATCH_BEGIN, firstSequence);
  }

  finish(): EncodedBatch {
    const last = this.#messages.at(-1);
    const end = this.#firstSequence + 1 + this.#messages.length;
    this.#batchMarker(NFNL_MSG_BATCH_END, end);
    const bytes = this.#writer.bytes();
    // The kernel's positive answer to the last operation proves that the whole batch was taken.
    if (last !== undefined) bytes.writeUInt16LE(bytes.readUInt16LE(last.offset + 6) | NLM_F_ACK, last.offset + 6);
    return { bytes, firstSequence: this.#firstSequence, messages: this.#messages };
  }

  operation(index: number, operation: NftOperation): void {
    this.#operation = index;
    const { table } = operation;
    const writer = this.#writer;
    switch (operation.kind) {
      case "add-table":
        this.#begin({ message: NFT_MSG.newTable, flags: NLM_F_CREATE, family: table.family });
        writer.string(NFTA_TABLE.name, table.name);
        return writer.end();
      case "delete-table":
        this.#begin({ message: NFT_MSG.delTable, family: table.family });
        writer.string(NFTA_TABLE.name, table.name);
        return writer.end();
      case "flush-table":
        this.#begin({ message: NFT_MSG.delRule, family: table.family });
        writer.string(NFTA_RULE.table, table.name);
        return writer.end();
      case "add-chain":
        return this.#addChain(table, operation.chain);
      case "delete-chain":
        this.#begin({ message: NFT_MSG.delChain, family: table.family });
        writer.string(NFTA_CHAIN.table, table.name);
        writer.string(NFTA_CHAIN.name, operation.chain);
        return writer.end();
      case "flush-chain":
        this.#begin({ message: NFT_MSG.delRule, family: table.family });
        writer.string(NFTA_RULE.table, table.name);
        writer.string(NFTA_RULE.chain, operation.chain);
        return writer.end();
      case "add-rule":
        return this.#addRule(operation);
      case "delete-rule":
        this.#begin({ message: NFT_MSG.delRule, family: table.family });
        writer.string(NFTA_RULE.table, table.name);
        writer.string(NFTA_RULE.chain, operation.chain);
        writer.u64Be(NFTA_RULE.handle, operation.handle);
        return writer.end();
      case "add-set":
        return this.#addSet(table, operation.set);
      case "delete-set":
        this.#begin({ message: NFT_MSG.delSet, family: table.family });
        writer.string(NFTA_SET.table, table.name);
        writer.string(NFTA_SET.name, operation.set);
        return writer.end();
      case "flush-set":
        this.#begin({ message: NFT_MSG.delSetElem, family: table.family });
        writer.string(NFTA_SET_ELEM_LIST.table, table.name);
        writer.string(NFTA_SET_ELEM_LIST.set, operation.set);
        return writer.end();
      case "add-elements":
        return this.#elements(
          { message: NFT_MSG.newSetElem, flags: NLM_F_CREATE | (operation.exclusive === true ? NLM_F_EXCL : 0), family: table.family },
          { table: table.name, set: operation.set, elements: operation.elements },
        );
      case "delete-elements":
        return this.#elements({ message: NFT_MSG.delSetElem, family: table.family }, { table: table.name, set: operation.set, elements: operation.elements });
    }
  }

  #batchMarker(type: number, sequence: number): void {
    this.#writer.begin({ type, flags: NLM_F_REQUEST, sequence });
    this.#writer.header([NFPROTO.unspec, 0, 0, NFNL_SUBSYS_NFTABLES]);
    this.#writer.end();
  }

  #begin({ message, flags = 0, family }: MessageStart): void {
    this.#messages.push({ operation: this.#operation, offset: this.#writer.length });
    this.#writer.begin({
      type: nftMessageType(message),
      flags: NLM_F_REQUEST | flags,
      sequence: this.#firstSequence + this.#messages.length,
    });
    this.#writer.header([NFPROTO[family], 0, 0, 0]);
  }

  #addChain(table: NftTable, { name, base, comment }: NftChain): void {
    const writer = this.#writer;
    this.#begin({ message: NFT_MSG.newChain, flags: NLM_F_CREATE, family: table.family });
    writer.string(NFTA_CHAIN.table, table.name);
    writer.string(NFTA_CHAIN.name, name);
    if (base !== undefined) {
      const hook = writer.beginNest(NFTA_CHAIN.hook);
      writer.u32Be(NFTA_HOOK.number, table.family === "netdev" ? 0 : NF_HOOK[base.hook]);
      writer.u32Be(NFTA_HOOK.priority, base.priority);
      if (base.device !== undefined) writer.string(NFTA_HOOK.device, base.device);
      writer.endNest(hook);
      writer.u32Be(NFTA_CHAIN.policy, VERDICT_CODE[base.policy]);
      writer.string(NFTA_CHAIN.type, base.type);
    }
    if (comment !== undefined) writer.raw(NFTA_CHAIN.userdata, commentData(NFT_UDATA.comment, comment));
    writer.end();
  }

  #addRule({ table, chain, rule }: Extract<NftOperation, { readonly kind: "add-rule" }>): void {
    const { expressions, anonymousSets } = lowerRule(table.family, rule);
    // The rule's own ids count from 1; the batch's go on from those already given.
    const idOffset = this.#lastSetId;
    for (const anonymous of anonymousSets) this.#addAnonymousSet(table, anonymous);
    const writer = this.#writer;
    this.#begin({ message: NFT_MSG.newRule, flags: NLM_F_CREATE | NLM_F_APPEND, family: table.family });
    writer.string(NFTA_RULE.table, table.name);
    writer.string(NFTA_RULE.chain, chain);
    const list = writer.beginNest(NFTA_RULE.expressions);
    for (const expression of expressions) {
      const isAnonymous = expression.name === "lookup" && expression.setId !== undefined;
      encodeExpression(writer, isAnonymous ? { ...expression, setId: idOffset + (expression.setId ?? 0) } : expression);
    }
    writer.endNest(list);
    if (rule.comment !== undefined) writer.raw(NFTA_RULE.userdata, commentData(NFT_UDATA.comment, rule.comment));
    writer.end();
  }

  #addSet(table: NftTable, set: NftSet): void {
    this.#setHeader(table, {
      name: set.name,
      key: set.key,
      intervals: set.intervals === true,
      flags: (set.data === undefined ? 0 : NFT_SET_FLAG.map) | (set.timeouts === true ? NFT_SET_FLAG.timeout : 0),
      data: set.data,
      comment: set.comment,
    });
  }

  #addAnonymousSet(table: NftTable, { shape, elements }: AnonymousSet): void {
    const name = "__set%d";
    this.#setHeader(table, {
      name,
      key: shape.key,
      intervals: shape.intervals === true,
      flags: NFT_SET_FLAG.anonymous | NFT_SET_FLAG.constant,
      size: shape.intervals === true ? undefined : elements.length,
    });
    this.#elements(
      { message: NFT_MSG.newSetElem, flags: NLM_F_CREATE, family: table.family },
      { table: table.name, set: { ...shape, name }, setId: this.#lastSetId, elements },
    );
  }

  #setHeader(
    table: NftTable,
    set: {
      readonly name: string;
      readonly key: readonly NftValueType[];
      readonly intervals: boolean;
      readonly flags: number;
      readonly data?: NftSet["data"];
      readonly size?: number | undefined;
      readonly comment?: string | undefined;
    },
  ): void {
    // Without intervals the kernel hashes the key whole and refuses to hear of its fields.
    const isConcatenation = set.intervals && set.key.length > 1;
    if (set.intervals && set.key.some(isHostOrder)) throw new TypeError(`set ${set.name}: intervals of ${set.key.join(" . ")} have no order in the kernel`);
    const writer = this.#writer;
    this.#lastSetId += 1;
    this.#begin({ message: NFT_MSG.newSet, flags: NLM_F_CREATE, family: table.family });
    writer.string(NFTA_SET.table, table.name);
    writer.string(NFTA_SET.name, set.name);
    writer.u32Be(NFTA_SET.flags, set.flags | (set.intervals ? NFT_SET_FLAG.interval : 0) | (isConcatenation ? NFT_SET_FLAG.concat : 0));
    writer.u32Be(NFTA_SET.keyType, concatenatedType(set.key));
    writer.u32Be(NFTA_SET.keyLength, keyBytes(set.key));
    if (set.data === "verdict") {
      writer.u32Be(NFTA_SET.dataType, NFT_DATA_VERDICT);
    } else if (set.data !== undefined) {
      writer.u32Be(NFTA_SET.dataType, NFT_DATATYPE[set.data]);
      writer.u32Be(NFTA_SET.dataLength, valueBytes(set.data));
    }
    if (isConcatenation || set.size !== undefined) {
      const description = writer.beginNest(NFTA_SET.description);
      if (set.size !== undefined) writer.u32Be(NFTA_SET_DESC.size, set.size);
      if (isConcatenation) {
        const fields = writer.beginNest(NFTA_SET_DESC.concat);
        for (const type of set.key) {
          const field = writer.beginNest(NFTA_LIST_ELEM);
          writer.u32Be(NFTA_SET_FIELD_LEN, valueBytes(type));
          writer.endNest(field);
        }
        writer.endNest(fields);
      }
      writer.endNest(description);
    }
    writer.u32Be(NFTA_SET.id, this.#lastSetId);
    writer.raw(NFTA_SET.userdata, setUserdata(set));
    writer.end();
  }

  #elements(
    start: MessageStart,
    content: {
      readonly table: string;
      readonly set: ElementShape & { readonly data?: NftSet["data"] };
      readonly setId?: number;
      readonly elements: readonly NftElement[];
    },
  ): void {
    const { set } = content;
    const writer = this.#writer;
    const isDeletion = start.message === NFT_MSG.delSetElem;
    const elements = set.intervals === true ? mergeElements(set, content.elements) : content.elements;
    let next = 0;
    // An empty list would flush the set: no elements, no message.
    while (next < elements.length) {
      this.#begin(start);
      writer.string(NFTA_SET_ELEM_LIST.table, content.table);
      writer.string(NFTA_SET_ELEM_LIST.set, set.name);
      if (content.setId !== undefined) writer.u32Be(NFTA_SET_ELEM_LIST.setId, content.setId);
      const list = writer.beginNest(NFTA_SET_ELEM_LIST.elements);
      while (next < elements.length && writer.length - list < MAX_LIST_BYTES) {
        const element = elements[next];
        if (element !== undefined) encodeElement(writer, set, isDeletion ? { key: element.key } : element, isDeletion);
        next += 1;
      }
      writer.endNest(list);
      writer.end();
    }
  }
}

function encodeElement(writer: MessageWriter, set: ElementShape & { readonly data?: NftSet["data"] }, element: NftElement, isDeletion: boolean): void {
  const ranges = keyRanges(set.key, element.key);
  const isConcatenation = set.key.length > 1;
  const nest = writer.beginNest(NFTA_LIST_ELEM);
  encodeValue(writer, NFTA_SET_ELEM.key, concatenate(ranges, "from"));
  if (set.intervals === true && isConcatenation) encodeValue(writer, NFTA_SET_ELEM.keyEnd, concatenate(ranges, "to"));
  if (!isDeletion) encodeElementData(writer, set, element);
  if (element.timeoutMs !== undefined) writer.u64Be(NFTA_SET_ELEM.timeout, BigInt(element.timeoutMs));
  if (element.comment !== undefined) writer.raw(NFTA_SET_ELEM.userdata, commentData(NFT_UDATA.comment, element.comment));
  writer.endNest(nest);
  const only = ranges[0];
  if (set.intervals !== true || isConcatenation || only === undefined) return;
  const end = successor(only.to);
  if (end === undefined) return; // up to the last value: open at the end
  const endNest = writer.beginNest(NFTA_LIST_ELEM);
  encodeValue(writer, NFTA_SET_ELEM.key, end);
  writer.u32Be(NFTA_SET_ELEM.flags, NFT_SET_ELEM_INTERVAL_END);
  writer.endNest(endNest);
}

function encodeElementData(writer: MessageWriter, set: { readonly name: string; readonly data?: NftSet["data"] }, { key, data }: NftElement): void {
  if (set.data === undefined && data === undefined) return;
  if (set.data === undefined || data === undefined || (set.data === "verdict") === (typeof data === "string")) {
    throw new TypeError(`element ${key} of ${set.name}: its data does not fit the set, which is declared for ${set.data ?? "no data"}`);
  }
  if (typeof data !== "string") return encodeVerdict(writer, NFTA_SET_ELEM.data, data);
  if (set.data !== "verdict") encodeValue(writer, NFTA_SET_ELEM.data, valueRange(set.data, data).from);
}

function concatenate(ranges: readonly ByteRange[], end: "from" | "to"): Uint8Array {
  const [only] = ranges;
  if (only !== undefined && ranges.length === 1) return only[end];
  const bytes = new Uint8Array(ranges.reduce((sum, range) => sum + align4(range.from.length), 0));
  let at = 0;
  for (const range of ranges) {
    bytes.set(range[end], at);
    at += align4(range.from.length);
  }
  return bytes;
}

/** The next value, undefined after the last. */
function successor(bytes: Uint8Array): Uint8Array | undefined {
  const next = Uint8Array.from(bytes);
  for (let index = next.length - 1; index >= 0; index -= 1) {
    const byte = next[index] ?? 0;
    next[index] = (byte + 1) & 0xff;
    if (byte !== 0xff) return next;
  }
  return undefined;
}

function concatenatedType(key: readonly NftValueType[]): number {
  return key.reduce((type, field) => (type << NFT_CONCAT_TYPE_BITS) | NFT_DATATYPE[field], 0);
}

function keyBytes(key: readonly NftValueType[]): number {
  const [only] = key;
  if (only !== undefined && key.length === 1) return valueBytes(only);
  return key.reduce((sum, field) => sum + align4(valueBytes(field)), 0);
}

function setUserdata({
  key,
  data,
  comment,
}: {
  readonly key: readonly NftValueType[];
  readonly data?: NftSet["data"];
  readonly comment?: string | undefined;
}): Uint8Array {
  const [only] = key;
  const parts = [Buffer.from(numberData(NFT_UDATA.setKeyByteOrder, key.length === 1 && only !== undefined ? byteOrder(only) : NFT_BYTE_ORDER.big))];
  if (data !== undefined && data !== "verdict") parts.push(Buffer.from(numberData(NFT_UDATA.setDataByteOrder, byteOrder(data))));
  if (comment !== undefined) parts.push(Buffer.from(commentData(NFT_UDATA.setComment, comment)));
  return Buffer.concat(parts);
}

function byteOrder(type: NftValueType): number {
  return isHostOrder(type) || type === "ifname" ? NFT_BYTE_ORDER.host : NFT_BYTE_ORDER.big;
}

function numberData(type: number, value: number): Uint8Array {
  return Uint8Array.of(type, 4, value, 0, 0, 0);
}

function commentData(type: number, comment: string): Uint8Array {
  const text = Buffer.from(`${comment}\0`, "utf8");
  if (text.length > MAX_COMMENT_BYTES) throw new RangeError(`comment ${JSON.stringify(comment)} is longer than ${MAX_COMMENT_BYTES - 1} bytes`);
  return Buffer.concat([Uint8Array.of(type, text.length), text]);
}
