/**
 * Address sets of the view as named nftables sets, one for each type and family.
 *
 * A change of a shard costs that shard's size: each kernel set remembers by which members its last states differ, and the difference to the kernel is
 * read from there. What was said of a set's types is the same object until it changes, so that renderings are compared by identity.
 * Rejected: a snapshot of all members for each plan: a set of 100,000 would be copied and compared for one pod more.
 */
import type { RecordKey, SetMember, SetShard, SetType } from "../../src/model/record.ts";
import type { Cidr } from "../../src/net/cidr.ts";
import type { IpVersion } from "../../src/net/ip.ts";
import { setName } from "./names.ts";
import { elementChanges } from "./nft/intervals.ts";
import type { NftElement, NftSet } from "./nft/ruleset.ts";
import { PrefixUnion, type UnionChange } from "./prefix-union.ts";
import type { SetFacts } from "./rule.ts";

export interface PlannedSet {
  readonly set: NftSet;
  /** Throws StaleElementsError when too much happened since. */
  readonly elements: readonly NftElement[];
  /** What leads from an earlier state of the same set here; undefined when that is not known. */
  changesSince?(before: PlannedSet): UnionChange | undefined;
}

/** A state of a set that is too old to be told. */
export class StaleElementsError extends Error {
  constructor(name: string) {
    super(`the elements of set ${name} as they were are no longer known`);
    this.name = "StaleElementsError";
  }
}

const KEY_TYPES: Readonly<Record<IpVersion, "ipv4_addr" | "ipv6_addr">> = { 4: "ipv4_addr", 6: "ipv6_addr" };
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
  readonly #shards = new Map<string, Map<RecordKey, SetShard>>();
  readonly #broken = new Map<string, Set<RecordKey>>();
  /** How many shards of each type. */
  readonly #types = new Map<string, Map<SetType, number>>();
  readonly #facts = new Map<string, SetFacts>();
  readonly #contents = new Map<string, SetContent>();

  /** True when what is known of the set's types changed: rules that look into it are to be rendered anew. */
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
    for (const type of SET_TYPES) for (const version of VERSIONS) this.#contents.get(setName(id, type, version))?.replace(before, value);
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

  /** Both families of one set, as `type`, in their present state. */
  planned(id: string, type: SetType): readonly PlannedSet[] {
    return VERSIONS.map((version) => {
      const name = setName(id, type, version);
      let content = this.#contents.get(name);
      if (content === undefined) {
        content = newContent(declaration(id, type, version), type, version);
        content.replaceAll([], [...(this.#shards.get(id)?.values() ?? [])]);
        this.#contents.set(name, content);
      }
      return content.state;
    });
  }

  /** The newest state of a used set; undefined when it is not used. */
  state(name: string): PlannedSet | undefined {
    return this.#contents.get(name)?.state;
  }

  /** Forgets kernel sets that nothing looks into any more. */
  retain(names: { has(name: string): boolean }): void {
    for (const name of this.#contents.keys()) if (!names.has(name)) this.#contents.delete(name);
  }

  #countType(id: string, type: SetType | undefined, change: 1 | -1): void {
    if (type === undefined) return;
    const counts = this.#types.get(id) ?? new Map<SetType, number>();
    counts.set(type, (counts.get(type) ?? 0) + change);
    this.#types.set(id, counts);
    if ([...counts.values()].every((count) => count === 0)) this.#types.delete(id);
  }

  #refreshFacts(id: string): boolean {
    const before = this.facts(id);
    const counts = this.#types.get(id);
    const types = SET_TYPES.filter((type) => (counts?.get(type) ?? 0) > 0);
    const isBroken = this.#broken.has(id);
    if (before.isBroken === isBroken && before.types.join() === types.join()) return false;
    if (types.length === 0 && !isBroken) this.#facts.delete(id);
    else this.#facts.set(id, { types, isBroken });
    return true;
  }
}

/** Members of one kernel set: counted, as nothing but the server's care keeps a member out of two shards. */
abstract class SetContent {
  readonly set: NftSet;
  readonly #type: SetType;
  readonly #version: IpVersion;
  readonly #log: UnionChange[] = [];
  #number = 0;
  #state: SetState | undefined;

  constructor(set: NftSet, type: SetType, version: IpVersion) {
    this.set = set;
    this.#type = type;
    this.#version = version;
  }

  /** The same object until something changes. */
  get state(): PlannedSet {
    this.#state ??= new SetState(this, this.#number);
    return this.#state;
  }

  replace(before: SetShard | undefined, after: SetShard | undefined): void {
    if (before !== after && (before?.type === this.#type || after?.type === this.#type))
      this.replaceAll(before === undefined ? [] : [before], after === undefined ? [] : [after]);
  }

  replaceAll(before: readonly SetShard[], after: readonly SetShard[]): void {
    const gone = this.#members(before);
    const come = this.#members(after);
    const were = new Set(gone);
    const are = new Set(come);
    const change = this.change(
      gone.filter((member) => !are.has(member)),
      come.filter((member) => !were.has(member)),
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
    if (steps.length === 1) return steps[0];
    const deleted = new Map<string, NftElement>();
    const added = new Map<string, NftElement>();
    for (const step of steps) {
      for (const element of step.deleted) if (!added.delete(element.key)) deleted.set(element.key, element);
      for (const element of step.added) if (!deleted.delete(element.key)) added.set(element.key, element);
    }
    return { deleted: [...deleted.values()], added: [...added.values()] };
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

  #members(shards: readonly SetShard[]): readonly SetMember[] {
    return shards.filter(({ type }) => type === this.#type).flatMap(({ members }) => members.filter((member) => isV6Member(member) === (this.#version === 6)));
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

function newContent(set: NftSet, type: SetType, version: IpVersion): SetContent {
  return type === "prefix" ? new PrefixContent(set, type, version) : new HashContent(set, type, version);
}

function declaration(id: string, type: SetType, version: IpVersion): NftSet {
  const name = setName(id, type, version);
  if (type === "address-port") return { name, key: [KEY_TYPES[version], "inet_proto", "inet_service"] };
  return { name, key: [KEY_TYPES[version]], ...(type === "prefix" ? { intervals: true } : {}) };
}

/** "10.0.0.1,tcp:80" is "10.0.0.1 . tcp . 80". */
function elementOf(member: SetMember): NftElement {
  const comma = member.indexOf(",");
  if (comma === -1) return { key: member };
  const colon = member.indexOf(":", comma);
  return { key: `${member.slice(0, comma)} . ${member.slice(comma + 1, colon)} . ${member.slice(colon + 1)}` };
}

function isV6Member(member: SetMember): boolean {
  const comma = member.indexOf(",");
  return (comma === -1 ? member : member.slice(0, comma)).includes(":");
}
