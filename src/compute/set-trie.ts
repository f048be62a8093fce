/**
 * A set of members cut into shards of at most 64: a binary trie by the leading bits of the members' hashes.
 *
 * Invariant: the shape follows from the content alone. A prefix is a leaf when at most 64 members have it and (it is the root or) more than 64
 * have the prefix one bit shorter. So one member changed is one shard changed, and two servers cut the same set alike.
 * A member is in the set once, however often it was added; it leaves with the last removal (two pods may state one address).
 * Leaves keep sorted arrays that are never changed in place: a record may hold them.
 * Members whose whole hash is equal (64 of them need to be) stay together in a leaf at the full depth of 32 bits.
 */
import type { SetMember } from "../model/record.ts";
import { compareMembers, memberHash } from "./set-member.ts";
import { SmallSet } from "./small-collections.ts";

/** Most members in one shard. */
export const MAX_SHARD_MEMBERS = 64;
const MAX_DEPTH = 32;
const NOTHING_DIRTY = new SmallSet<string>();

type TrieNode = Leaf | Fork;

interface Leaf {
  readonly kind: "leaf";
  members: readonly SetMember[];
}

interface Fork {
  readonly kind: "fork";
  size: number;
  zero: TrieNode;
  one: TrieNode;
}

export class SetTrie {
  #root: TrieNode = { kind: "leaf", members: [] };
  /** How often a member was added beyond the first time. */
  #extra: Map<SetMember, number> | undefined;
  #dirty: SmallSet<string> | undefined;

  /** Number of distinct members. */
  get size(): number {
    return sizeOf(this.#root);
  }

  add(member: SetMember): void {
    const hash = memberHash(member);
    const { leaf, depth, path } = this.#find(hash);
    const at = position(leaf.members, member);
    if (leaf.members[at] === member) {
      this.#extra ??= new Map();
      this.#extra.set(member, (this.#extra.get(member) ?? 0) + 1);
      return;
    }
    leaf.members = leaf.members.toSpliced(at, 0, member);
    this.#markDirty(prefixText(hash, depth));
    for (const fork of path) fork.size++;
    if (leaf.members.length > MAX_SHARD_MEMBERS && depth < MAX_DEPTH) this.#replace(path, depth, hash, this.#split(leaf, depth, prefixText(hash, depth)));
  }

  /** Takes one addition back. Throws for a member that is not there: the caller's counts are wrong. */
  remove(member: SetMember): void {
    const extra = this.#extra?.get(member);
    if (extra !== undefined) {
      if (extra > 1) this.#extra?.set(member, extra - 1);
      else this.#extra?.delete(member);
      return;
    }
    const hash = memberHash(member);
    const { leaf, depth, path } = this.#find(hash);
    const at = position(leaf.members, member);
    if (leaf.members[at] !== member) throw new Error(`set: ${member} is removed and was not in it`);
    leaf.members = leaf.members.toSpliced(at, 1);
    this.#markDirty(prefixText(hash, depth));
    for (const fork of path) fork.size--;
    const small = path.findIndex((fork) => fork.size <= MAX_SHARD_MEMBERS);
    const fork = path[small];
    if (fork === undefined) return;
    const prefix = prefixText(hash, small);
    this.#markDirty(prefix);
    this.#replace(path, small, hash, { kind: "leaf", members: this.#collect(fork, prefix).sort(compareMembers) });
  }

  /** Members of the shard; undefined when there is no such shard. */
  shard(prefix: string): readonly SetMember[] | undefined {
    let node = this.#root;
    for (const bit of prefix) {
      if (node.kind === "leaf") return undefined;
      node = bit === "0" ? node.zero : node.one;
    }
    return node.kind === "leaf" && node.members.length > 0 ? node.members : undefined;
  }

  /** Prefixes of all shards. */
  prefixes(): readonly string[] {
    const found: string[] = [];
    const walk = (node: TrieNode, prefix: string): void => {
      if (node.kind === "fork") {
        walk(node.zero, `${prefix}0`);
        walk(node.one, `${prefix}1`);
      } else if (node.members.length > 0) found.push(prefix);
    };
    walk(this.#root, "");
    return found;
  }

  /** Prefixes at which a shard may have come, gone or changed since the last call. */
  takeDirty(): SmallSet<string> {
    const dirty = this.#dirty ?? NOTHING_DIRTY;
    this.#dirty = undefined;
    return dirty;
  }

  #markDirty(prefix: string): void {
    this.#dirty ??= new SmallSet();
    this.#dirty.add(prefix);
  }

  #find(hash: number): { readonly leaf: Leaf; readonly depth: number; readonly path: readonly Fork[] } {
    const path: Fork[] = [];
    let node = this.#root;
    while (node.kind === "fork") {
      path.push(node);
      node = bitAt(hash, path.length - 1) === 0 ? node.zero : node.one;
    }
    return { leaf: node, depth: path.length, path };
  }

  /** Puts `node` at `depth` on the way to `hash`. */
  #replace(path: readonly Fork[], depth: number, hash: number, node: TrieNode): void {
    const parent = path[depth - 1];
    if (parent === undefined) this.#root = node;
    else if (bitAt(hash, depth - 1) === 0) parent.zero = node;
    else parent.one = node;
  }

  #split(leaf: Leaf, depth: number, prefix: string): TrieNode {
    if (leaf.members.length <= MAX_SHARD_MEMBERS || depth >= MAX_DEPTH) {
      this.#markDirty(prefix);
      return leaf;
    }
    const zero: SetMember[] = [];
    const one: SetMember[] = [];
    for (const member of leaf.members) (bitAt(memberHash(member), depth) === 0 ? zero : one).push(member);
    return {
      kind: "fork",
      size: leaf.members.length,
      zero: this.#split({ kind: "leaf", members: zero }, depth + 1, `${prefix}0`),
      one: this.#split({ kind: "leaf", members: one }, depth + 1, `${prefix}1`),
    };
  }

  #collect(node: TrieNode, prefix: string): SetMember[] {
    if (node.kind === "leaf") {
      this.#markDirty(prefix);
      return [...node.members];
    }
    return [...this.#collect(node.zero, `${prefix}0`), ...this.#collect(node.one, `${prefix}1`)];
  }
}

function sizeOf(node: TrieNode): number {
  return node.kind === "leaf" ? node.members.length : node.size;
}

function bitAt(hash: number, depth: number): number {
  return (hash >>> (31 - depth)) & 1;
}

/** The first `depth` bits of the hash, as text. */
function prefixText(hash: number, depth: number): string {
  let text = "";
  for (let i = 0; i < depth; i++) text += bitAt(hash, i) === 0 ? "0" : "1";
  return text;
}

/** Where the member is, or is to be put, in a sorted array. */
function position(members: readonly SetMember[], member: SetMember): number {
  let low = 0;
  let high = members.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareMembers(members[middle] ?? "", member) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
