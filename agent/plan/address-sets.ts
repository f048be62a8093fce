/**
 * Address sets of the view as named nftables sets, one for each family.
 *
 * A set's shards are kept together by identity: as long as none of a set's shard values was replaced, the same element lists come back, and the
 * difference to the kernel costs nothing. When one shard changes, only that shard's members are translated again.
 */
import type { RecordKey, RecordValue, SetMember, SetShard, SetType } from "../../src/model/record.ts";
import type { IpVersion } from "../../src/net/ip.ts";
import { setName } from "./names.ts";
import { mergeElements } from "./nft/intervals.ts";
import type { NftElement, NftSet } from "./nft/ruleset.ts";
import type { SetFacts } from "./rule.ts";

export interface PlannedSet {
  readonly set: NftSet;
  readonly elements: readonly NftElement[];
}

interface ShardElements {
  readonly v4: readonly NftElement[];
  readonly v6: readonly NftElement[];
}

const KEY_TYPES: Readonly<Record<IpVersion, "ipv4_addr" | "ipv6_addr">> = { 4: "ipv4_addr", 6: "ipv6_addr" };
const SET_TYPES: readonly SetType[] = ["address", "prefix", "address-port"];
const SHARD_KEY = /^set\/(.*)\/n?[01]*$/;

/** The id of the set that a record key is a shard of; undefined for keys of other kinds. */
export function setIdOf(key: RecordKey): string | undefined {
  return SHARD_KEY.exec(key)?.[1];
}

/** Translations that outlive one plan. */
export class SetCache {
  readonly #byShard = new WeakMap<SetShard, ShardElements>();
  readonly #bySet = new Map<string, { readonly shards: readonly SetShard[]; readonly planned: ReadonlyMap<SetType, readonly PlannedSet[]> }>();

  elementsOf(shard: SetShard): ShardElements {
    let found = this.#byShard.get(shard);
    if (found === undefined) {
      const element = (member: SetMember): NftElement => ({ key: shard.type === "address-port" ? portKey(member) : member });
      found = { v4: shard.members.filter((member) => !isV6Member(member)).map(element), v6: shard.members.filter(isV6Member).map(element) };
      this.#byShard.set(shard, found);
    }
    return found;
  }

  /** Both families of one set, as `type`. */
  planned(id: string, type: SetType, shards: readonly SetShard[]): readonly PlannedSet[] {
    const known = this.#bySet.get(id);
    const isSame = known !== undefined && known.shards.length === shards.length && shards.every((shard, i) => shard === known.shards[i]);
    const found = isSame ? known.planned.get(type) : undefined;
    if (found !== undefined) return found;
    const planned = ([4, 6] as const).map((version) => this.#plan(id, type, version, shards));
    this.#bySet.set(id, { shards, planned: new Map([...(isSame ? known.planned : []), [type, planned]]) });
    return planned;
  }

  /** Forgets sets that are in no view any more. */
  retain(ids: { has(id: string): boolean }): void {
    for (const id of this.#bySet.keys()) if (!ids.has(id)) this.#bySet.delete(id);
  }

  #plan(id: string, type: SetType, version: IpVersion, shards: readonly SetShard[]): PlannedSet {
    const elements = shards.filter((shard) => shard.type === type).flatMap((shard) => this.elementsOf(shard)[version === 4 ? "v4" : "v6"]);
    const set = declaration(id, type, version);
    return { set, elements: type === "prefix" ? mergeElements(set, elements) : elements };
  }
}

/** The sets of one view: facts for rules, and the shards behind them. */
export class ViewSets {
  readonly #shards = new Map<string, SetShard[]>();
  readonly #broken = new Set<string>();

  constructor(records: Iterable<RecordValue>, undecodable: Iterable<RecordKey>) {
    for (const value of records) {
      if (value.kind !== "set") continue;
      const shards = this.#shards.get(value.id);
      if (shards === undefined) this.#shards.set(value.id, [value]);
      else shards.push(value);
    }
    for (const key of undecodable) {
      const id = setIdOf(key);
      if (id !== undefined) this.#broken.add(id);
    }
  }

  has(id: string): boolean {
    return this.#shards.has(id);
  }

  /** Types in a fixed order, so that the rendering does not depend on the order of shards. */
  facts(id: string): SetFacts {
    const present = new Set(this.#shards.get(id)?.map(({ type }) => type));
    return { types: SET_TYPES.filter((type) => present.has(type)), isBroken: this.#broken.has(id) };
  }

  shards(id: string): readonly SetShard[] {
    return this.#shards.get(id) ?? [];
  }
}

function declaration(id: string, type: SetType, version: IpVersion): NftSet {
  const name = setName(id, type, version);
  if (type === "address-port") return { name, key: [KEY_TYPES[version], "inet_proto", "inet_service"] };
  return { name, key: [KEY_TYPES[version]], ...(type === "prefix" ? { intervals: true } : {}) };
}

/** "10.0.0.1,tcp:80" is "10.0.0.1 . tcp . 80". */
function portKey(member: SetMember): string {
  const comma = member.indexOf(",");
  const colon = member.indexOf(":", comma);
  return `${member.slice(0, comma)} . ${member.slice(comma + 1, colon)} . ${member.slice(colon + 1)}`;
}

function isV6Member(member: SetMember): boolean {
  const comma = member.indexOf(",");
  return (comma === -1 ? member : member.slice(0, comma)).includes(":");
}
