/**
 * The nftables model as text, in the words and layout of `nft --stateless list table` (nft 1.0.6).
 *
 * For golden files and for people. `nft -f` accepts it; fed back through the kernel it lists as itself, apart from how nft
 * breaks lines between elements (here: one a line, so that a diff shows one member) and their order (here: sorted by
 * address). Names in rules that nft would derive (protocol dependencies) are not repeated, as nft does not list them.
 */
import { assertNever } from "../../../src/model/event.ts";
import { ipFromBytes } from "../../../src/net/ip.ts";
import { anonymousSet, sortElements } from "./intervals.ts";
import type {
  NftAction,
  NftBaseChain,
  NftElement,
  NftField,
  NftMatch,
  NftOperation,
  NftRule,
  NftRuleset,
  NftSet,
  NftStatement,
  NftTable,
  NftTransaction,
  NftVerdict,
} from "./ruleset.ts";
import { FIELD_TYPES, isFlags, isMasked, keyText, prefixMask, valueText } from "./values.ts";

const FULL_MASK = 0xffff_ffff;
const ELEMENT_SEPARATOR = ",\n\t\t\t     ";

/** The whole table, ready for `nft -f`. */
export function nftText({ table, chains, sets }: NftRuleset): string {
  const blocks: string[] = [];
  for (const { set, elements } of sets.values()) blocks.push(setText(set, elements));
  for (const { chain, rules } of chains.values()) {
    const lines: string[] = [];
    if (chain.comment !== undefined) lines.push(`comment ${quoted(chain.comment)}`);
    if (chain.base !== undefined) lines.push(baseChainText(chain.base));
    for (const rule of rules) lines.push(ruleText(rule));
    blocks.push(`\tchain ${chain.name} {\n${lines.map((line) => `\t\t${line}\n`).join("")}\t}\n`);
  }
  return `table ${tableText(table)} {\n${blocks.join("\n")}}\n`;
}

/** A transaction as nft commands, one a line; `nft -f` carries them out in one commit. */
export function transactionText({ operations }: NftTransaction): string {
  return operations.map((operation) => `${operationText(operation)}\n`).join("");
}

/** One operation as an nft command; also how errors name it. */
export function operationText(operation: NftOperation): string {
  const table = tableText(operation.table);
  switch (operation.kind) {
    case "add-table":
      return `add table ${table}`;
    case "delete-table":
      return `delete table ${table}`;
    case "flush-table":
      return `flush table ${table}`;
    case "add-chain": {
      const { chain } = operation;
      const parts = [chain.base === undefined ? "" : baseChainText(chain.base), chain.comment === undefined ? "" : `comment ${quoted(chain.comment)};`];
      const body = parts.filter((part) => part !== "").join(" ");
      return `add chain ${table} ${chain.name}${body === "" ? "" : ` { ${body} }`}`;
    }
    case "delete-chain":
      return `delete chain ${table} ${operation.chain}`;
    case "flush-chain":
      return `flush chain ${table} ${operation.chain}`;
    case "add-rule":
      return `add rule ${table} ${operation.chain} ${ruleText(operation.rule)}`;
    case "delete-rule":
      return `delete rule ${table} ${operation.chain} handle ${operation.handle}`;
    case "add-set":
      return `add ${setWord(operation.set)} ${table} ${operation.set.name} { ${setBodyLines(operation.set).join("; ")}; }`;
    case "delete-set":
      return `delete set ${table} ${operation.set}`;
    case "flush-set":
      return `flush set ${table} ${operation.set}`;
    case "add-elements":
      return `${operation.exclusive === true ? "create" : "add"} element ${table} ${operation.set.name} ${elementListText(operation.set, operation.elements)}`;
    case "delete-elements":
      return `delete element ${table} ${operation.set.name} ${elementListText(operation.set, operation.elements.map(withoutData))}`;
    default:
      return assertNever(operation);
  }
}

/** One rule, without chain. */
export function ruleText(rule: NftRule): string {
  const parts = rule.statements.map(statementText);
  if (rule.comment !== undefined) parts.push(`comment ${quoted(rule.comment)}`);
  return parts.join(" ");
}

export function verdictText(verdict: NftVerdict): string {
  return verdict.kind === "jump" || verdict.kind === "goto" ? `${verdict.kind} ${verdict.chain}` : verdict.kind;
}

function tableText({ family, name }: NftTable): string {
  return `${family} ${name}`;
}

function baseChainText({ type, hook, priority, policy, device }: NftBaseChain): string {
  const on = device === undefined ? "" : ` device ${quoted(device)}`;
  return `type ${type} hook ${hook}${on} priority ${priorityText(priority, hook)}; policy ${policy};`;
}

/** nft names a priority after the standard one that is within ten of it (src/rule.c, prio2str). */
function priorityText(priority: number, hook: string): string {
  const names: readonly (readonly [string, number])[] = [
    ["raw", -300],
    ["mangle", -150],
    ...(hook === "prerouting" ? ([["dstnat", -100]] as const) : []),
    ["filter", 0],
    ["security", 50],
    ...(hook === "postrouting" ? ([["srcnat", 100]] as const) : []),
  ];
  for (const [name, value] of names) {
    const offset = priority - value;
    if (offset === 0) return name;
    if (Math.abs(offset) <= 10) return `${name} ${offset < 0 ? "-" : "+"} ${Math.abs(offset)}`;
  }
  return String(priority);
}

function setWord(set: NftSet): "set" | "map" {
  return set.data === undefined ? "set" : "map";
}

function setText(set: NftSet, elements: readonly NftElement[]): string {
  const lines = setBodyLines(set);
  if (elements.length > 0) {
    const sorted = sortElements(set, elements);
    lines.push(`elements = { ${sorted.map((element) => elementText(set, element)).join(ELEMENT_SEPARATOR)} }`);
  }
  return `\t${setWord(set)} ${set.name} {\n${lines.map((line) => `\t\t${line}\n`).join("")}\t}\n`;
}

function setBodyLines(set: NftSet): string[] {
  const lines = [`type ${set.key.join(" . ")}${set.data === undefined ? "" : ` : ${set.data}`}`];
  const flags = [...(set.intervals === true ? ["interval"] : []), ...(set.timeouts === true ? ["timeout"] : [])];
  if (flags.length > 0) lines.push(`flags ${flags.join(",")}`);
  if (set.comment !== undefined) lines.push(`comment ${quoted(set.comment)}`);
  return lines;
}

function elementListText(set: NftSet, elements: readonly NftElement[]): string {
  return `{ ${elements.map((element) => elementText(set, element)).join(", ")} }`;
}

function elementText(set: NftSet, element: NftElement): string {
  const parts = [keyText(set.key, element.key)];
  if (element.timeoutMs !== undefined) parts.push(`timeout ${durationText(element.timeoutMs)}`);
  if (element.comment !== undefined) parts.push(`comment ${quoted(element.comment)}`);
  if (element.data !== undefined) parts.push(`: ${elementDataText(set, element.data)}`);
  return parts.join(" ");
}

function elementDataText(set: NftSet, data: NftVerdict | string): string {
  if (typeof data !== "string") return verdictText(data);
  if (set.data === undefined || set.data === "verdict")
    throw new RangeError(`element of ${set.name} carries ${JSON.stringify(data)}, the set is declared for ${set.data ?? "no data"}`);
  return valueText(set.data, data);
}

function withoutData({ key }: NftElement): NftElement {
  return { key };
}

/** As nft: "1d2h3m4s5ms", no zero parts. */
function durationText(milliseconds: number): string {
  const units = [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["m", 60_000],
    ["s", 1_000],
    ["ms", 1],
  ] as const;
  let rest = milliseconds;
  let text = "";
  for (const [name, size] of units) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) text += `${count}${name}`;
  }
  return text === "" ? "0s" : text;
}

function statementText(statement: NftStatement): string {
  switch (statement.kind) {
    case "match":
    case "match-any":
    case "lookup":
    case "vmap":
      return matchText(statement);
    case "accept":
    case "drop":
    case "continue":
    case "return":
    case "jump":
    case "goto":
      return verdictText(statement);
    default:
      return actionText(statement);
  }
}

function matchText(match: NftMatch): string {
  switch (match.kind) {
    case "match": {
      const type = FIELD_TYPES[match.field];
      const value = valueText(type, match.value);
      const op = match.op ?? "==";
      if (match.mask !== undefined && match.mask >>> 0 !== FULL_MASK) return maskedText(match.field, match.mask >>> 0, op, value);
      if (op === "==") return `${match.field} ${value}`;
      return op === "!=" && isFlags(type) ? `${match.field} ! ${value}` : `${match.field} ${op} ${value}`;
    }
    case "match-any": {
      const type = FIELD_TYPES[match.field];
      if (isFlags(type)) throw new RangeError(`match-any on ${match.field}: use one match with comma-joined flags`);
      const values = anonymousSet(match).elements.map(({ key }) => valueText(type, key));
      return `${match.field} ${match.negate === true ? "!= " : ""}{ ${values.join(", ")} }`;
    }
    case "lookup":
      return `${fieldsText(match.fields)} ${prefixText(match)}${match.negate === true ? "!= " : ""}@${match.set}`;
    case "vmap":
      return `${fieldsText(match.fields)} vmap @${match.map}`;
    default:
      return assertNever(match);
  }
}

/** Before a set nft lists a mask as one, and the comparison with it. */
function prefixText(lookup: Extract<NftMatch, { readonly kind: "lookup" }>): string {
  const [field] = lookup.fields;
  if (field === undefined || !isMasked(lookup)) return "";
  return `& ${ipFromBytes(prefixMask(FIELD_TYPES[field], lookup.prefixLength))} ${lookup.negate === true ? "" : "== "}`;
}

/** nft lists a mask of leading ones as a prefix length. */
function maskedText(field: NftField, mask: number, op: string, value: string): string {
  const length = Math.clz32(~mask);
  const isPrefix = mask !== 0 && mask >>> 0 === (FULL_MASK << (32 - length)) >>> 0;
  if (!isPrefix) return `${field} & ${valueText("mark", mask)} ${op} ${value}`;
  return op === "==" ? `${field} ${value}/${length}` : `${field} ${op} ${value}/${length}`;
}

function fieldsText(fields: readonly NftField[]): string {
  return fields.join(" . ");
}

function actionText(action: NftAction): string {
  switch (action.kind) {
    case "counter":
    case "notrack":
      return action.kind;
    case "log": {
      const parts = ["log"];
      if (action.prefix !== undefined) parts.push(`prefix ${quoted(action.prefix)}`);
      if (action.group !== undefined) parts.push(`group ${action.group}`);
      if (action.snaplen !== undefined) parts.push(`snaplen ${action.snaplen}`);
      return parts.join(" ");
    }
    case "limit": {
      // nft leaves out its default burst.
      const burst = action.burst === 5 ? "" : ` burst ${action.burst} packets`;
      return `limit rate ${action.over === true ? "over " : ""}${action.rate}/${action.per}${burst}`;
    }
    case "ct-count-over":
      return `ct count over ${action.count}`;
    case "set-dscp":
      return `${action.version === 4 ? "ip" : "ip6"} dscp set ${dscpText(action.dscp)}`;
    case "set-mark":
      return `meta mark set ${markSetText(action.value, action.mask)}`;
    case "set-ct-mark":
      return `ct mark set ${action.value === "meta mark" ? action.value : valueText("mark", action.value)}`;
    case "restore-mark":
      return "meta mark set ct mark";
    case "masquerade":
      return action.fullyRandom === true ? "masquerade fully-random" : "masquerade";
    case "nat-map":
      return `${action.nat} ${action.version === 4 ? "ip" : "ip6"} to ${fieldsText(action.fields)} map @${action.map}`;
    case "reject":
      return action.reason === "icmpx port-unreachable" ? "reject" : `reject with ${action.reason}`;
    default:
      return assertNever(action);
  }
}

/** nft's names of code points (RFC 2474, 2597, 3246, 5865, 8622). */
function dscpText(dscp: number): string {
  if (dscp === 46) return "ef";
  if (dscp === 44) return "va";
  if (dscp === 1) return "lephb";
  if (dscp % 8 === 0) return `cs${dscp / 8}`;
  const [group, precedence] = [dscp >> 3, (dscp & 7) / 2];
  if (group >= 1 && group <= 4 && precedence >= 1 && precedence <= 3 && Number.isInteger(precedence)) return `af${group}${precedence}`;
  return `0x${dscp.toString(16).padStart(2, "0")}`;
}

/** nft's listing of (mark & ~mask) | value: bits that are set anyway do not show as cleared. */
function markSetText(value: number, mask: number | undefined): string {
  if (mask === undefined || mask >>> 0 === FULL_MASK) return valueText("mark", value >>> 0);
  const keep = (~mask | value) >>> 0;
  const and = keep === FULL_MASK ? "" : ` & ${valueText("mark", keep)}`;
  return `meta mark${and}${value === 0 ? "" : ` | ${valueText("mark", value >>> 0)}`}`;
}

function quoted(text: string): string {
  // nft's grammar has no escape for a quote or a line break inside a string.
  if (/["\n]/.test(text)) throw new RangeError(`nft strings cannot hold quotes or line breaks: ${JSON.stringify(text)}`);
  return `"${text}"`;
}
