/**
 * Sets of addresses (and of addresses with named ports) of the endpoints that a selector matches, as shards for the nodes that use them.
 *
 * A set takes a selector from the index, and keeps members, only while some node uses it: a policy that applies to nothing costs nothing.
 * Invariant: in a set with an audience, the members are those of the selector's endpoints, each as often as endpoints state it.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import type { NodeName } from "../model/names.ts";
import type { RecordKey, SetMember, SetShard, SetType } from "../model/record.ts";
import { parseSelector } from "../selector/parse-selector.ts";
import type { Selector } from "../selector/selector.ts";
import { Audience, type AudienceDelta, audienceDifference, NO_NODES } from "./audience.ts";
import type { EndpointState } from "./endpoint.ts";
import type { IndexedSelector, MatchListener } from "./label-index.ts";
import type { Ledger } from "./ledger.ts";
import type { SelectorIndex } from "./selector-index.ts";
import { portProtocolName } from "./set-member.ts";
import { SetTrie } from "./set-trie.ts";
import { SmallMap, type SmallSet } from "./small-collections.ts";

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

/** A subject of policies, as sets see it. */
export interface SetUser {
  /** Nodes with an endpoint of the subject. */
  readonly audience: Audience;
  /** Sets that its policies use. */
  readonly uses: SmallSet<AddressSet>;
  /** Those of them that other subjects' policies use too: they must hear of each node that enters or leaves. */
  readonly joint: SmallSet<AddressSet>;
}

/**
 * One set, used by at least one policy. Its audience is that of the subject whose policies use it, the same object; only a set of several subjects
 * counts nodes itself (10,000 policies of one subject, each with peers of its own, would count 10,000 times 1,000 nodes).
 */
export class AddressSet implements MatchListener<EndpointState> {
  readonly use: SetUse;
  readonly type: SetType;
  /** Policies that use it, whether they apply to something or not. */
  references = 0;
  readonly #index: SelectorIndex<EndpointState>;
  readonly #onDirty: (set: AddressSet) => void;
  /** Subjects, with the number of their policies that use it. */
  readonly #users = new SmallMap<SetUser, number>();
  /** While there are several subjects: how many of them each node has. */
  #joint: Audience | undefined;
  #live: { readonly entry: IndexedSelector<EndpointState>; readonly trie: SetTrie } | undefined;
  /** What the last commit said. */
  #committed: { readonly audience: Audience; readonly shards: Map<string, SetShard> } | undefined;

  constructor(options: { readonly use: SetUse; readonly index: SelectorIndex<EndpointState>; readonly onDirty: (set: AddressSet) => void }) {
    this.use = options.use;
    this.type = options.use.port === undefined ? "address" : "address-port";
    this.#index = options.index;
    this.#onDirty = options.onDirty;
  }

  /** Nodes with subjects of policies that use it; undefined: no policy with a subject does. */
  get audience(): Audience | undefined {
    if (this.#joint !== undefined) return this.#joint;
    for (const user of this.#users.keys()) return user.audience;
    return undefined;
  }

  /** One more policy of the subject uses it. */
  addUser(user: SetUser): void {
    const count = this.#users.get(user) ?? 0;
    this.#users.set(user, count + 1);
    if (count > 0) return;
    this.#onDirty(this);
    user.uses.add(this);
    if (this.#users.size === 1) return;
    if (this.#joint === undefined) {
      this.#joint = new Audience();
      for (const each of this.#users.keys()) this.#join(each, this.#joint);
    } else this.#join(user, this.#joint);
  }

  /** One policy of the subject less uses it. */
  removeUser(user: SetUser): void {
    const count = this.#users.get(user) ?? 0;
    if (count > 1) {
      this.#users.set(user, count - 1);
      return;
    }
    this.#users.delete(user);
    this.#onDirty(this);
    user.uses.delete(this);
    user.joint.delete(this);
    if (this.#joint === undefined) return;
    if (this.#users.size > 1) {
      for (const node of user.audience.nodes()) this.#joint.release(node);
      return;
    }
    this.#joint = undefined;
    for (const last of this.#users.keys()) last.joint.delete(this);
  }

  /** A subject among several has its first endpoint on the node. */
  nodeEntered(node: NodeName): void {
    if (this.#joint?.acquire(node) === true) this.#onDirty(this);
  }

  /** A subject among several has lost its last endpoint on the node. */
  nodeLeft(node: NodeName): void {
    if (this.#joint?.release(node) === true) this.#onDirty(this);
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
    const before = this.#committed;
    const { audience } = this;
    if (audience === undefined || audience.isEmpty) {
      const lost = before?.audience.before() ?? NO_NODES;
      for (const shard of before?.shards.keys() ?? []) ledger.remove(this.#key(shard), lost);
      this.#stop();
      this.#joint?.settle();
      return;
    }
    const trie = this.#start();
    const dirty = trie.takeDirty();
    if (before === undefined) {
      const shards = new Map<string, SetShard>();
      const added: AudienceDelta = { entered: audience.sorted(), left: NO_NODES };
      for (const prefix of trie.prefixes()) this.#put(ledger, shards, prefix, trie.shard(prefix) ?? [], added);
      this.#committed = { audience, shards };
      this.#joint?.settle();
      return;
    }
    const { shards } = before;
    const delta = before.audience === audience ? audience.delta() : audienceDifference(before.audience.before(), audience.sorted());
    if (delta.entered.length > 0 || delta.left.length > 0) {
      for (const prefix of shards.keys()) if (!dirty.has(prefix)) ledger.move(this.#key(prefix), delta);
    }
    for (const prefix of dirty) {
      const members = trie.shard(prefix);
      const known = shards.get(prefix);
      if (members === undefined) {
        if (shards.delete(prefix)) ledger.remove(this.#key(prefix), before.audience.before());
      } else if (known === undefined) this.#put(ledger, shards, prefix, members, { entered: audience.sorted(), left: NO_NODES });
      else if (sameMembers(known.members, members)) ledger.move(this.#key(prefix), delta);
      else this.#put(ledger, shards, prefix, members, delta);
    }
    this.#committed = { audience, shards };
    this.#joint?.settle();
  }

  #put(ledger: Ledger, shards: Map<string, SetShard>, shard: string, members: readonly SetMember[], delta: AudienceDelta): void {
    const value: SetShard = { kind: "set", id: this.use.id, shard, type: this.type, members };
    shards.set(shard, value);
    ledger.put(this.#key(shard), value, delta);
  }

  #join(user: SetUser, joint: Audience): void {
    user.joint.add(this);
    for (const node of user.audience.nodes()) joint.acquire(node);
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
    this.#committed = undefined;
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

  find(id: string): AddressSet | undefined {
    return this.#sets.get(id);
  }

  /** `moved`: subjects of which the audience changed since the last commit. */
  commit(ledger: Ledger, moved: Iterable<SetUser>): void {
    for (const user of moved) for (const set of user.uses) this.#dirty.add(set);
    for (const set of this.#dirty) {
      set.commit(ledger);
      if (set.references === 0) this.#sets.delete(set.use.id);
    }
    this.#dirty.clear();
  }
}

function sameMembers(a: readonly SetMember[], b: readonly SetMember[]): boolean {
  return a === b || (a.length === b.length && a.every((member, i) => member === b[i]));
}
