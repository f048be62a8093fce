/**
 * nf_tables expressions: the kernel's instructions, of which a rule is a list.
 *
 * Encoded for a rule that is sent, decoded for one that is read back. Invariant: `expressionText(decode(encode(x)))` is
 * `expressionText(x)`; the text leaves out what the kernel changes by itself (counter values), so that two lists with the
 * same texts do the same. An expression that this file does not know decodes to "unknown" and equals none of ours.
 */

import type { NftVerdict } from "../../plan/nft/ruleset.ts";
import { Attributes, decodeString, listAttributes } from "../netlink/attributes.ts";
import type { MessageWriter } from "../netlink/message.ts";
import { NFTA_DATA, NFTA_EXPR, NFTA_LIST_ELEM, NFTA_VERDICT, VERDICT_CODE } from "./protocol.ts";

export type NftExpression =
  | { readonly name: "meta"; readonly key: number; readonly register: number }
  | { readonly name: "meta-set"; readonly key: number; readonly register: number }
  | { readonly name: "ct"; readonly key: number; readonly register: number }
  | { readonly name: "ct-set"; readonly key: number; readonly register: number }
  | { readonly name: "payload"; readonly base: number; readonly offset: number; readonly length: number; readonly register: number }
  | {
      readonly name: "payload-set";
      readonly base: number;
      readonly offset: number;
      readonly length: number;
      readonly register: number;
      /** 1: the Internet checksum at the offset is brought up to date; 0: there is none. */
      readonly checksum: { readonly type: number; readonly offset: number };
    }
  | { readonly name: "connlimit"; readonly count: number; readonly isOver: boolean }
  | { readonly name: "fib"; readonly result: number; readonly flags: number; readonly register: number }
  | { readonly name: "cmp"; readonly op: number; readonly register: number; readonly value: Uint8Array }
  | { readonly name: "range"; readonly op: number; readonly register: number; readonly from: Uint8Array; readonly to: Uint8Array }
  | { readonly name: "bitwise"; readonly register: number; readonly mask: Uint8Array; readonly xor: Uint8Array }
  | {
      readonly name: "lookup";
      readonly register: number;
      readonly set: string;
      /** Id of an anonymous set made in the same batch. */
      readonly setId?: number;
      readonly isInverted: boolean;
      readonly isVerdictMap: boolean;
      /** Of a map of values: where the value goes. */
      readonly valueRegister?: number;
    }
  | { readonly name: "verdict"; readonly verdict: NftVerdict }
  | { readonly name: "value"; readonly register: number; readonly value: Uint8Array }
  | { readonly name: "counter" }
  | { readonly name: "notrack" }
  | { readonly name: "log"; readonly prefix: string; readonly group: number | undefined; readonly snaplen: number }
  | { readonly name: "limit"; readonly rate: bigint; readonly unitSeconds: bigint; readonly burst: number; readonly isOver: boolean }
  | { readonly name: "reject"; readonly type: number; readonly code: number }
  | { readonly name: "masq"; readonly flags: number }
  /** The address alone, from a register. */
  | { readonly name: "nat"; readonly type: number; readonly protocol: number; readonly register: number }
  | { readonly name: "unknown"; readonly kernelName: string };

export const CMP = { eq: 0, neq: 1, lt: 2, lte: 3, gt: 4, gte: 5 } as const;
export const PAYLOAD_BASE = { link: 0, network: 1, transport: 2 } as const;
export const META_KEY = { protocol: 1, mark: 3, iifname: 6, oifname: 7, iiftype: 8, nfproto: 15, l4proto: 16, pkttype: 19 } as const;
export const CT_KEY = { state: 0, direction: 1, status: 2, mark: 3 } as const;
export const FIB_RESULT = { oif: 1, addrtype: 3 } as const;
export const FIB_FLAG = { saddr: 1, daddr: 2, mark: 4, iif: 8, present: 32 } as const;

/** Register of a 4-byte slot, in the numbering that the kernel itself uses when it lists (nft_dump_register). */
export function registerOf(slot: number): number {
  return slot % 4 === 0 ? 1 + slot / 4 : 8 + slot;
}

const META = { dreg: 1, key: 2, sreg: 3 } as const;
const CT = { dreg: 1, key: 2, sreg: 4 } as const;
const PAYLOAD = { dreg: 1, base: 2, offset: 3, length: 4, sreg: 5, checksumType: 6, checksumOffset: 7, checksumFlags: 8 } as const;
const CONNLIMIT = { count: 1, flags: 2 } as const;
const CONNLIMIT_OVER = 1;
const FIB = { dreg: 1, result: 2, flags: 3 } as const;
const COMPARE = { sreg: 1, op: 2, data: 3 } as const;
const RANGE = { sreg: 1, op: 2, from: 3, to: 4 } as const;
const BITWISE = { sreg: 1, dreg: 2, length: 3, mask: 4, xor: 5 } as const;
const LOOKUP = { set: 1, sreg: 2, dreg: 3, setId: 4, flags: 5 } as const;
const LOOKUP_INVERTED = 1;
const IMMEDIATE = { dreg: 1, data: 2 } as const;
const LOG = { group: 1, prefix: 2, snaplen: 3, level: 5 } as const;
const LOG_LEVEL_WARNING = 4;
const LIMIT = { rate: 1, unit: 2, burst: 3, type: 4, flags: 5 } as const;
const REJECT = { type: 1, code: 2 } as const;
const MASQ_FLAGS = 1;
const NAT = { type: 1, family: 2, addressMin: 3, addressMax: 4, portMin: 5, portMax: 6, flags: 7 } as const;
/** NF_NAT_RANGE_MAP_IPS: the kernel sets it by itself where there is an address. */
const NAT_MAPS_ADDRESS = 1;

/** Append one element of a rule's list of expressions. */
export function encodeExpression(writer: MessageWriter, expression: NftExpression): void {
  const element = writer.beginNest(NFTA_LIST_ELEM);
  writer.string(NFTA_EXPR.name, kernelName(expression));
  if (expression.name !== "notrack") {
    const data = writer.beginNest(NFTA_EXPR.data);
    encodeData(writer, expression);
    writer.endNest(data);
  }
  writer.endNest(element);
}

export function encodeVerdict(writer: MessageWriter, type: number, verdict: NftVerdict): void {
  const data = writer.beginNest(type);
  const nest = writer.beginNest(NFTA_DATA.verdict);
  writer.u32Be(NFTA_VERDICT.code, VERDICT_CODE[verdict.kind]);
  if (verdict.kind === "jump" || verdict.kind === "goto") writer.string(NFTA_VERDICT.chain, verdict.chain);
  writer.endNest(nest);
  writer.endNest(data);
}

export function encodeValue(writer: MessageWriter, type: number, value: Uint8Array): void {
  const data = writer.beginNest(type);
  writer.raw(NFTA_DATA.value, value);
  writer.endNest(data);
}

/** A verdict as read back; undefined for a code that this file does not know. */
export function decodeVerdict(data: Attributes): NftVerdict | undefined {
  const verdict = data.nested(NFTA_DATA.verdict);
  const code = verdict?.u32Be(NFTA_VERDICT.code);
  if (verdict === undefined || code === undefined) return undefined;
  const chain = verdict.string(NFTA_VERDICT.chain);
  switch (code | 0) {
    case VERDICT_CODE.accept:
      return { kind: "accept" };
    case VERDICT_CODE.drop:
      return { kind: "drop" };
    case VERDICT_CODE.continue:
      return { kind: "continue" };
    case VERDICT_CODE.return:
      return { kind: "return" };
    case VERDICT_CODE.jump:
      return chain === undefined ? undefined : { kind: "jump", chain };
    case VERDICT_CODE.goto:
      return chain === undefined ? undefined : { kind: "goto", chain };
    default:
      return undefined;
  }
}

/** All expressions of a rule's NFTA_RULE_EXPRESSIONS. */
export function decodeExpressions(list: Buffer): NftExpression[] {
  return listAttributes(list).map(({ value }) => {
    const element = new Attributes(value);
    const name = element.string(NFTA_EXPR.name) ?? "";
    return decodeData(name, element.nested(NFTA_EXPR.data)) ?? { name: "unknown", kernelName: name };
  });
}

/** Everything that decides what an expression does; equal texts, equal effect. `setText` names an anonymous set by its content. */
export function expressionText(expression: NftExpression, setText: (set: string, setId: number | undefined) => string): string {
  switch (expression.name) {
    case "meta":
    case "meta-set":
    case "ct":
    case "ct-set":
      return `${expression.name} ${expression.key} r${expression.register}`;
    case "payload":
      return `payload ${expression.base}+${expression.offset} ${expression.length}b r${expression.register}`;
    case "payload-set": {
      const { base, offset, length, register, checksum } = expression;
      return `payload-set ${base}+${offset} ${length}b r${register} checksum ${checksum.type}@${checksum.offset}`;
    }
    case "connlimit":
      return `connlimit ${expression.isOver ? "over " : ""}${expression.count}`;
    case "fib":
      return `fib ${expression.result} flags ${expression.flags} r${expression.register}`;
    case "cmp":
      return `cmp ${expression.op} r${expression.register} ${hex(expression.value)}`;
    case "range":
      return `range ${expression.op} r${expression.register} ${hex(expression.from)}-${hex(expression.to)}`;
    case "bitwise":
      return `bitwise r${expression.register} & ${hex(expression.mask)} ^ ${hex(expression.xor)}`;
    case "lookup":
      return `${expression.isVerdictMap ? "vmap" : "lookup"}${expression.isInverted ? " !" : ""} r${expression.register} ${setText(expression.set, expression.setId)}${
        expression.valueRegister === undefined ? "" : ` to r${expression.valueRegister}`
      }`;
    case "verdict":
      return "chain" in expression.verdict ? `${expression.verdict.kind} ${expression.verdict.chain}` : expression.verdict.kind;
    case "value":
      return `value r${expression.register} ${hex(expression.value)}`;
    case "counter":
    case "notrack":
      return expression.name;
    case "log":
      return `log ${JSON.stringify(expression.prefix)} group ${expression.group ?? "none"} snaplen ${expression.snaplen}`;
    case "limit":
      return `limit ${expression.isOver ? "over " : ""}${expression.rate}/${expression.unitSeconds}s burst ${expression.burst}`;
    case "reject":
      return `reject ${expression.type} ${expression.code}`;
    case "masq":
      return `masq ${expression.flags}`;
    case "nat":
      return `nat ${expression.type} family ${expression.protocol} r${expression.register}`;
    case "unknown":
      return `unknown ${expression.kernelName}`;
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function kernelName(expression: NftExpression): string {
  switch (expression.name) {
    case "meta-set":
      return "meta";
    case "ct-set":
      return "ct";
    case "payload-set":
      return "payload";
    case "verdict":
    case "value":
      return "immediate";
    case "unknown":
      throw new TypeError(`the expression ${expression.kernelName} was read from the kernel and cannot be sent`);
    default:
      return expression.name;
  }
}

function encodeData(writer: MessageWriter, expression: NftExpression): void {
  switch (expression.name) {
    case "meta":
      writer.u32Be(META.key, expression.key);
      writer.u32Be(META.dreg, expression.register);
      return;
    case "meta-set":
      writer.u32Be(META.key, expression.key);
      writer.u32Be(META.sreg, expression.register);
      return;
    case "ct":
      writer.u32Be(CT.key, expression.key);
      writer.u32Be(CT.dreg, expression.register);
      return;
    case "ct-set":
      writer.u32Be(CT.key, expression.key);
      writer.u32Be(CT.sreg, expression.register);
      return;
    case "payload":
      writer.u32Be(PAYLOAD.dreg, expression.register);
      writer.u32Be(PAYLOAD.base, expression.base);
      writer.u32Be(PAYLOAD.offset, expression.offset);
      writer.u32Be(PAYLOAD.length, expression.length);
      return;
    case "payload-set":
      writer.u32Be(PAYLOAD.sreg, expression.register);
      writer.u32Be(PAYLOAD.base, expression.base);
      writer.u32Be(PAYLOAD.offset, expression.offset);
      writer.u32Be(PAYLOAD.length, expression.length);
      writer.u32Be(PAYLOAD.checksumType, expression.checksum.type);
      writer.u32Be(PAYLOAD.checksumOffset, expression.checksum.offset);
      writer.u32Be(PAYLOAD.checksumFlags, 0);
      return;
    case "connlimit":
      writer.u32Be(CONNLIMIT.count, expression.count);
      writer.u32Be(CONNLIMIT.flags, expression.isOver ? CONNLIMIT_OVER : 0);
      return;
    case "fib":
      writer.u32Be(FIB.dreg, expression.register);
      writer.u32Be(FIB.result, expression.result);
      writer.u32Be(FIB.flags, expression.flags);
      return;
    case "cmp":
      writer.u32Be(COMPARE.sreg, expression.register);
      writer.u32Be(COMPARE.op, expression.op);
      encodeValue(writer, COMPARE.data, expression.value);
      return;
    case "range":
      writer.u32Be(RANGE.sreg, expression.register);
      writer.u32Be(RANGE.op, expression.op);
      encodeValue(writer, RANGE.from, expression.from);
      encodeValue(writer, RANGE.to, expression.to);
      return;
    case "bitwise":
      writer.u32Be(BITWISE.sreg, expression.register);
      writer.u32Be(BITWISE.dreg, expression.register);
      writer.u32Be(BITWISE.length, expression.mask.length);
      encodeValue(writer, BITWISE.mask, expression.mask);
      encodeValue(writer, BITWISE.xor, expression.xor);
      return;
    case "lookup":
      writer.string(LOOKUP.set, expression.set);
      writer.u32Be(LOOKUP.sreg, expression.register);
      if (expression.isVerdictMap) writer.u32Be(LOOKUP.dreg, 0);
      else if (expression.valueRegister !== undefined) writer.u32Be(LOOKUP.dreg, expression.valueRegister);
      if (expression.setId !== undefined) writer.u32Be(LOOKUP.setId, expression.setId);
      if (expression.isInverted) writer.u32Be(LOOKUP.flags, LOOKUP_INVERTED);
      return;
    case "verdict":
      writer.u32Be(IMMEDIATE.dreg, 0);
      encodeVerdict(writer, IMMEDIATE.data, expression.verdict);
      return;
    case "value":
      writer.u32Be(IMMEDIATE.dreg, expression.register);
      encodeValue(writer, IMMEDIATE.data, expression.value);
      return;
    case "log":
      if (expression.prefix !== "") writer.string(LOG.prefix, expression.prefix);
      if (expression.group === undefined) {
        writer.u32Be(LOG.level, LOG_LEVEL_WARNING);
        return;
      }
      writer.u16Be(LOG.group, expression.group);
      if (expression.snaplen !== 0) writer.u32Be(LOG.snaplen, expression.snaplen);
      return;
    case "limit":
      writer.u64Be(LIMIT.rate, expression.rate);
      writer.u64Be(LIMIT.unit, expression.unitSeconds);
      writer.u32Be(LIMIT.burst, expression.burst);
      writer.u32Be(LIMIT.type, 0);
      writer.u32Be(LIMIT.flags, expression.isOver ? 1 : 0);
      return;
    case "reject":
      writer.u32Be(REJECT.type, expression.type);
      writer.u8(REJECT.code, expression.code);
      return;
    case "masq":
      if (expression.flags !== 0) writer.u32Be(MASQ_FLAGS, expression.flags);
      return;
    case "nat":
      writer.u32Be(NAT.type, expression.type);
      writer.u32Be(NAT.family, expression.protocol);
      writer.u32Be(NAT.addressMin, expression.register);
      return;
    case "counter":
    case "notrack":
    case "unknown":
      return;
  }
}

/** Undefined: not one of ours, or with attributes that ours never have. */
function decodeData(name: string, data: Attributes | undefined): NftExpression | undefined {
  if (name === "notrack") return { name };
  if (data === undefined) return undefined;
  const number = (type: number): number => data.u32Be(type) ?? 0;
  switch (name) {
    case "meta":
      return data.has(META.sreg)
        ? { name: "meta-set", key: number(META.key), register: number(META.sreg) }
        : { name, key: number(META.key), register: number(META.dreg) };
    case "ct":
      return data.has(CT.sreg) ? { name: "ct-set", key: number(CT.key), register: number(CT.sreg) } : { name, key: number(CT.key), register: number(CT.dreg) };
    case "payload":
      if (data.has(PAYLOAD.sreg) && number(PAYLOAD.checksumFlags) === 0)
        return {
          name: "payload-set",
          base: number(PAYLOAD.base),
          offset: number(PAYLOAD.offset),
          length: number(PAYLOAD.length),
          register: number(PAYLOAD.sreg),
          checksum: { type: number(PAYLOAD.checksumType), offset: number(PAYLOAD.checksumOffset) },
        };
      if (!data.has(PAYLOAD.dreg)) return undefined;
      return {
        name,
        base: number(PAYLOAD.base),
        offset: number(PAYLOAD.offset),
        length: number(PAYLOAD.length),
        register: number(PAYLOAD.dreg),
      };
    case "connlimit":
      return { name, count: number(CONNLIMIT.count), isOver: (number(CONNLIMIT.flags) & CONNLIMIT_OVER) !== 0 };
    case "fib":
      return { name, result: number(FIB.result), flags: number(FIB.flags), register: number(FIB.dreg) };
    case "cmp":
      return { name, op: number(COMPARE.op), register: number(COMPARE.sreg), value: dataValue(data, COMPARE.data) };
    case "range":
      return { name, op: number(RANGE.op), register: number(RANGE.sreg), from: dataValue(data, RANGE.from), to: dataValue(data, RANGE.to) };
    case "bitwise":
      if (number(BITWISE.sreg) !== number(BITWISE.dreg) || !data.has(BITWISE.mask)) return undefined;
      return { name, register: number(BITWISE.sreg), mask: dataValue(data, BITWISE.mask), xor: dataValue(data, BITWISE.xor) };
    case "lookup": {
      // Register 0 is the verdict.
      const valueRegister = number(LOOKUP.dreg);
      return {
        name,
        register: number(LOOKUP.sreg),
        set: data.string(LOOKUP.set) ?? "",
        isInverted: (number(LOOKUP.flags) & LOOKUP_INVERTED) !== 0,
        isVerdictMap: data.has(LOOKUP.dreg) && valueRegister === 0,
        ...(valueRegister === 0 ? {} : { valueRegister }),
      };
    }
    case "immediate": {
      const content = data.nested(IMMEDIATE.data);
      if (content === undefined) return undefined;
      if (!content.has(NFTA_DATA.verdict)) return { name: "value", register: number(IMMEDIATE.dreg), value: content.raw(NFTA_DATA.value) ?? Buffer.alloc(0) };
      const verdict = decodeVerdict(content);
      return verdict === undefined ? undefined : { name: "verdict", verdict };
    }
    case "counter":
      return { name };
    case "log": {
      const prefix = data.raw(LOG.prefix);
      return { name, prefix: prefix === undefined ? "" : decodeString(prefix), group: data.u16Be(LOG.group), snaplen: number(LOG.snaplen) };
    }
    case "limit":
      if (number(LIMIT.type) !== 0) return undefined;
      return {
        name,
        rate: data.u64Be(LIMIT.rate) ?? 0n,
        unitSeconds: data.u64Be(LIMIT.unit) ?? 0n,
        burst: number(LIMIT.burst),
        isOver: (number(LIMIT.flags) & 1) !== 0,
      };
    case "reject":
      return { name, type: number(REJECT.type), code: data.u8(REJECT.code) ?? 0 };
    case "masq":
      return { name, flags: number(MASQ_FLAGS) };
    case "nat": {
      const register = number(NAT.addressMin);
      const isPlain = !data.has(NAT.portMin) && number(NAT.addressMax) === register && (number(NAT.flags) & ~NAT_MAPS_ADDRESS) === 0;
      return isPlain ? { name, type: number(NAT.type), protocol: number(NAT.family), register } : undefined;
    }
    default:
      return undefined;
  }
}

function dataValue(data: Attributes, type: number): Buffer {
  return data.nested(type)?.raw(NFTA_DATA.value) ?? Buffer.alloc(0);
}
