/**
 * Sets of addresses (and of addresses with named ports) of the endpoints that a selector matches, as shards for the nodes that use them.
 *
 * A set takes a selector from the index, and keeps members, only while some node uses it: a policy that applies to nothing costs nothing.
 * Invariant: in a set with an audience, the members are those of the selector's endpoints, each as often as endpoints state it.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import type { RecordKey, SetMember, SetShard, SetType } from "../model/record.ts";
import { parseSelector } from "../selector/parse-selector.ts";
import type { Selector } from "../selector/selector.ts";
import { Audience, NO_NODES } from "./audience.ts";
import type { EndpointState } from "./endpoint.ts";
import type { IndexedSelector, MatchListener } from "./label-index.ts";
import type { Ledger } from "./ledger.ts";
import type { SelectorIndex } from "./selector-index.ts";
import { portProtocolName } from "./set-member.ts";
import { SetTrie } from "./set-trie.ts";

const ALL_ENDPOINTS = parseSelector("all()");
/** 160 bits: collisions are out of reach, and the id stays as short as a selector's. */
const PORT_SET_ID_BYTES = 20;

/** What a set is made of. Equal uses have equal ids. */
export interface SetUse {
  readonly id: string;
  readonly selector: Selector;
  /** undefined: addresses alone. */
  readonly port: { readonly name: string; readonly protocol: number } | undefined;
}

export function addressSetUse(selector: Selector): SetUse {
  return { id: selector.id, selector, port: undefined };
}

/** Without a selector: every endpoint. */
export function portSetUse(options: { readonly selector: Selector | undefined; readonly port: string; readonly protocol: number }): SetUse {
  const scope = options.selector === undefined ? "all" : options.selector.id;
  const digest = sha256(utf8ToBytes(`${scope}\0${options.port}\0${options.protocol}`));
  const id = `n:${bytesToHex(digest.subarray(0, PORT_SET_ID_BYTES))}`;
  return { id, selector: options.selector ?? ALL_ENDPOINTS, port: { name: options.port, protocol: options.protocol } };
}

/** One set, used by at least one policy. */
export class AddressSet implements MatchListener<EndpointState> {
  readonly use: SetUse;
  readonly type: SetType;
  /** Nodes with subjects of policies that use it. */
  readonly audience = new Audience();
  /** Policies that use it. */
  references = 0;
  readonly #index: SelectorIndex<EndpointState>;
  readonly #onDirty: (set: AddressSet) => void;
  #live: { readonly entry: IndexedSelector<EndpointState>; readonly trie: SetTrie } | undefined;
  #shards: Map<string, SetShard> | undefined;

  constructor(options: { readonly use: SetUse; readonly index: SelectorIndex<EndpointState>; readonly onDirty: (set: AddressSet) => void }) {
    this.use = options.use;
    this.type = options.use.port === undefined ? "address" : "address-port";
    this.#index = options.index;
    this.#onDirty = options.onDirty;
  }

  /** Number of members; 0 while no node uses the set. */
  get size(): number {
    return this.#live?.trie.size ?? 0;
  }

  matched(endpoint: EndpointState): void {
    this.changed(endpoint);
  }

  unmatched(endpoint: EndpointState): void {
    this.changing(endpoint);
  }

  changing(endpoint: EndpointState): void {
    const trie = this.#live?.trie;
    if (trie === undefined) return;
    for (const member of this.#membersOf(endpoint)) trie.remove(member);
    this.#onDirty(this);
  }

  changed(endpoint: EndpointState): void {
    const trie = this.#live?.trie;
    if (trie === undefined) return;
    for (const member of this.#membersOf(endpoint)) trie.add(member);
    this.#onDirty(this);
  }

  /** Brings the ledger's shards in line with members and audience. */
  commit(ledger: Ledger): void {
    const before = this.#shards;
    if (this.audience.isEmpty) {
      const lost = this.audience.before();
      for (const shard of before?.keys() ?? []) ledger.remove(this.#key(shard), lost);
      this.#stop();
      return;
    }
    const trie = this.#start();
    const shards = before ?? new Map<string, SetShard>();
    this.#shards = shards;
    const dirty = trie.takeDirty();
    const delta = this.audience.delta();
    if (delta.entered.length > 0 || delta.left.length > 0) {
      for (const shard of shards.keys()) if (!dirty.has(shard)) ledger.move(this.#key(shard), delta);
    }
    for (const prefix of before === undefined ? trie.prefixes() : dirty) {
      const members = trie.shard(prefix);
      const known = shards.get(prefix);
      if (members === undefined) {
        if (known === undefined) continue;
        shards.delete(prefix);
        ledger.remove(this.#key(prefix), this.audience.before());
      } else if (known === undefined) {
        const value = this.#shardValue(prefix, members);
        shards.set(prefix, value);
        ledger.put(this.#key(prefix), value, { entered: this.audience.sorted(), left: NO_NODES });
      } else if (sameMembers(known.members, members)) ledger.move(this.#key(prefix), delta);
      else {
        const value = this.#shardValue(prefix, members);
        shards.set(prefix, value);
        ledger.put(this.#key(prefix), value, delta);
      }
    }
  }

  #start(): SetTrie {
    if (this.#live !== undefined) return this.#live.trie;
    const entry = this.#index.acquire(this.use.selector);
    const trie = new SetTrie();
    this.#live = { entry, trie };
    for (const endpoint of entry.matches) for (const member of this.#membersOf(endpoint)) trie.add(member);
    entry.listeners.add(this);
    return trie;
  }

  #stop(): void {
    if (this.#live === undefined) return;
    this.#live.entry.listeners.delete(this);
    this.#index.release(this.#live.entry);
    this.#live = undefined;
    this.#shards = undefined;
  }

  #membersOf(endpoint: EndpointState): readonly SetMember[] {
    const { port } = this.use;
    if (port === undefined) return endpoint.addresses;
    const protocol = portProtocolName(port.protocol);
    const members: SetMember[] = [];
    if (protocol === undefined) return members;
    for (const named of endpoint.namedPorts) {
      if (named.name !== port.name || named.protocol.toLowerCase() !== protocol) continue;
      for (const address of endpoint.addresses) members.push(`${address},${protocol}:${named.port}`);
    }
    return members;
  }

  #shardValue(shard: string, members: readonly SetMember[]): SetShard {
    return { kind: "set", id: this.use.id, shard, type: this.type, members };
  }

  #key(shard: string): RecordKey {
    return `set/${this.use.id}/${shard}`;
  }
}

/** All sets that policies name. */
export class AddressSets {
  readonly #index: SelectorIndex<EndpointState>;
  readonly #sets = new Map<string, AddressSet>();
  readonly #dirty = new Set<AddressSet>();
  readonly #markDirty = (set: AddressSet): void => {
    this.#dirty.add(set);
  };

  constructor(index: SelectorIndex<EndpointState>) {
    this.#index = index;
  }

  acquire(use: SetUse): AddressSet {
    let set = this.#sets.get(use.id);
    if (set === undefined) {
      set = new AddressSet({ use, index: this.#index, onDirty: this.#markDirty });
      this.#sets.set(use.id, set);
    }
    set.references++;
    return set;
  }

  /** Gives a policy's reference back. The set is forgotten at the next commit, if no policy takes it up before. */
  release(set: AddressSet): void {
    set.references--;
    this.#dirty.add(set);
  }

  /** The audience of the set has changed. */
  audienceChanged(set: AddressSet): void {
    this.#dirty.add(set);
  }

  find(id: string): AddressSet | undefined {
    return this.#sets.get(id);
  }

  commit(ledger: Ledger): void {
    for (const set of this.#dirty) {
      set.commit(ledger);
      set.audience.settle();
      if (set.references === 0) this.#sets.delete(set.use.id);
    }
    this.#dirty.clear();
  }
}

function sameMembers(a: readonly SetMember[], b: readonly SetMember[]): boolean {
  return a === b || (a.length === b.length && a.every((member, i) => member === b[i]));
}
