/**
 * Floating addresses: what pods ask for by the annotation cni.projectcalico.org/floatingIPs, and who has which.
 *
 * An address is given to the oldest pod that asks for it (of the same second: the first by namespace and name), if it is in a pool, no pod's own, and
 * allocated to nobody in its block; a pod without an address of that family cannot have it. What is given is reserved: every node has it in the record that
 * routes it, and gives it to no pod of its own; servers lend it to nobody (`nodeOf`). What a pod does not get is a problem of that pod, which is connected all the same.
 * Invariant: who has what depends on the present cluster only, so that servers agree. Nothing is kept of pods that ask for none, beyond that their own
 * addresses are looked up while others ask for them; a change costs a look at all pods that ask. Off, nobody is given any: routes and translation are one switch.
 */
import type { Problem } from "../model/event.ts";
import type { NodeName, PodKey } from "../model/names.ts";
import type { IpamBlock, Pod, ResourceKey } from "../model/resource.ts";
import { type Cidr, cidrContains } from "../net/cidr.ts";
import { compareIps, type IpAddress, ipVersion, tryParseIp } from "../net/ip.ts";
import { isSameValue } from "./same-value.ts";

interface Wish {
  readonly asked: NonNullable<Pod["floating"]>;
  readonly key: ResourceKey;
  readonly node: NodeName;
  readonly wanted: readonly IpAddress[];
  /** Why the annotation says nothing. */
  readonly malformed: string | undefined;
  /** The pod's own. */
  own: readonly IpAddress[];
}

/** What `settle` found changed. */
export interface FloatingChanges {
  readonly pods: ReadonlySet<PodKey>;
  readonly nodes: ReadonlySet<NodeName>;
}

const FIELD = "metadata.annotations[cni.projectcalico.org/floatingIPs]";
const NONE: readonly IpAddress[] = [];

export class Floating {
  readonly #isEnabledHere: boolean;
  #isEnabled: boolean;
  readonly #onProblems: (key: ResourceKey, problems: readonly Problem[]) => void;
  readonly #pools = new Map<string, Cidr>();
  readonly #wishes = new Map<PodKey, Wish>();
  /** Of addresses that anybody asks for: the pods whose own they are. */
  readonly #owners = new Map<IpAddress, Set<PodKey>>();
  /** The same for who has them by the blocks: text for a person, by block. */
  readonly #allocated = new Map<IpAddress, Map<string, string>>();
  /** As they are, not copied. */
  readonly #blocks = new Map<string, IpamBlock>();
  readonly #given = new Map<PodKey, readonly IpAddress[]>();
  readonly #ofNode = new Map<NodeName, readonly IpAddress[]>();
  #isDirty = false;

  constructor(options: { readonly isEnabled: boolean; readonly onProblems: (key: ResourceKey, problems: readonly Problem[]) => void }) {
    this.#isEnabledHere = options.isEnabled;
    this.#isEnabled = options.isEnabled;
    this.#onProblems = options.onProblems;
  }

  /** What the cluster says; undefined: as the server was started. */
  setEnabled(isEnabled: boolean | undefined): void {
    const wanted = isEnabled ?? this.#isEnabledHere;
    if (wanted === this.#isEnabled) return;
    this.#isEnabled = wanted;
    this.#isDirty ||= this.#wishes.size > 0;
  }

  setPool(name: string, cidr: Cidr | undefined): void {
    if (this.#pools.get(name) === cidr) return;
    if (cidr === undefined) this.#pools.delete(name);
    else this.#pools.set(name, cidr);
    this.#isDirty ||= this.#wishes.size > 0;
  }

  /** undefined: gone. */
  setBlock(name: string, block: IpamBlock | undefined): void {
    if (block === undefined || block.isDeleted) this.#blocks.delete(name);
    else this.#blocks.set(name, block);
    for (const [address, holders] of this.#allocated) {
      const after = holderIn(this.#blocks.get(name), address);
      if (holders.get(name) === after) continue;
      if (after === undefined) holders.delete(name);
      else holders.set(name, after);
      this.#isDirty = true;
    }
  }

  /** undefined: gone, or no endpoint. */
  setPod(pod: PodKey, wish: { readonly object: Pod; readonly node: NodeName; readonly own: readonly IpAddress[] } | undefined): void {
    const before = this.#wishes.get(pod);
    const asked = wish?.object.floating;
    if (wish === undefined || asked === undefined) {
      if (before === undefined) return;
      this.#wishes.delete(pod);
      this.#onProblems(before.key, []);
      this.#isDirty = true;
      return;
    }
    const { object, node, own } = wish;
    if (before !== undefined && isSameValue(before.asked, asked) && before.node === node) {
      before.own = own;
      return;
    }
    const { addresses, malformed } = parseFloating(asked.text);
    const key = { kind: "Pod", namespace: object.namespace, name: object.name } as const;
    this.#wishes.set(pod, { asked, key, node, wanted: addresses, malformed, own });
    this.#isDirty = true;
  }

  /** A pod's own addresses are others. */
  readdressed(pod: PodKey, before: readonly IpAddress[], after: readonly IpAddress[]): void {
    const wish = this.#wishes.get(pod);
    if (wish !== undefined) {
      wish.own = after;
      this.#isDirty = true;
    }
    if (this.#owners.size === 0) return;
    for (const address of before) if (!after.includes(address) && this.#owners.get(address)?.delete(pod) === true) this.#isDirty = true;
    for (const address of after) this.#own(address, pod);
  }

  /** Who has what, after all changes. `pods`: all endpoints with their own addresses, gone through when an address is asked for that nobody asked for before. */
  settle(pods: Iterable<{ readonly key: PodKey; readonly addresses: readonly IpAddress[] }>): FloatingChanges {
    const changed = { pods: new Set<PodKey>(), nodes: new Set<NodeName>() };
    if (!this.#isDirty) return changed;
    this.#isDirty = false;
    this.#lookUpOwners(pods);
    this.#lookUpAllocations();
    const ofNode = new Map<NodeName, IpAddress[]>();
    const holders = new Map<IpAddress, string>();
    for (const pod of this.#given.keys()) if (!this.#wishes.has(pod)) this.#give(pod, NONE, changed.pods);
    for (const [pod, wish] of [...this.#wishes].sort(byAge)) {
      const { given, problems } = this.#judge(pod, wish, holders);
      this.#give(pod, given, changed.pods);
      this.#onProblems(
        wish.key,
        problems.map((message) => ({ field: FIELD, message })),
      );
      const addresses = ofNode.get(wish.node);
      if (addresses !== undefined) addresses.push(...given);
      else if (given.length > 0) ofNode.set(wish.node, [...given]);
    }
    for (const node of new Set([...this.#ofNode.keys(), ...ofNode.keys()])) {
      const addresses = ofNode.get(node)?.sort(compareIps) ?? NONE;
      if (isSameValue(this.#ofNode.get(node) ?? NONE, addresses)) continue;
      if (addresses.length === 0) this.#ofNode.delete(node);
      else this.#ofNode.set(node, addresses);
      changed.nodes.add(node);
    }
    return changed;
  }

  /** Sorted; empty: none. */
  addressesOf(pod: PodKey): readonly IpAddress[] {
    return this.#given.get(pod) ?? NONE;
  }

  /** Node of the pod that the address leads to; undefined: none. */
  nodeOf(address: IpAddress): NodeName | undefined {
    for (const [node, addresses] of this.#ofNode) if (addresses.includes(address)) return node;
    return undefined;
  }

  /** All of the node's pods, sorted. */
  addressesAt(node: NodeName): readonly IpAddress[] {
    return this.#ofNode.get(node) ?? NONE;
  }

  #give(pod: PodKey, addresses: readonly IpAddress[], changed: Set<PodKey>): void {
    if (isSameValue(this.addressesOf(pod), addresses)) return;
    if (addresses.length === 0) this.#given.delete(pod);
    else this.#given.set(pod, addresses);
    changed.add(pod);
  }

  #judge(pod: PodKey, { wanted, malformed, own }: Wish, holders: Map<IpAddress, string>): { given: readonly IpAddress[]; problems: readonly string[] } {
    if (!this.#isEnabled)
      return {
        given: NONE,
        problems: [
          "floating addresses are off: set floatingIPs: Enabled in FelixConfiguration default (or start the fan-out servers with --floating-ips), or take it away",
        ],
      };
    if (malformed !== undefined) return { given: NONE, problems: [malformed] };
    const problems: string[] = [];
    const given = wanted.filter((address) => {
      const problem = this.#problemOf(address, { own, holder: holders.get(address) });
      if (problem === undefined) holders.set(address, pod);
      else problems.push(`${address}: ${problem}; the pod goes without it`);
      return problem === undefined;
    });
    return { given, problems };
  }

  #problemOf(address: IpAddress, { own, holder }: { readonly own: readonly IpAddress[]; readonly holder: string | undefined }): string | undefined {
    if (![...this.#pools.values()].some((cidr) => cidrContains(cidr, address))) return "no IPPool has it; make one, or take an address of one";
    const [owner] = [...(this.#owners.get(address) ?? [])].sort();
    if (owner !== undefined) return `it is the own address of pod ${owner}; take another`;
    const [allocated] = [...(this.#allocated.get(address) ?? [])].sort(([a], [b]) => (a < b ? -1 : 1));
    if (allocated !== undefined) return `IPAMBlock ${allocated[0]} has it allocated to ${allocated[1]}; take another`;
    if (own.length > 0 && !own.some((one) => ipVersion(one) === ipVersion(address)))
      return `the pod has no IPv${ipVersion(address)} address that it could lead to`;
    return holder === undefined ? undefined : `pod ${holder} has it, which comes first by age, then name; take another`;
  }

  #own(address: IpAddress, pod: PodKey): void {
    const owners = this.#owners.get(address);
    if (owners === undefined || owners.has(pod)) return;
    owners.add(pod);
    this.#isDirty = true;
  }

  #lookUpOwners(pods: Iterable<{ readonly key: PodKey; readonly addresses: readonly IpAddress[] }>): void {
    const wanted = new Set([...this.#wishes.values()].flatMap((wish) => wish.wanted));
    for (const address of this.#owners.keys()) if (!wanted.has(address)) this.#owners.delete(address);
    const fresh = new Map([...wanted].filter((address) => !this.#owners.has(address)).map((address) => [address, new Set<PodKey>()]));
    if (fresh.size === 0) return;
    for (const { key, addresses } of pods) for (const address of addresses) fresh.get(address)?.add(key);
    for (const [address, owners] of fresh) this.#owners.set(address, owners);
  }

  #lookUpAllocations(): void {
    for (const address of this.#allocated.keys()) if (!this.#owners.has(address)) this.#allocated.delete(address);
    const fresh = [...this.#owners.keys()].filter((address) => !this.#allocated.has(address));
    for (const address of fresh) this.#allocated.set(address, new Map());
    if (fresh.length === 0) return;
    for (const [name, block] of this.#blocks)
      for (const address of fresh) {
        const holder = holderIn(block, address);
        if (holder !== undefined) this.#allocated.get(address)?.set(name, holder);
      }
  }
}

/** Who has the address by the block, for a person. */
function holderIn(block: IpamBlock | undefined, address: IpAddress): string | undefined {
  if (block === undefined || !cidrContains(block.cidr, address)) return undefined;
  const found = block.allocations.find((allocation) => allocation.address === address);
  if (found === undefined) return undefined;
  if (found.pod !== undefined) return `pod ${found.pod}`;
  return found.loan === undefined ? `handle ${found.handle}` : `node ${found.node ?? "unknown"}, which has borrowed it or asks for it`;
}

function byAge([aKey, a]: readonly [PodKey, Wish], [bKey, b]: readonly [PodKey, Wish]): number {
  if (a.asked.createdAt !== b.asked.createdAt) return a.asked.createdAt < b.asked.createdAt ? -1 : 1;
  return aKey < bKey ? -1 : 1;
}

/** A JSON list of addresses; what is wrong with any of them is wrong with all. */
function parseFloating(text: string): { readonly addresses: readonly IpAddress[]; readonly malformed: string | undefined } {
  const malformed = (what: string) => ({
    addresses: NONE,
    malformed: `${what}; want a JSON list of addresses, for example ["10.0.0.1"]; the pod goes without`,
  });
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    return malformed("it is not JSON");
  }
  if (!Array.isArray(list)) return malformed("it is not a list");
  const addresses: IpAddress[] = [];
  for (const item of list) {
    const address = typeof item === "string" ? tryParseIp(item) : undefined;
    if (address === undefined) return malformed(`${JSON.stringify(item)} is not an IP address`);
    if (!addresses.includes(address)) addresses.push(address);
  }
  return { addresses: addresses.sort(compareIps), malformed: undefined };
}
