/**
 * Members of a set that give way, in one transaction, to others that hold them or lie within them, in other kernel sets. Pure.
 *
 * A packet under way looks into one kernel set after the other, by the rules that were there when it came, and finds in each the elements of the moment (see
 * stages.ts): it could look for the new member before the commit, and for the old one after it, and find neither, though it is of both. So
 * - a narrower member comes in a commit before that in which the one that holds it goes: it changes nothing as long as that is there;
 * - of a length that no rule looks for yet, the member that goes does so in a commit behind: a narrower one is held by the new one and changes nothing any more;
 *   a wider one keeps for that moment what it held, unless the transaction changes what rules decide: a new decision must not meet an old member.
 * A wider member in the place of those within it, of lengths that rules look for, is found by whoever looks for the longer ones first, as all rules do.
 */
import { isMembershipRule } from "./large-sets.ts";
import { addressSetOf } from "./names.ts";
import type { NftElement, NftOperation } from "./nft/ruleset.ts";
import { keyRanges, prefixMask } from "./nft/values.ts";

export interface ReplacedPrefixes {
  readonly early: readonly NftOperation[];
  readonly operations: readonly NftOperation[];
  readonly late: readonly NftOperation[];
}

type ElementOperation = Extract<NftOperation, { readonly kind: "add-elements" | "delete-elements" }>;

interface Prefix {
  readonly bytes: Uint8Array;
  readonly length: number;
}

export function replacedPrefixes(operations: readonly NftOperation[]): ReplacedPrefixes {
  const unchanged: ReplacedPrefixes = { early: [], operations, late: [] };
  const deletions = operations.filter((operation) => operation.kind === "delete-elements" && setOf(operation) !== undefined) as readonly ElementOperation[];
  if (deletions.length === 0) return unchanged;
  const deleted = indexOf(deletions);
  // Within one interval set a lookup sees the whole change or nothing of it.
  const newSets = new Set(operations.flatMap((operation) => (operation.kind === "add-set" ? [operation.set.name] : [])));
  const additions = operations.filter(
    (operation) =>
      operation.kind === "add-elements" && (operation.set.intervals !== true || newSets.has(operation.set.name)) && deleted.has(setOf(operation) ?? ""),
  ) as readonly ElementOperation[];
  if (additions.length === 0) return unchanged;
  const isNew = ({ set }: ElementOperation): boolean => newSets.has(set.name);
  const decidesAnew = operations.some((operation) => operation.kind === "add-rule" && !isMembershipRule(operation));
  const early = new Set<NftElement>();
  const late = new Set<NftElement>();
  if (!decidesAnew) for (const [, holders] of held(additions, deleted, isNew)) for (const holder of holders) late.add(holder);
  for (const [element] of held(additions, deleted, (operation) => !isNew(operation))) early.add(element);
  for (const [element] of held(deletions, indexOf(additions.filter(isNew)), () => true)) late.add(element);
  if (early.size + late.size === 0) return unchanged;
  return {
    early: operations.flatMap((operation) => part(operation, "add-elements", (element) => early.has(element))),
    operations: operations.flatMap((operation) => {
      if (operation.kind === "add-elements") return part(operation, operation.kind, (element) => !early.has(element));
      if (operation.kind === "delete-elements") return part(operation, operation.kind, (element) => !late.has(element));
      return [operation];
    }),
    late: operations.flatMap((operation) => part(operation, "delete-elements", (element) => late.has(element))),
  };
}

/** By set and family. */
function indexOf(operations: readonly ElementOperation[]): ReadonlyMap<string, PrefixIndex> {
  const found = new Map<string, PrefixIndex>();
  for (const operation of operations) {
    const set = setOf(operation) ?? "";
    const ofSet = found.get(set) ?? new PrefixIndex();
    found.set(set, ofSet);
    for (const element of operation.elements) ofSet.add(prefixOf(operation, element), element);
  }
  return found;
}

/** Elements that others of their set hold, with those. */
function held(
  operations: readonly ElementOperation[],
  others: ReadonlyMap<string, PrefixIndex>,
  isMeant: (operation: ElementOperation) => boolean,
): readonly (readonly [element: NftElement, holders: readonly NftElement[]])[] {
  return operations.filter(isMeant).flatMap((operation) => {
    const index = others.get(setOf(operation) ?? "");
    if (index === undefined) return [];
    return operation.elements.flatMap((element) => {
      const holders = index.holders(prefixOf(operation, element));
      return holders.length === 0 ? [] : [[element, holders] as const];
    });
  });
}

class PrefixIndex {
  readonly #byLength = new Map<number, Map<string, NftElement>>();

  add({ bytes, length }: Prefix, element: NftElement): void {
    const ofLength = this.#byLength.get(length) ?? new Map<string, NftElement>();
    this.#byLength.set(length, ofLength);
    ofLength.set(textOf(bytes), element);
  }

  /** Those that hold a longer prefix. */
  holders({ bytes, length }: Prefix): readonly NftElement[] {
    const found: NftElement[] = [];
    for (const [shorter, ofLength] of this.#byLength) {
      if (shorter >= length) continue;
      const mask = prefixMask(bytes.length === 4 ? "ipv4_addr" : "ipv6_addr", shorter);
      const holder = ofLength.get(textOf(bytes.map((byte, i) => byte & (mask[i] ?? 0))));
      if (holder !== undefined) found.push(holder);
    }
    return found;
  }
}

function part(operation: NftOperation, kind: ElementOperation["kind"], isIn: (element: NftElement) => boolean): readonly NftOperation[] {
  if (operation.kind !== kind) return [];
  const elements = operation.elements.filter(isIn);
  return elements.length === 0 ? [] : [{ ...operation, elements }];
}

function setOf({ set }: ElementOperation): string | undefined {
  const found = addressSetOf(set.name);
  return found === undefined ? undefined : `${found.set}/v${found.version}`;
}

function prefixOf({ set }: ElementOperation, { key }: NftElement): Prefix {
  const bytes = keyRanges(set.key, key)[0]?.from ?? new Uint8Array(0);
  const slash = key.indexOf("/");
  const length = slash === -1 ? (addressSetOf(set.name)?.length ?? bytes.length * 8) : Number(key.slice(slash + 1));
  return { bytes, length };
}

function textOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}
