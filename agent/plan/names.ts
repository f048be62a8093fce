/**
 * Names of our kernel objects: those of the records that they come from, so that `nft list table inet sedge` reads as the cluster does.
 *
 * nft's names are letters, digits and "/-_.", 255 bytes at most. A record key that does not fit keeps its readable beginning, which holds kind and
 * namespace, and ends in a hash: two keys can only meet within one namespace.
 */
import type { Policy, RecordKey, SetType } from "../../src/model/record.ts";
import type { IpVersion } from "../../src/net/ip.ts";
import type { NftTable } from "./nft/ruleset.ts";

/** The one table that is ours, whole. */
export const TABLE: NftTable = { family: "inet", name: "sedge" };

export type Direction = "ingress" | "egress";

export const FROM_ENDPOINT_MAP = "from-endpoint";
export const TO_ENDPOINT_MAP = "to-endpoint";
/** Interfaces whose pods have limits. */
export const LIMIT_FROM_MAP = "limit-from";
export const LIMIT_TO_MAP = "limit-to";
export const INTERFACES_SET = "interfaces";
export const allowedSet = (version: IpVersion): string => `allowed-v${version}`;
export const poolsSet = (version: IpVersion): string => `pools-v${version}`;
/** Floating addresses to the pods' own. */
export const floatingMap = (version: IpVersion): string => `floating-v${version}`;
/** A pod's address twice to its floating address: what it sends to itself. */
export const floatingHairpinMap = (version: IpVersion): string => `floating-hairpin-v${version}`;
export const natPoolsSet = (version: IpVersion): string => `nat-pools-v${version}`;

const READABLE_LENGTH = 160;

/** "stack/3fa9/egress", "policy/KubernetesNetworkPolicy/shop/allow-web/ingress", and with a variant's suffix ".../ingress/logged". */
export function chainName(key: RecordKey, direction: Direction, suffix = ""): string {
  return `${safeName(key)}/${direction}${suffix}`;
}

/** Chain of one rule of a policy in one family, where it looks into large sets; `narrowedTo`: of a rule that is several, the protocol of this one. */
export function ruleChainName(policyChain: string, rule: number, narrowedTo: string | undefined, version: IpVersion): string {
  return `${policyChain}/rule-${rule}${narrowedTo === undefined ? "" : `-${narrowedTo}`}/v${version}`;
}

/** Chain of one tier of a stack, where the tier has policies that pass; `index` "profiles" for its profiles. */
export function tierChainName(stack: RecordKey, direction: Direction, suffix: string, index: number | "profiles"): string {
  return `${chainName(stack, direction, suffix)}/${index === "profiles" ? index : `tier-${index}`}`;
}

/** A comment as nft keeps it: 127 bytes at most; no quotes, which nft cannot write. */
export function commentText(text: string): string {
  return plainText(text, 127);
}

/** What a log line begins with: 127 bytes at most, a colon and a blank at its end. */
export function logPrefixText(text: string): string {
  return `${plainText(text, 125)}: `;
}

/** Calico's default, whose users look for it in their logs. */
export const DEFAULT_LOG_PREFIX = "calico-packet";

/**
 * The prefix of a policy's Log rules, with Calico's placeholders filled in: %t tier, %k kind, %n name, %p the policy with its namespace ("shop/web"). Any other
 * % stays as it is.
 */
export function expandLogPrefix(template: string, { policyKind, namespace, name, tier }: Pick<Policy, "policyKind" | "namespace" | "name" | "tier">): string {
  const values: Readonly<Record<string, string>> = { t: tier, k: policyKind, n: name, p: namespace === "" ? name : `${namespace}/${name}` };
  return template.replaceAll(/%([tknp])/g, (_whole, letter: string) => values[letter] ?? "");
}

function plainText(text: string, length: number): string {
  const clean = text.replaceAll(/[^ -~]|"/g, "_");
  return clean.length <= length ? clean : `${clean.slice(0, length - 3)}...`;
}

const SET_WORDS: Readonly<Record<SetType, string>> = { address: "set", prefix: "nets", "address-port": "ports" };

/**
 * The type is part of the name: a set cannot change its type, and one of the new type takes its place instead. `length`: of the prefixes of this length alone,
 * "nets/s.3fa9/v4/24".
 */
export function setName(id: string, type: SetType, version: IpVersion, length?: number): string {
  return `${SET_WORDS[type]}/${safeSetId(id)}/v${version}${length === undefined ? "" : `/${length}`}`;
}

/** What kernel set of which set's addresses or prefixes a name stands for, the set's id as `safeSetId` makes it; undefined: of none. */
export function addressSetOf(name: string): { readonly set: string; readonly version: IpVersion; readonly length: number | undefined } | undefined {
  const [, set, version, length] = /^(?:set|nets)\/(.+?)\/v([46])(?:\/(\d+))?$/.exec(name) ?? [];
  if (set === undefined) return undefined;
  return { set, version: version === "4" ? 4 : 6, length: length === undefined ? undefined : Number(length) };
}

/** A set's id as it is in the names of its kernel sets. */
export function safeSetId(id: string): string {
  // Set ids are "<letter>:<base64url>": never a dot.
  return safeName(id.includes(".") ? id : id.replaceAll(":", "."));
}

function safeName(text: string): string {
  if (text.length <= READABLE_LENGTH && /^[A-Za-z0-9/_.-]+$/.test(text)) return text;
  return `${text.slice(0, READABLE_LENGTH).replaceAll(/[^A-Za-z0-9/_.-]/g, "_")}.${hash(text, 0x811c9dc5)}${hash(text, 0x9747b28c)}`;
}

/** FNV-1a over UTF-16 units, mixed by MurmurHash3's finaliser; 8 hexadecimal digits. */
function hash(text: string, seed: number): string {
  let value = seed;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return ((value ^ (value >>> 16)) >>> 0).toString(16).padStart(8, "0");
}
