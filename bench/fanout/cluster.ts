/**
 * A generated cluster in place of the API: what is there at the start, and changes of which it is known beforehand whom they concern.
 *
 * Each policy selects the pods of a namespace of its own, one on each of 20 nodes, and lets in the pods of a second namespace, which live on the same
 * nodes: a pod there that comes or goes changes one address set, and so concerns exactly those 20 nodes. Invariant: equal shapes give equal events.
 */
import type { ClusterEvent } from "../../src/model/event.ts";
import type { NamespaceName, NodeName } from "../../src/model/names.ts";
import type { Labels, Resource } from "../../src/model/resource.ts";
import type { Cidr } from "../../src/net/cidr.ts";
import type { IpAddress } from "../../src/net/ip.ts";
import { Random } from "./random.ts";
import type { ChangeKind } from "./scenarios.ts";

export interface ClusterShape {
  /** Nodes that have an agent: the first so many. */
  readonly agents: number;
  readonly nodes: number;
  readonly podsPerNode: number;
  readonly policies: number;
  readonly seed: number;
}

/** What the source would deliver for one change of the cluster. */
export interface Change {
  readonly events: readonly ClusterEvent[];
  /** Numbers of the nodes concerned; undefined: all. */
  readonly concerns: readonly number[] | undefined;
}

/** Nodes that a scoped change concerns (fewer when there are fewer agents). */
export const CONCERNED_NODES = 20;
const PEERS = 16;
const BLOCK_SIZE = 64;

interface Group {
  readonly nodes: readonly number[];
  readonly peers: { readonly node: number; readonly address: IpAddress; isThere: boolean }[];
}

export function nodeName(index: number): NodeName {
  return `node-${String(index).padStart(5, "0")}` as NodeName;
}

export class Cluster {
  readonly #shape: ClusterShape;
  readonly #random: Random;
  readonly #used: number[];
  readonly #groups: Group[] = [];
  readonly #hasSecondAddress: boolean[] = [];
  #version = 1;
  #pods = 0;

  constructor(shape: ClusterShape) {
    this.#shape = shape;
    this.#random = new Random(shape.seed);
    this.#used = Array.from({ length: shape.nodes }, () => 0);
  }

  get pods(): number {
    return this.#pods;
  }

  /** Everything that exists at the start, and that this is all. Once. */
  *initial(): Generator<ClusterEvent> {
    const { nodes, podsPerNode, policies, agents } = this.#shape;
    yield { kind: "status", status: "wait-for-datastore" };
    yield upsert({
      kind: "IPPool",
      name: "default",
      resourceVersion: "1",
      cidr: "100.64.0.0/10" as Cidr,
      blockSize: 26,
      natOutgoing: true,
      disabled: false,
      nodeSelector: "all()",
    });
    for (let node = 0; node < nodes; node++) {
      const cidr = `${addressAt(blockStart(node))}/26` as Cidr;
      yield this.#node(node);
      yield upsert({ kind: "IPAMBlock", name: `block-${node}`, resourceVersion: "1", cidr, node: nodeName(node), allocations: [], isDeleted: false });
      yield upsert({ kind: "BlockAffinity", name: `affinity-${node}`, resourceVersion: "1", node: nodeName(node), cidr, state: "confirmed", isDeleted: false });
    }
    for (let group = 0; group < policies; group++) yield* this.#group(group, this.#random.distinct(CONCERNED_NODES, agents));
    yield namespace("others", {});
    for (let node = 0; node < nodes; node++) {
      while ((this.#used[node] ?? 0) < podsPerNode)
        yield this.#pod({ space: "others", name: `other-${node}-${this.#used[node]}`, node, address: this.#allocate(node) });
    }
    yield { kind: "status", status: "in-sync" };
  }

  /** The next change of the kind. */
  change(kind: ChangeKind): Change {
    switch (kind) {
      case "broadcast":
        return this.#toggleAddress(this.#random.below(this.#shape.nodes));
      case "hot":
        return this.#toggleAddress(0);
      case "scoped":
        return this.#togglePeer();
    }
  }

  *#group(index: number, nodes: readonly number[]): Generator<ClusterEvent> {
    yield namespace(`team-${index}`, { team: String(index) });
    yield namespace(`front-${index}`, { "peers-of": String(index) });
    for (const node of nodes) yield this.#pod({ space: `team-${index}`, name: `web-${node}`, node, address: this.#allocate(node) });
    const group: Group = { nodes, peers: [] };
    for (let peer = 0; peer < PEERS; peer++) {
      const node = nodes[peer % nodes.length] ?? 0;
      const address = this.#allocate(node);
      group.peers.push({ node, address, isThere: true });
      yield this.#pod({ space: `front-${index}`, name: `front-${peer}`, node, address });
    }
    this.#groups.push(group);
    yield upsert({
      kind: "NetworkPolicy",
      namespace: `team-${index}` as NamespaceName,
      name: "from-front",
      resourceVersion: "1",
      podSelector: { matchLabels: {}, matchExpressions: [] },
      policyTypes: ["Ingress"],
      ingress: [
        {
          peers: [
            {
              kind: "pods",
              podSelector: { matchLabels: {}, matchExpressions: [] },
              namespaceSelector: { matchLabels: { "peers-of": String(index) }, matchExpressions: [] },
            },
          ],
          ports: [{ protocol: "TCP", port: 8080, endPort: undefined }],
        },
      ],
      egress: [],
    });
  }

  #toggleAddress(node: number): Change {
    this.#hasSecondAddress[node] = this.#hasSecondAddress[node] !== true;
    return { events: [this.#node(node)], concerns: undefined };
  }

  #togglePeer(): Change {
    const index = this.#random.below(this.#groups.length);
    const group = this.#groups[index];
    const number = this.#random.below(PEERS);
    const peer = group?.peers[number];
    if (group === undefined || peer === undefined) throw new RangeError("a cluster without policies has no scoped changes");
    peer.isThere = !peer.isThere;
    const names = { space: `front-${index}`, name: `front-${number}` };
    if (!peer.isThere) return { events: [{ kind: "delete", key: { kind: "Pod", namespace: names.space, name: names.name } }], concerns: group.nodes };
    return { events: [this.#pod({ ...names, node: peer.node, address: peer.address })], concerns: group.nodes };
  }

  #node(index: number): ClusterEvent {
    const addresses = [`172.${16 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`];
    if (this.#hasSecondAddress[index] === true) addresses.push(`fd00::${(index + 1).toString(16)}`);
    return upsert({ kind: "Node", name: nodeName(index), resourceVersion: String(this.#version++), labels: {}, addresses: addresses as IpAddress[] });
  }

  #pod({ space, name, node, address }: { space: string; name: string; node: number; address: IpAddress }): ClusterEvent {
    this.#pods++;
    const version = this.#version++;
    return upsert({
      kind: "Pod",
      namespace: space as NamespaceName,
      name,
      uid: `00000000-0000-4000-8000-${version.toString(16).padStart(12, "0")}`,
      resourceVersion: String(version),
      labels: { app: name },
      node: nodeName(node),
      serviceAccount: "default",
      hostNetwork: false,
      isTerminated: false,
      addresses: [address],
      namedPorts: [],
    });
  }

  #allocate(node: number): IpAddress {
    const used = this.#used[node] ?? 0;
    if (used >= BLOCK_SIZE)
      throw new RangeError(`${nodeName(node)} would have more than ${BLOCK_SIZE} pods: lower --policies or --pods-per-node, or raise --agents`);
    this.#used[node] = used + 1;
    return addressAt(blockStart(node) + used);
  }
}

function upsert(resource: Resource): ClusterEvent {
  return { kind: "upsert", resource };
}

function namespace(name: string, labels: Labels): ClusterEvent {
  return upsert({ kind: "Namespace", name: name as NamespaceName, resourceVersion: "1", labels: { "kubernetes.io/metadata.name": name, ...labels } });
}

function blockStart(node: number): number {
  return 100 * 2 ** 24 + 64 * 2 ** 16 + node * BLOCK_SIZE;
}

function addressAt(number: number): IpAddress {
  return `${number >>> 24}.${(number >>> 16) & 255}.${(number >>> 8) & 255}.${number & 255}` as IpAddress;
}
