/**
 * Reading one table back from the kernel.
 *
 * Invariant: what is returned was true at one instant: the ruleset's generation is the same before the first and after the
 * last dump, or everything is read anew. Other tables are never looked at beyond their name.
 */
import type { NftBaseChain, NftChain, NftDataType, NftElement, NftHook, NftSet, NftTable, NftVerdict } from "../../plan/nft/ruleset.ts";
import { type ByteRange, compareBytes, keyFromRanges, type NftValueType, valueBytes } from "../../plan/nft/values.ts";
import { Attributes, align4, listAttributes } from "../netlink/attributes.ts";
import { isNetlinkError, NetlinkError } from "../netlink/error.ts";
import { errnoNumber } from "../netlink/libc.ts";
import type { NetlinkMessage } from "../netlink/message.ts";
import type { MessageBody, NetlinkSocket } from "../netlink/socket.ts";
import { decodeExpressions, decodeVerdict, type NftExpression } from "./expression.ts";
import { type AnonymousSet, expressionsFingerprint } from "./lower.ts";
import {
  NF_HOOK,
  NFPROTO,
  NFT_CONCAT_TYPE_BITS,
  NFT_DATA_VERDICT,
  NFT_DATATYPE,
  NFT_MSG,
  NFT_SET_ELEM_INTERVAL_END,
  NFT_SET_FLAG,
  NFT_UDATA,
  NFTA_CHAIN,
  NFTA_DATA,
  NFTA_GEN_ID,
  NFTA_HOOK,
  NFTA_RULE,
  NFTA_SET,
  NFTA_SET_ELEM,
  NFTA_SET_ELEM_LIST,
  NFTA_TABLE,
  nftMessageType,
  VERDICT_CODE,
} from "./protocol.ts";
import type { NftRuleState, NftTableState } from "./state.ts";

/** Bytes of struct nfgenmsg before the attributes. */
const NFGENMSG = 4;
const READ_ATTEMPTS = 16;
const FIRST_FIELD_MASK = (1 << NFT_CONCAT_TYPE_BITS) - 1;

type Shape = {
  readonly name: string;
  readonly key: readonly NftValueType[];
  readonly intervals: boolean;
  readonly data: NftSet["data"];
  readonly isAnonymous: boolean;
};

export function readGeneration(socket: NetlinkSocket): number {
  const [reply] = socket.request({ type: nftMessageType(NFT_MSG.getGen), subject: { operation: "read", object: "ruleset generation" } }, (writer) =>
    writer.header([0, 0, 0, 0]),
  );
  return reply === undefined ? 0 : (attributesOf(reply).u32Be(NFTA_GEN_ID) ?? 0);
}

/** Undefined when there is no such table. Throws NetlinkError EAGAIN when others keep changing the ruleset meanwhile. */
export function readTable(socket: NetlinkSocket, table: NftTable): NftTableState | undefined {
  for (let attempt = 1; attempt <= READ_ATTEMPTS; attempt += 1) {
    const generation = readGeneration(socket);
    const state = tryReadTable(socket, table, generation);
    if (state !== "changed" && readGeneration(socket) === generation) return state;
  }
  throw new NetlinkError({ ...subjectOf(table), errno: errnoNumber("EAGAIN"), reason: `the ruleset changed during each of ${READ_ATTEMPTS} readings` });
}

function tryReadTable(socket: NetlinkSocket, table: NftTable, generation: number): NftTableState | "changed" | undefined {
  try {
    if (!tableExists(socket, table)) return undefined;
    const unknownSets: string[] = [];
    const sets = new Map<string, { set: NftSet; elements: NftElement[] }>();
    const anonymous = new Map<string, AnonymousSet>();
    for (const { name, set, shape } of readSets(socket, table)) {
      if (shape === undefined) {
        unknownSets.push(name);
        continue;
      }
      const elements = readElements(socket, table, shape);
      if (shape.isAnonymous) anonymous.set(name, { shape, elements });
      else if (set !== undefined) sets.set(name, { set, elements });
    }
    return { table, generation, chains: readChains(socket, table, anonymous), sets, unknownSets };
  } catch (error) {
    // An object that went between two dumps: read again from the start.
    if (isNetlinkError(error, "ENOENT")) return "changed";
    throw error;
  }
}

function subjectOf(table: NftTable): { readonly operation: string; readonly object: string } {
  return { operation: "read", object: `table ${table.family} ${table.name}` };
}

function attributesOf(message: NetlinkMessage): Attributes {
  return new Attributes(message.payload.subarray(NFGENMSG));
}

function tableExists(socket: NetlinkSocket, table: NftTable): boolean {
  try {
    socket.request({ type: nftMessageType(NFT_MSG.getTable), subject: subjectOf(table) }, (writer) => {
      writer.header([NFPROTO[table.family], 0, 0, 0]);
      writer.string(NFTA_TABLE.name, table.name);
    });
    return true;
  } catch (error) {
    if (isNetlinkError(error, "ENOENT")) return false;
    throw error;
  }
}

function dump(socket: NetlinkSocket, table: NftTable, message: number, body?: MessageBody): Attributes[] {
  const messages = socket.dump({ type: nftMessageType(message), subject: subjectOf(table) }, (writer) => {
    writer.header([NFPROTO[table.family], 0, 0, 0]);
    body?.(writer);
  });
  return messages.map(attributesOf);
}

function readChains(socket: NetlinkSocket, table: NftTable, anonymous: ReadonlyMap<string, AnonymousSet>): NftTableState["chains"] {
  const chains = new Map<string, { chain: NftChain; rules: NftRuleState[] }>();
  for (const attributes of dump(socket, table, NFT_MSG.getChain)) {
    const name = attributes.string(NFTA_CHAIN.name);
    if (attributes.string(NFTA_CHAIN.table) !== table.name || name === undefined) continue;
    const base = decodeBase(table, attributes);
    const comment = findComment(attributes.raw(NFTA_CHAIN.userdata), NFT_UDATA.comment);
    chains.set(name, { chain: { name, ...(base === undefined ? {} : { base }), ...(comment === undefined ? {} : { comment }) }, rules: [] });
  }
  for (const attributes of dump(socket, table, NFT_MSG.getRule, (writer) => writer.string(NFTA_RULE.table, table.name))) {
    if (attributes.string(NFTA_RULE.table) !== table.name) continue;
    const rules = chains.get(attributes.string(NFTA_RULE.chain) ?? "")?.rules;
    rules?.push(decodeRule(attributes, anonymous));
  }
  return chains;
}

function decodeBase(table: NftTable, attributes: Attributes): NftBaseChain | undefined {
  const hook = attributes.nested(NFTA_CHAIN.hook);
  const type = attributes.string(NFTA_CHAIN.type);
  if (hook === undefined || (type !== "filter" && type !== "nat" && type !== "route")) return undefined;
  const number = hook.u32Be(NFTA_HOOK.number) ?? 0;
  const device = hook.string(NFTA_HOOK.device);
  return {
    type,
    hook: table.family === "netdev" ? "ingress" : hookName(number),
    priority: (hook.u32Be(NFTA_HOOK.priority) ?? 0) | 0,
    policy: attributes.u32Be(NFTA_CHAIN.policy) === VERDICT_CODE.drop ? "drop" : "accept",
    ...(device === undefined ? {} : { device }),
  };
}

function hookName(number: number): NftHook {
  for (const [name, value] of Object.entries(NF_HOOK)) if (value === number) return name as NftHook;
  throw new RangeError(`the kernel names hook ${number}, which has no meaning here`);
}

function decodeRule(attributes: Attributes, anonymous: ReadonlyMap<string, AnonymousSet>): NftRuleState {
  const list = attributes.raw(NFTA_RULE.expressions);
  const expressions: NftExpression[] = list === undefined ? [] : decodeExpressions(list);
  return {
    handle: attributes.u64Be(NFTA_RULE.handle) ?? 0n,
    comment: findComment(attributes.raw(NFTA_RULE.userdata), NFT_UDATA.comment),
    fingerprint: expressionsFingerprint(expressions, (_, name) => anonymous.get(name)),
  };
}

function readSets(socket: NetlinkSocket, table: NftTable): { readonly name: string; readonly set?: NftSet; readonly shape?: Shape }[] {
  const found: { name: string; set?: NftSet; shape?: Shape }[] = [];
  for (const attributes of dump(socket, table, NFT_MSG.getSet, (writer) => writer.string(NFTA_SET.table, table.name))) {
    const name = attributes.string(NFTA_SET.name);
    if (attributes.string(NFTA_SET.table) !== table.name || name === undefined) continue;
    const shape = decodeShape(name, attributes);
    if (shape === undefined) {
      found.push({ name });
      continue;
    }
    const flags = attributes.u32Be(NFTA_SET.flags) ?? 0;
    const comment = findComment(attributes.raw(NFTA_SET.userdata), NFT_UDATA.setComment);
    const key = shape.key.filter(isDataType);
    if (key.length !== shape.key.length && !shape.isAnonymous) {
      found.push({ name });
      continue;
    }
    const set: NftSet = {
      name,
      key,
      ...(shape.data === undefined ? {} : { data: shape.data }),
      ...(shape.intervals ? { intervals: true } : {}),
      ...((flags & NFT_SET_FLAG.timeout) === 0 ? {} : { timeouts: true }),
      ...(comment === undefined ? {} : { comment }),
    };
    found.push({ name, set, shape });
  }
  return found;
}

const TYPE_OF_NUMBER = new Map<number, NftValueType>(Object.entries(NFT_DATATYPE).map(([type, number]) => [number, type as NftValueType]));
const DATA_TYPES: ReadonlySet<NftValueType> = new Set<NftDataType>([
  "ipv4_addr",
  "ipv6_addr",
  "inet_proto",
  "inet_service",
  "ifname",
  "mark",
  "ether_addr",
  "icmp_type",
  "icmpv6_type",
]);

function isDataType(type: NftValueType): type is NftDataType {
  return DATA_TYPES.has(type);
}

function decodeShape(name: string, attributes: Attributes): Shape | undefined {
  const key: NftValueType[] = [];
  for (let rest = attributes.u32Be(NFTA_SET.keyType) ?? 0; rest !== 0; rest >>>= NFT_CONCAT_TYPE_BITS) {
    const type = TYPE_OF_NUMBER.get(rest & FIRST_FIELD_MASK);
    if (type === undefined) return undefined;
    key.unshift(type);
  }
  const flags = attributes.u32Be(NFTA_SET.flags) ?? 0;
  const dataNumber = (flags & NFT_SET_FLAG.map) === 0 ? undefined : attributes.u32Be(NFTA_SET.dataType);
  const dataType = dataNumber === undefined || dataNumber === NFT_DATA_VERDICT ? undefined : TYPE_OF_NUMBER.get(dataNumber);
  if (key.length === 0 || (dataNumber !== undefined && dataNumber !== NFT_DATA_VERDICT && (dataType === undefined || !isDataType(dataType)))) return undefined;
  return {
    name,
    key,
    intervals: (flags & NFT_SET_FLAG.interval) !== 0,
    data: dataNumber === NFT_DATA_VERDICT ? "verdict" : dataType !== undefined && isDataType(dataType) ? dataType : undefined,
    isAnonymous: (flags & NFT_SET_FLAG.anonymous) !== 0,
  };
}

type RawElement = { readonly from: Buffer; readonly to: Buffer; readonly isEnd: boolean; readonly attributes: Attributes };

function readElements(socket: NetlinkSocket, table: NftTable, shape: Shape): NftElement[] {
  const raw: RawElement[] = [];
  const replies = dump(socket, table, NFT_MSG.getSetElem, (writer) => {
    writer.string(NFTA_SET_ELEM_LIST.table, table.name);
    writer.string(NFTA_SET_ELEM_LIST.set, shape.name);
  });
  for (const reply of replies) {
    const list = reply.raw(NFTA_SET_ELEM_LIST.elements);
    if (list === undefined) continue;
    for (const { value } of listAttributes(list)) {
      const attributes = new Attributes(value);
      const from = attributes.nested(NFTA_SET_ELEM.key)?.raw(NFTA_DATA.value);
      if (from === undefined) continue;
      const to = attributes.nested(NFTA_SET_ELEM.keyEnd)?.raw(NFTA_DATA.value) ?? from;
      raw.push({ from, to, isEnd: ((attributes.u32Be(NFTA_SET_ELEM.flags) ?? 0) & NFT_SET_ELEM_INTERVAL_END) !== 0, attributes });
    }
  }
  // At equal keys the end of one interval comes before the start of the next. Keys as bytes sort as sortElements would.
  raw.sort((a, b) => compareBytes(a.from, b.from) || Number(b.isEnd) - Number(a.isEnd));
  const closed = shape.intervals && shape.key.length === 1 ? closeIntervals(raw) : raw;
  return closed.map(({ from, to, attributes }) => decodeElement(shape, splitKey(shape.key, from, to), attributes));
}

/** Start elements reach to before the next end; without one, to the last value. */
function closeIntervals(sorted: readonly RawElement[]): RawElement[] {
  const closed: RawElement[] = [];
  let start: RawElement | undefined;
  for (const element of sorted) {
    if (start !== undefined) closed.push({ ...start, to: predecessor(element.from) });
    start = element.isEnd ? undefined : element;
  }
  if (start !== undefined) closed.push({ ...start, to: Buffer.alloc(start.from.length, 0xff) });
  return closed;
}

function predecessor(bytes: Buffer): Buffer {
  const previous = Buffer.from(bytes);
  for (let index = previous.length - 1; index >= 0; index -= 1) {
    const byte = previous[index] ?? 0;
    previous[index] = (byte - 1) & 0xff;
    if (byte !== 0) break;
  }
  return previous;
}

function splitKey(types: readonly NftValueType[], from: Buffer, to: Buffer): ByteRange[] {
  let at = 0;
  return types.map((type) => {
    const bytes = valueBytes(type);
    const range = { from: from.subarray(at, at + bytes), to: to.subarray(at, at + bytes) };
    at += align4(bytes);
    return range;
  });
}

function decodeElement(shape: Shape, ranges: readonly ByteRange[], attributes: Attributes): NftElement {
  const data = decodeElementData(shape, attributes.nested(NFTA_SET_ELEM.data));
  const timeout = attributes.u64Be(NFTA_SET_ELEM.timeout);
  const comment = findComment(attributes.raw(NFTA_SET_ELEM.userdata), NFT_UDATA.comment);
  return {
    key: keyFromRanges(shape.key, ranges),
    ...(data === undefined ? {} : { data }),
    ...(timeout === undefined ? {} : { timeoutMs: Number(timeout) }),
    ...(comment === undefined ? {} : { comment }),
  };
}

function decodeElementData({ data: type }: Shape, data: Attributes | undefined): NftVerdict | string | undefined {
  if (data === undefined || type === undefined) return undefined;
  if (type === "verdict") return decodeVerdict(data);
  const value = data.raw(NFTA_DATA.value);
  return value === undefined ? undefined : keyFromRanges([type], [{ from: value, to: value }]);
}

/** The comment in nft's user data: type, length, zero-terminated text. */
function findComment(userdata: Buffer | undefined, type: number): string | undefined {
  if (userdata === undefined) return undefined;
  for (let at = 0; at + 2 <= userdata.length; ) {
    const length = userdata[at + 1] ?? 0;
    if (userdata[at] === type) return userdata.toString("utf8", at + 2, at + 1 + length);
    at += 2 + length;
  }
  return undefined;
}
