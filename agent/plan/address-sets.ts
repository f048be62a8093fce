/**
 * Address sets of the view as named nftables sets, one for each type and family.
 *
 * Prefixes are an interval set, until they are many: the kernel goes through the whole of an interval set at each commit that touches it. A large set is a hash
 * table for each length, which holds the prefixes' addresses and is looked into with the packet's address masked: a change costs the same at any size, a lookup
 * one more for each length. Which form a set has depends on its size alone, with a rest between the limits; what it is at a start, on what the kernel holds.
 * A change of a shard costs that shard's size: each kernel set remembers by which members its last states differ, and the difference to the kernel is
 * read from there. What was said of a set's types is the same object until it changes, so that renderings are compared by identity.
 * Rejected: a snapshot of all members for each plan: a set of 100,000 would be copied and compared for one pod more. A large interval set with small ones for
 * what came and went since: three lookups at any number of lengths, but merging moves members between sets that a packet looks into one after the other, and
 * what the kernel should hold would follow from history. One hash table with the length in its key: nft cannot write such a rule.
 */
import type { RecordKey, SetMember, SetShard, SetType } from "../../src/model/record.ts";
import { type Cidr, cidrAddress, cidrLength } from "../../src/net/cidr.ts";
import type { IpVersion } from "../../src/net/ip.ts";
import { addressSetOf, safeSetId, setName } from "./names.ts";
import { elementChanges } from "./nft/intervals.ts";
import type { NftElement, NftSet } from "./nft/ruleset.ts";
import { ADDRESS_TYPES } from "./nft/values.ts";
import { netChange, PrefixUnion, type UnionChange } from "./prefix-union.ts";
import type { SetFacts, SetLengths, UsedSet } from "./rule.ts";

export interface PlannedSet {
  readonly set: NftSet;
  /** Throws StaleElementsError when too much happened since. */
  readonly elements: readonly NftElement[];
  /** What leads from an earlier state of the same set here; undefined when that is not known. */
  changesSince?(before: PlannedSet): UnionChange | undefined;
}

/** How many prefixes make a set large. */
export interface LargeSetLimits {
  readonly largeAbove: number;
  /** A large set stays one as long as it has more; below `largeAbove`, so that a set at the limit does not change its form with each member. */
  readonly smallUpTo: number;
}

/** Up to some 2,000 prefixes a change of an interval set costs the kernel at most three times that of a hash table, and its lookup less than a dozen of lengths. */
const LARGE_SETS: LargeSetLimits = { largeAbove: 2_048, smallUpTo: 1_024 };

interface PrefixCounts {
  total: number;
  readonly ofLength: Readonly<Record<IpVersion, Map<number, number>>>;
}

interface MemberChange {
  readonly type: SetType;
  readonly removed: readonly SetMember[];
  readonly added: readonly SetMember[];
}

interface ContentShape {
  readonly name: string;
  readonly type: SetType;
  readonly version: IpVersion;
  /** Prefixes of this length alone. */
  readonly length: number | undefined;
}

/** A state of a set that is too old to be told. */
export class StaleElementsError extends Error {
  constructor(name: string) {
    super(`the elements of set ${name} as they were are no longer known`);
    this.name = "StaleElementsError";
  }
}

const VERSIONS: readonly IpVersion[] = [4, 6];
const SET_TYPES: readonly SetType[] = ["address", "prefix", "address-port"];
const SHARD_KEY = /^set\/(.*)\/n?[01]*$/;
const NO_FACTS: SetFacts = { types: [], isBroken: false };
/** States that a set remembers. */
const LOG_LENGTH = 64;

/** The id of the set that a record key is a shard of; undefined for keys of other kinds. */
export function setIdOf(key: RecordKey): string | undefined {
  return SHARD_KEY.exec(key)?.[1];
}

/** All shards of a view, and the kernel sets that are used. */
export class SetRegistry {
  readonly #limits: LargeSetLimits;
  readonly #shards = new Map<string, Map<RecordKey, SetShard>>();
  readonly #broken = new Map<string, Set<RecordKey>>();
  /** How many shards of each type. */
  readonly #types = new Map<string, Map<SetType, number>>();
  readonly #prefixes = new Map<string, PrefixCounts>();
  readonly #large = new Set<string>();
  /** Sets, as `safeSetId` names them, that the kernel held by length before this process began. */
  readonly #held = new Set<string>();
  readonly #facts = new Map<string, SetFacts>();
  /** By the set's id, then by the kernel set's name. */
  readonly #contents = new Map<string, Map<string, SetContent>>();

  constructor(limits: LargeSetLimits = LARGE_SETS) {
    this.#limits = limits;
  }

  /** Kernel sets that an earlier run has left: a set between the limits stays in the form that it has. */
  adopt(names: Iterable<string>): void {
    for (const name of names) {
      const found = addressSetOf(name);
      if (found?.length !== undefined) this.#held.add(found.set);
    }
  }

  /** True when what is known of the set's types or lengths changed: rules that look into it are to be rendered anew. */
  update(key: RecordKey, id: string, value: SetShard | undefined, isBroken: boolean): boolean {
    const shards = this.#shards.get(id) ?? new Map<RecordKey, SetShard>();
    const before = shards.get(key);
    if (value === undefined) shards.delete(key);
    else shards.set(key, value);
    if (shards.size > 0) this.#shards.set(id, shards);
    else this.#shards.delete(id);
    const broken = this.#broken.get(id) ?? new Set<RecordKey>();
    if (isBroken) broken.add(key);
    else broken.delete(key);
    if (broken.size > 0) this.#broken.set(id, broken);
    else this.#broken.delete(id);
    for (const change of shardChanges(before, value)) {
      for (const content of this.#contents.get(id)?.values() ?? []) content.take(change);
      if (change.type === "prefix") this.#countPrefixes(id, change);
    }
    if (before?.type !== value?.type) {
      this.#countType(id, before?.type, -1);
      this.#countType(id, value?.type, 1);
    }
    return this.#refreshFacts(id);
  }

  /** The same object until it changes. */
  facts(id: string): SetFacts {
    return this.#facts.get(id) ?? NO_FACTS;
  }

  /** The kernel sets of both families, in their present state. */
  planned({ id, type, isByLength }: UsedSet): readonly PlannedSet[] {
    const contents = this.#contents.get(id) ?? new Map<string, SetContent>();
    this.#contents.set(id, contents);
    let members: ReadonlyMap<string, readonly SetMember[]> | undefined;
    return VERSIONS.flatMap((version) => {
      const lengths = isByLength ? (this.facts(id).lengths?.[version] ?? []) : [undefined];
      return lengths.map((length) => {
        const name = setName(id, type, version, length);
        let content = contents.get(name);
        if (content === undefined) {
          members ??= this.#membersByName(id, type, isByLength);
          content = newContent({ name, type, version, length });
          content.take({ type, removed: [], added: members.get(name) ?? [] });
          contents.set(name, content);
        }
        return content.state;
      });
    });
  }

  /** The newest states of a set's kernel sets that are used. */
  states(id: string): readonly PlannedSet[] {
    return [...(this.#contents.get(id)?.values() ?? [])].map(({ state }) => state);
  }

  /** Forgets kernel sets that nothing looks into any more. */
  retain(names: { has(name: string): boolean }): void {
    this.#held.clear();
    for (const [id, contents] of this.#contents) {
      for (const name of contents.keys()) if (!names.has(name)) contents.delete(name);
      if (contents.size === 0) this.#contents.delete(id);
    }
  }

  #membersByName(id: string, type: SetType, isByLength: boolean): ReadonlyMap<string, readonly SetMember[]> {
    const found = new Map<string, SetMember[]>();
    for (const shard of this.#shards.get(id)?.values() ?? []) {
      if (shard.type !== type) continue;
      for (const member of shard.members) {
        const name = setName(id, type, versionOf(member), isByLength ? cidrLength(member as Cidr) : undefined);
        const others = found.get(name);
        if (others === undefined) found.set(name, [member]);
        else others.push(member);
      }
    }
    return found;
  }

  #countType(id: string, type: SetType | undefined, change: 1 | -1): void {
    if (type === undefined) return;
    const counts = this.#types.get(id) ?? new Map<SetType, number>();
    counts.set(type, (counts.get(type) ?? 0) + change);
    this.#types.set(id, counts);
    if ([...counts.values()].every((count) => count === 0)) this.#types.delete(id);
  }

  #countPrefixes(id: string, { removed, added }: MemberChange): void {
    const counts = this.#prefixes.get(id) ?? { total: 0, ofLength: { 4: new Map<number, number>(), 6: new Map<number, number>() } };
    const count = (member: SetMember, change: 1 | -1): void => {
      const ofLength = counts.ofLength[versionOf(member)];
      const length = cidrLength(member as Cidr);
      const after = (ofLength.get(length) ?? 0) + change;
      counts.total += change;
      if (after === 0) ofLength.delete(length);
      else ofLength.set(length, after);
    };
    for (const member of removed) count(member, -1);
    for (const member of added) count(member, 1);
    if (counts.total === 0) this.#prefixes.delete(id);
    else this.#prefixes.set(id, counts);
  }

  #refreshFacts(id: string): boolean {
    const before = this.facts(id);
    const counts = this.#types.get(id);
    const types = SET_TYPES.filter((type) => (counts?.get(type) ?? 0) > 0);
    const isBroken = this.#broken.has(id);
    const lengths = this.#lengths(id);
    if (before.isBroken === isBroken && before.types.join() === types.join() && isSameLengths(before.lengths, lengths)) return false;
    if (types.length === 0 && !isBroken) this.#facts.delete(id);
    else this.#facts.set(id, { types, isBroken, ...(lengths === undefined ? {} : { lengths }) });
    return true;
  }

  /** Of a large set of prefixes, the longest first; undefined: it is not large. */
  #lengths(id: string): SetLengths | undefined {
    const counts = this.#prefixes.get(id);
    const wasLarge = this.#large.has(id) || (this.#held.size > 0 && this.#held.has(safeSetId(id)));
    if (counts === undefined || counts.total <= (wasLarge ? this.#limits.smallUpTo : this.#limits.largeAbove)) {
      this.#large.delete(id);
      return undefined;
    }
    this.#large.add(id);
    const { ofLength } = counts;
    const sorted = (version: IpVersion): readonly number[] => [...ofLength[version].keys()].sort((a, b) => b - a);
    return { 4: sorted(4), 6: sorted(6) };
  }
}

function isSameLengths(a: SetLengths | undefined, b: SetLengths | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return VERSIONS.every((version) => a[version].join() === b[version].join());
}

/** What of one type comes and goes when a shard takes another's place. */
function shardChanges(before: SetShard | undefined, after: SetShard | undefined): readonly MemberChange[] {
  if (before === after) return [];
  if (before !== undefined && after !== undefined && before.type === after.type) {
    const were = new Set(before.members);
    const are = new Set(after.members);
    return [{ type: after.type, removed: before.members.filter((member) => !are.has(member)), added: after.members.filter((member) => !were.has(member)) }];
  }
  return [
    ...(before === undefined ? [] : [{ type: before.type, removed: before.members, added: [] }]),
    ...(after === undefined ? [] : [{ type: after.type, removed: [], added: after.members }]),
  ];
}

/** Members of one kernel set: counted, as nothing but the server's care keeps a member out of two shards. */
abstract class SetContent {
  readonly set: NftSet;
  readonly #shape: ContentShape;
  readonly #log: UnionChange[] = [];
  #number = 0;
  #state: SetState | undefined;

  constructor(shape: ContentShape) {
    this.set = declaration(shape);
    this.#shape = shape;
  }

  /** The same object until something changes. */
  get state(): PlannedSet {
    this.#state ??= new SetState(this, this.#number);
    return this.#state;
  }

  /** Members that are not its own are none of its business. */
  take({ type, removed, added }: MemberChange): void {
    if (type !== this.#shape.type) return;
    const change = this.change(
      removed.filter((member) => this.#holds(member)),
      added.filter((member) => this.#holds(member)),
    );
    if (change.deleted.length === 0 && change.added.length === 0) return;
    this.#log.push(change);
    if (this.#log.length > LOG_LENGTH) this.#log.shift();
    this.#number += 1;
    this.#state = undefined;
  }

  /** From one state to a later one; undefined when that is too long ago. */
  changes(from: number, to: number): UnionChange | undefined {
    const first = this.#log.length - (this.#number - from);
    if (first < 0 || from > to) return undefined;
    const steps = this.#log.slice(first, first + to - from);
    return steps.length === 1 ? steps[0] : netChange(steps);
  }

  elementsAt(number: number): readonly NftElement[] {
    const now = this.elements();
    if (number === this.#number) return now;
    const since = this.changes(number, this.#number);
    if (since === undefined) throw new StaleElementsError(this.set.name);
    const added = new Set(since.added.map(({ key }) => key));
    return [...now.filter(({ key }) => !added.has(key)), ...since.deleted];
  }

  protected abstract elements(): readonly NftElement[];
  protected abstract change(removed: readonly SetMember[], added: readonly SetMember[]): UnionChange;

  #holds(member: SetMember): boolean {
    const { version, length } = this.#shape;
    return versionOf(member) === version && (length === undefined || cidrLength(member as Cidr) === length);
  }
}

class SetState implements PlannedSet {
  readonly set: NftSet;
  readonly #content: SetContent;
  readonly #number: number;

  constructor(content: SetContent, number: number) {
    this.set = content.set;
    this.#content = content;
    this.#number = number;
  }

  get elements(): readonly NftElement[] {
    return this.#content.elementsAt(this.#number);
  }

  changesSince(before: PlannedSet): UnionChange | undefined {
    if (!(before instanceof SetState) || before.#content !== this.#content) return undefined;
    const changes = this.#content.changes(before.#number, this.#number);
    if (changes === undefined) throw new StaleElementsError(this.set.name);
    return changes;
  }
}

class HashContent extends SetContent {
  readonly #counts = new Map<SetMember, number>();

  protected elements(): readonly NftElement[] {
    return [...this.#counts.keys()].map(elementOf);
  }

  protected change(removed: readonly SetMember[], added: readonly SetMember[]): UnionChange {
    const before: SetMember[] = [];
    const after: SetMember[] = [];
    for (const member of removed) {
      const count = this.#counts.get(member) ?? 0;
      if (count > 1) this.#counts.set(member, count - 1);
      else if (this.#counts.delete(member)) before.push(member);
    }
    for (const member of added) {
      const count = this.#counts.get(member) ?? 0;
      this.#counts.set(member, count + 1);
      if (count === 0) after.push(member);
    }
    return elementChanges(before.map(elementOf), after.map(elementOf));
  }
}

class PrefixContent extends SetContent {
  readonly #union = new PrefixUnion();

  protected elements(): readonly NftElement[] {
    return this.#union.elements();
  }

  protected change(removed: readonly SetMember[], added: readonly SetMember[]): UnionChange {
    return this.#union.change(removed as readonly Cidr[], added as readonly Cidr[]);
  }
}

function newContent(shape: ContentShape): SetContent {
  return isInterval(shape) ? new PrefixContent(shape) : new HashContent(shape);
}

function isInterval({ type, length }: ContentShape): boolean {
  return type === "prefix" && length === undefined;
}

function declaration(shape: ContentShape): NftSet {
  const { name, type, version } = shape;
  if (type === "address-port") return { name, key: [ADDRESS_TYPES[version], "inet_proto", "inet_service"] };
  return { name, key: [ADDRESS_TYPES[version]], ...(isInterval(shape) ? { intervals: true } : {}) };
}

/** "10.0.0.1,tcp:80" is "10.0.0.1 . tcp . 80"; of a prefix, in a set of its length, the address. */
function elementOf(member: SetMember): NftElement {
  const comma = member.indexOf(",");
  if (comma === -1) return { key: member.includes("/") ? cidrAddress(member as Cidr) : member };
  const colon = member.indexOf(":", comma);
  return { key: `${member.slice(0, comma)} . ${member.slice(comma + 1, colon)} . ${member.slice(colon + 1)}` };
}

function versionOf(member: SetMember): IpVersion {
  const comma = member.indexOf(",");
  return (comma === -1 ? member : member.slice(0, comma)).includes(":") ? 6 : 4;
}
