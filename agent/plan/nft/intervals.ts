/**
 * Disjoint members for interval sets.
 *
 * The kernel refuses overlapping intervals in one set, and cluster data overlaps freely (a pod's address within a
 * policy's ipBlock). Whoever keeps a set as a difference of members must therefore difference the merged forms:
 * `elementChanges(mergeElements(set, before), mergeElements(set, after))`.
 * Invariant: the result covers exactly the same addresses, its members are disjoint, canonical and sorted; overlapping
 * prefixes stay prefixes. Adjacent members are not joined, so that one more member changes one element.
 * Rejected: nft's auto-merge: it happens in nft's user-space code, and hides which elements the kernel has.
 */
import type { NftElement, NftMatch } from "./ruleset.ts";
import { type ByteRange, compareBytes, FIELD_TYPES, keyFromRanges, keyRanges, type NftValueType } from "./values.ts";

/** What of a set's declaration decides how its members merge; an NftSet is one. */
export type ElementShape = {
  readonly name: string;
  readonly key: readonly NftValueType[];
  readonly intervals?: boolean;
};

/** The anonymous set of a "match-any": intervals only if a value is a prefix or range; values canonical, disjoint, sorted. */
export function anonymousSet(match: Extract<NftMatch, { readonly kind: "match-any" }>): { readonly shape: ElementShape; readonly elements: NftElement[] } {
  const key = [FIELD_TYPES[match.field]];
  const elements = match.values.map((value) => ({ key: String(value) }));
  const intervals = elements.some((element) => keyRanges(key, element.key).some(({ from, to }) => compareBytes(from, to) !== 0));
  const shape = { name: "anonymous", key, intervals };
  const merged = mergeElements(shape, elements);
  return { shape, elements: intervals ? merged : sortElements(shape, merged) };
}

/** By the first value of each field, numerically. */
export function sortElements(shape: ElementShape, elements: readonly NftElement[]): NftElement[] {
  const members = elements.map((element) => ({ element, ranges: keyRanges(shape.key, element.key) }));
  return members.sort((a, b) => compareMembers(a.ranges, b.ranges)).map(({ element }) => element);
}

/**
 * Canonical, sorted, disjoint elements. Sets without intervals: canonical keys, repeated keys once (the first stays).
 * Concatenations: a member within another is dropped; members that overlap only in part are refused with RangeError,
 * as the kernel would refuse them. Of merged members, the first one's data and comment stay.
 */
export function mergeElements(set: ElementShape, elements: readonly NftElement[]): NftElement[] {
  if (set.intervals !== true) return uniqueElements(set, elements);
  const members = elements.map((element) => ({ element, ranges: keyRanges(set.key, element.key) }));
  members.sort((a, b) => compareMembers(a.ranges, b.ranges));
  return set.key.length === 1 ? mergeRanges(set, members) : dropContained(set, members);
}

/** What to delete and what to add so that `before` becomes `after`; both merged. A changed value or comment is both. */
export function elementChanges(before: readonly NftElement[], after: readonly NftElement[]): { readonly deleted: NftElement[]; readonly added: NftElement[] } {
  const wanted = new Map(after.map((element) => [element.key, element]));
  const present = new Map(before.map((element) => [element.key, element]));
  return {
    deleted: before.filter((element) => !isSame(element, wanted.get(element.key))),
    added: after.filter((element) => !isSame(element, present.get(element.key))),
  };
}

type Member = { readonly element: NftElement; readonly ranges: readonly ByteRange[] };

function uniqueElements(set: ElementShape, elements: readonly NftElement[]): NftElement[] {
  const byKey = new Map<string, NftElement>();
  for (const element of elements) {
    const key = keyFromRanges(set.key, keyRanges(set.key, element.key));
    if (!byKey.has(key)) byKey.set(key, key === element.key ? element : { ...element, key });
  }
  return [...byKey.values()];
}

function mergeRanges(set: ElementShape, members: readonly Member[]): NftElement[] {
  const merged: NftElement[] = [];
  let current: { element: NftElement; from: Uint8Array; to: Uint8Array } | undefined;
  const finish = (): void => {
    if (current !== undefined) merged.push({ ...current.element, key: keyFromRanges(set.key, [current]) });
  };
  for (const { element, ranges } of members) {
    const range = ranges[0];
    if (range === undefined) continue;
    if (current !== undefined && compareBytes(range.from, current.to) <= 0) {
      if (compareBytes(range.to, current.to) > 0) current.to = range.to;
      continue;
    }
    finish();
    current = { element, from: range.from, to: range.to };
  }
  finish();
  return merged;
}

function dropContained(set: ElementShape, members: readonly Member[]): NftElement[] {
  const kept: Member[] = [];
  for (const member of members) {
    let isContained = false;
    // Sorted by first field: only members that begin at or before this one, and reach it, can overlap.
    for (const other of kept) {
      if (!other.ranges.every((range, index) => overlaps(range, member.ranges[index]))) continue;
      if (!other.ranges.every((range, index) => contains(range, member.ranges[index]))) {
        throw new RangeError(`set ${set.name}: elements ${other.element.key} and ${member.element.key} overlap in part`);
      }
      isContained = true;
      break;
    }
    if (!isContained) kept.push(member);
  }
  return kept.map(({ element, ranges }) => ({ ...element, key: keyFromRanges(set.key, ranges) }));
}

/** By first value, the wider one first. */
function compareMembers(a: readonly ByteRange[], b: readonly ByteRange[]): number {
  for (let index = 0; index < a.length; index += 1) {
    const left = a[index];
    const right = b[index];
    if (left === undefined || right === undefined) return 0;
    const difference = compareBytes(left.from, right.from) || compareBytes(right.to, left.to);
    if (difference !== 0) return difference;
  }
  return 0;
}

function overlaps(a: ByteRange, b: ByteRange | undefined): boolean {
  return b !== undefined && compareBytes(a.from, b.to) <= 0 && compareBytes(b.from, a.to) <= 0;
}

function contains(outer: ByteRange, inner: ByteRange | undefined): boolean {
  return inner !== undefined && compareBytes(outer.from, inner.from) <= 0 && compareBytes(inner.to, outer.to) <= 0;
}

function isSame(a: NftElement, b: NftElement | undefined): boolean {
  return b !== undefined && a.key === b.key && a.comment === b.comment && a.timeoutMs === b.timeoutMs && dataIdentity(a) === dataIdentity(b);
}

function dataIdentity({ data }: NftElement): string {
  if (data === undefined || typeof data === "string") return data ?? "";
  return data.kind === "jump" || data.kind === "goto" ? `${data.kind} ${data.chain}` : data.kind;
}
