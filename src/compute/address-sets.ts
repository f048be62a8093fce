/**
 * Sets as shards for the nodes that use them.
 *
 * A set takes members from its source only while some node uses it: a policy that applies to nothing costs nothing.
 * Invariant: in a set with an audience, the members are those of its source, each as often as something states it. Prefixes are a trie of their own, whose
 * shards have a mark before their bits.
 */
import type { NodeName } from "../model/names.ts";
import type { RecordKey, SetMember, SetShard, SetType } from "../model/record.ts";
import { Audience, type AudienceDelta, audienceDifference, NO_NODES } from "./audience.ts";
import type { Ledger } from "./ledger.ts";
import type { MemberSink, MemberSource } from "./member-source.ts";
import { type SetSources, type SetUse, setTypeOf, sourceOf } from "./set-source.ts";
import { SetTrie } from "./set-trie.ts";
import { SmallMap, type SmallSet } from "./small-collections.ts";

/** Before the bits of a shard of prefixes. */
const PREFIX_MARK = "n";

/** Members of one type. */
interface Part {
  readonly mark: string;
  readonly type: SetType;
  readonly trie: SetTrie;
}

interface Live {
  readonly source: MemberSource;
  readonly members: Part;
  /** Once there was a prefix. */
  prefixes: Part | undefined;
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
export class AddressSet implements MemberSink {
  readonly use: SetUse;
  /** Policies that use it, whether they apply to something or not. */
  references = 0;
  readonly #sources: SetSources;
  readonly #onDirty: (set: AddressSet) => void;
  /** Subjects, with the number of their policies that use it. */
  readonly #users = new SmallMap<SetUser, number>();
  /** While there are several subjects: how many of them each node has. */
  #joint: Audience | undefined;
  #live: Live | undefined;
  /** What the last commit said. */
  #committed: { readonly audience: Audience; readonly shards: SmallMap<string, SetShard> } | undefined;

  constructor(options: { readonly use: SetUse; readonly sources: SetSources; readonly onDirty: (set: AddressSet) => void }) {
    this.use = options.use;
    this.#sources = options.sources;
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
    return (this.#live?.members.trie.size ?? 0) + (this.#live?.prefixes?.trie.size ?? 0);
  }

  add(member: SetMember): void {
    this.#partFor(member)?.trie.add(member);
    this.#onDirty(this);
  }

  remove(member: SetMember): void {
    this.#partFor(member)?.trie.remove(member);
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
    const live = this.#start();
    const parts = live.prefixes === undefined ? [live.members] : [live.members, live.prefixes];
    const shards = before?.shards ?? new SmallMap<string, SetShard>();
    const added: AudienceDelta = { entered: audience.sorted(), left: NO_NODES };
    if (before === undefined) {
      for (const part of parts) {
        part.trie.takeDirty();
        for (const prefix of part.trie.prefixes()) this.#put(ledger, shards, part, prefix, part.trie.shard(prefix) ?? [], added);
      }
    } else {
      const delta = before.audience === audience ? audience.delta() : audienceDifference(before.audience.before(), audience.sorted());
      const dirty = parts.map((part) => ({ part, prefixes: part.trie.takeDirty() }));
      if (delta.entered.length > 0 || delta.left.length > 0) {
        const touched = new Set(dirty.flatMap(({ part, prefixes }) => [...prefixes].map((prefix) => part.mark + prefix)));
        for (const shard of shards.keys()) if (!touched.has(shard)) ledger.move(this.#key(shard), delta);
      }
      for (const { part, prefixes } of dirty) {
        for (const prefix of prefixes) {
          const shard = part.mark + prefix;
          const members = part.trie.shard(prefix);
          const known = shards.get(shard);
          if (members === undefined) {
            if (shards.delete(shard)) ledger.remove(this.#key(shard), before.audience.before());
          } else if (known === undefined) this.#put(ledger, shards, part, prefix, members, added);
          else if (sameMembers(known.members, members)) ledger.move(this.#key(shard), delta);
          else this.#put(ledger, shards, part, prefix, members, delta);
        }
      }
    }
    this.#committed = { audience, shards };
    this.#joint?.settle();
  }

  #put(ledger: Ledger, shards: SmallMap<string, SetShard>, part: Part, prefix: string, members: readonly SetMember[], delta: AudienceDelta): void {
    const shard = part.mark + prefix;
    const value: SetShard = { kind: "set", id: this.use.id, shard, type: part.type, members };
    shards.set(shard, value);
    ledger.put(this.#key(shard), value, delta);
  }

  #join(user: SetUser, joint: Audience): void {
    user.joint.add(this);
    for (const node of user.audience.nodes()) joint.acquire(node);
  }

  #start(): Live {
    if (this.#live !== undefined) return this.#live;
    const source = sourceOf(this.use, this.#sources);
    const live: Live = { source, members: { mark: "", type: setTypeOf(this.use), trie: new SetTrie() }, prefixes: undefined };
    this.#live = live;
    source.start(this);
    return live;
  }

  #stop(): void {
    if (this.#live === undefined) return;
    this.#live.source.stop();
    this.#live = undefined;
    this.#committed = undefined;
  }

  #partFor(member: SetMember): Part | undefined {
    const live = this.#live;
    if (live === undefined || !member.includes("/")) return live?.members;
    live.prefixes ??= { mark: PREFIX_MARK, type: "prefix", trie: new SetTrie() };
    return live.prefixes;
  }

  #key(shard: string): RecordKey {
    return `set/${this.use.id}/${shard}`;
  }
}

/** All sets that policies name. */
export class AddressSets {
  readonly #sources: SetSources;
  readonly #sets = new Map<string, AddressSet>();
  readonly #dirty = new Set<AddressSet>();
  readonly #markDirty = (set: AddressSet): void => {
    this.#dirty.add(set);
  };

  constructor(sources: SetSources) {
    this.#sources = sources;
  }

  acquire(use: SetUse): AddressSet {
    let set = this.#sets.get(use.id);
    if (set === undefined) {
      set = new AddressSet({ use, sources: this.#sources, onDirty: this.#markDirty });
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
