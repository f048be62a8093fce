/**
 * Cuts a long list of policies into lists of some 64, each a record: a policy more or less is then a list of some 64 keys, and not all of them again.
 *
 * Invariant: the cuts follow from the policies alone. A list begins at a policy whose key hashes to it, and is named after that policy, so that neither
 * the others' lists nor their names change when a policy comes or goes. Rejected: lists of exactly 64 (one policy in front would move all cuts), and the
 * position as name (one list more would rename those behind it).
 */
import type { PolicyList, RecordKey } from "../model/record.ts";
import { hexDigest } from "../selector/text-digest.ts";

/** Shorter lists stay in the stack: most clusters never have a longer one. */
export const LONGEST_WHOLE_LIST = 256;
/** One policy in so many begins a list. */
const MEAN_LENGTH = 64;
/** 128 bits of SHA-256: names must not be forgeable, or one's author could take another list's place. */
const NAME_BYTES = 16;

/** Where a policy stands in cut lists. */
export interface ListPlace {
  readonly beginsList: boolean;
  /** Of the list that it begins; "" when it begins none. */
  readonly listName: string;
}

const NO_PLACE: ListPlace = { beginsList: false, listName: "" };

export function listPlace(key: RecordKey): ListPlace {
  return hash(key) % MEAN_LENGTH === 0 ? { beginsList: true, listName: nameOf(key) } : NO_PLACE;
}

export interface CutOptions {
  readonly stack: string;
  readonly direction: "ingress" | "egress";
  readonly tier: string;
  /** Takes each list. */
  readonly put: (list: PolicyList) => void;
}

/** What the tier is to name: the policies' keys, or those of the lists that `put` is given. */
export function cutPolicies(policies: readonly { readonly key: RecordKey; readonly place: ListPlace }[], options: CutOptions): readonly RecordKey[] {
  if (policies.length <= LONGEST_WHOLE_LIST) return policies.map(({ key }) => key);
  const { stack, direction, tier, put } = options;
  const keys: RecordKey[] = [];
  for (let start = 0; start < policies.length; ) {
    const name = start === 0 ? nameOf(`tier ${tier}`) : (policies[start]?.place.listName ?? "");
    let end = start + 1;
    while (end < policies.length && policies[end]?.place.beginsList === false) end++;
    const part = `${direction}-${name}`;
    put({ kind: "policy-list", stack, part, policies: policies.slice(start, end).map(({ key }) => key) });
    keys.push(`policies/${stack}/${part}`);
    start = end;
  }
  return keys;
}

function nameOf(text: string): string {
  return hexDigest(text, NAME_BYTES);
}

/** FNV-1a over UTF-16 units, mixed by MurmurHash3's finaliser. Only for the length of lists. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}
