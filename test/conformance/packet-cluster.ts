/**
 * A cluster for real packets: three nodes on one bridge, each pod a namespace of its own behind a link as the agent makes it, and one host outside.
 *
 * The way of the data is the program's own, in one process: manifests are parsed, compute turns them into records, each node gets those of its audience
 * as the wire carries them, and its plan goes into its own namespace's kernel as the difference to what is there. Only the sockets between are left out.
 */
import { KernelRoutes } from "../../agent/apply/kernel-routes.ts";
import { KernelTable } from "../../agent/apply/kernel-table.ts";
import { inNetns } from "../../agent/drivers/netlink/libc.ts";
import { NftDriver } from "../../agent/drivers/nftables/driver.ts";
import { RtnetlinkDriver } from "../../agent/drivers/rtnetlink/driver.ts";
import { EffectiveSettings } from "../../agent/plan/effective-settings.ts";
import type { PlannedEndpoint } from "../../agent/plan/planned-endpoint.ts";
import { desiredRoutes } from "../../agent/plan/routes.ts";
import { desiredRuleset, PlanCache } from "../../agent/plan/ruleset.ts";
import { createPodLinks } from "../../agent/pods/pod-link.ts";
import { type Commit, Compute } from "../../src/compute/compute.ts";
import { type PodKey, podKey } from "../../src/model/names.ts";
import { parseResource } from "../../src/model/parse-resource.ts";
import { type RecordKey, type RecordValue, SHARED_RECORD_KINDS } from "../../src/model/record.ts";
import { keyOf } from "../../src/model/resource.ts";
import { hostCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";
import { decodeRecord, encodeRecord } from "../../src/wire/record-codec.ts";
import { type Arrived, arrived } from "../fakes/arrived.ts";
import { createNetns, type Netns } from "../kernel/netns.ts";
import { PacketProber, type PlaceSpec } from "../kernel/packets.ts";
import { LISTENING_PORTS, OUTSIDE } from "./cases/world.ts";
import { allProbes, NODES, type PacketWorld, worldManifests } from "./packet-world.ts";

export interface ClusterOptions {
  /** What every place listens on. Absent: the cases' ports. */
  readonly ports?: readonly number[];
}

const SETTINGS = { interfacePrefix: "cali" };
const HASH_SEED = 1n;
const GATEWAY = { v4: "172.30.90.100", v6: "fd30:90::100" } as const;

interface PacketNode {
  readonly name: string;
  readonly netns: Netns;
  readonly nft: NftDriver;
  readonly rtnetlink: RtnetlinkDriver;
  readonly table: KernelTable;
  readonly routes: KernelRoutes;
  readonly cache: PlanCache;
  readonly settings: EffectiveSettings;
  readonly view: Map<RecordKey, RecordValue>;
  endpoints: readonly PlannedEndpoint[];
}

export class PacketCluster implements AsyncDisposable {
  readonly prober: PacketProber;
  readonly places: ReadonlyMap<string, PlaceSpec>;
  readonly #nodes: ReadonlyMap<string, PacketNode>;
  readonly #endpoints: ReadonlyMap<PodKey, PlannedEndpoint>;
  readonly #namespaces: readonly Netns[];
  readonly #compute = new Compute();
  readonly #audiences = new Map<RecordKey, Set<string>>();
  /** By key. */
  readonly #resources = new Map<string, Arrived & { readonly text: string }>();
  #operations = 0;

  private constructor(options: {
    readonly places: readonly PlaceSpec[];
    readonly nodes: ReadonlyMap<string, PacketNode>;
    readonly endpoints: ReadonlyMap<PodKey, PlannedEndpoint>;
    readonly namespaces: readonly Netns[];
    readonly ports: readonly number[];
  }) {
    this.places = new Map(options.places.map((place) => [place.name, place]));
    this.#nodes = options.nodes;
    this.#endpoints = options.endpoints;
    this.#namespaces = options.namespaces;
    this.prober = new PacketProber(options.places, options.ports);
  }

  /** Addresses and nodes of the pods stay as in this world; labels, ports and policies may change with `apply`. */
  static async create(prefix: string, world: PacketWorld, { ports = LISTENING_PORTS }: ClusterOptions = {}): Promise<PacketCluster> {
    const namespaces: Netns[] = [];
    const make = async (): Promise<Netns> => {
      const netns = await createNetns(prefix);
      namespaces.push(netns);
      // Duplicate address detection would keep neighbours silent for the first second.
      await netns.sysctl("net.ipv6.conf.default.accept_dad", "0");
      return netns;
    };
    try {
      const { fabric, outside } = { fabric: await make(), outside: await make() };
      await fabric.addBridge("br0");
      const uplink = async (netns: Netns, name: string, addresses: readonly string[]): Promise<void> => {
        await fabric.addVeth(name, { netns, link: "eth0", addresses }, { bridge: "br0" });
      };
      await uplink(outside, "outside", [`${GATEWAY.v4}/24`, `${GATEWAY.v6}/64`, `${OUTSIDE.v4}/32`, `${OUTSIDE.v6}/128`]);
      const places: PlaceSpec[] = [{ name: "outside", netns: outside.path, addresses: [parseIp(OUTSIDE.v4), parseIp(OUTSIDE.v6)], isUnguarded: true }];
      const nodes = new Map<string, PacketNode>();
      const endpoints = new Map<PodKey, PlannedEndpoint>();
      for (const { name, v4, v6 } of NODES) {
        const netns = await make();
        await netns.sysctl("net.ipv4.ip_forward", "1");
        await netns.sysctl("net.ipv6.conf.all.forwarding", "1");
        await uplink(netns, name, [`${v4}/24`, `${v6}/64`]);
        places.push({ name, netns: netns.path, addresses: [parseIp(v4), parseIp(v6)], isUnguarded: true });
        nodes.set(name, openNode(name, netns));
      }
      for (const pod of world.pods) {
        const netns = await make();
        const node = nodes.get(pod.node);
        if (node === undefined) throw new RangeError(`no node ${pod.node}`);
        const addresses = [parseIp(pod.v4), parseIp(pod.v6)];
        const interfaceName = `cali${places.length}`;
        const mac = `ee:00:00:00:00:${places.length.toString(16).padStart(2, "0")}`;
        inNetns(node.netns.path, () =>
          createPodLinks(node.rtnetlink).connect({ hostName: interfaceName, netns: netns.path, ifname: "eth0", mac, mtu: 1500, addresses }),
        );
        const endpoint = { podKey: podKey(pod.namespace, pod.name), interfaceName, addresses };
        endpoints.set(endpoint.podKey, endpoint);
        node.endpoints = [...node.endpoints, endpoint];
        places.push({ name: `${pod.namespace}/${pod.name}`, netns: netns.path, addresses, isUnguarded: false });
      }
      await connectNodes(world, nodes, outside);
      const cluster = new PacketCluster({ places, nodes, endpoints, namespaces, ports });
      await cluster.apply({ ...world, policies: [] });
      const pairs = allProbes(world, ports.slice(0, 1)).filter(({ protocol }) => protocol === "UDP");
      if (!cluster.prober.passesAll(pairs)) throw new Error("without policies, not everybody reaches everybody");
      return cluster;
    } catch (error) {
      for (const netns of namespaces) await netns[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** nftables operations that all changes together took. */
  get operations(): number {
    return this.#operations;
  }

  netns(node: string): Netns {
    return this.#node(node).netns;
  }

  /** The host's end of a pod's link. */
  interfaceOf(pod: { readonly namespace: string; readonly name: string }): string {
    const endpoint = this.#endpoints.get(podKey(pod.namespace, pod.name));
    if (endpoint === undefined) throw new RangeError(`no pod ${pod.namespace}/${pod.name}`);
    return endpoint.interfaceName;
  }

  /** Makes the cluster that world: what differs from the last one goes in as events. Throws when an object or a record is not understood. */
  async apply(world: PacketWorld): Promise<void> {
    await this.applyObjects(worldManifests(world));
  }

  /** As `apply`, for objects of every kind. `mayBeNarrower`: some are not enforced as written, `mayBeUnreadable`: nor understood, and that is no error. */
  async applyObjects(
    manifests: readonly unknown[],
    { mayBeNarrower = false, mayBeUnreadable = false }: { readonly mayBeNarrower?: boolean; readonly mayBeUnreadable?: boolean } = {},
  ): Promise<void> {
    const wanted = new Map<string, Arrived & { readonly text: string }>();
    for (const manifest of manifests) {
      const one = mayBeUnreadable ? arrived(manifest) : asWritten(manifest);
      wanted.set(JSON.stringify(one.key), { ...one, text: JSON.stringify(manifest) });
    }
    for (const [key, before] of this.#resources) if (!wanted.has(key)) this.#compute.apply({ kind: "delete", key: before.key });
    for (const [key, { text, event }] of wanted) if (this.#resources.get(key)?.text !== text) this.#compute.apply(event);
    this.#resources.clear();
    for (const [key, value] of wanted) this.#resources.set(key, value);
    const commit = this.#compute.flush();
    if (commit.problems.length > 0 && !mayBeNarrower && !mayBeUnreadable) throw new Error(`objects are not understood: ${JSON.stringify(commit.problems)}`);
    this.#deliver(commit);
    for (const node of this.#nodes.values()) await this.#program(node);
  }

  /** As an agent that starts with no memory: what is in the kernel is read back. */
  async restartAgents(): Promise<void> {
    for (const node of this.#nodes.values()) {
      const plan = planOf(node, new PlanCache());
      const { operations } = await new KernelTable(node.nft).apply(plan.ruleset);
      if (operations > 0) throw new Error(`${node.name}: a new agent found ${operations} differences`);
    }
  }

  /** The agent forgets a pod that is still linked, or learns of it again. */
  async setConnected(pod: { readonly namespace: string; readonly name: string; readonly node: string }, isConnected: boolean): Promise<void> {
    const node = this.#node(pod.node);
    const key = podKey(pod.namespace, pod.name);
    const planned = this.#endpoints.get(key);
    const others = node.endpoints.filter((endpoint) => endpoint.podKey !== key);
    node.endpoints = isConnected && planned !== undefined ? [...others, planned] : others;
    const plan = planOf(node, node.cache);
    await node.table.apply(plan.ruleset);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.prober[Symbol.dispose]();
    for (const { nft, rtnetlink } of this.#nodes.values()) {
      nft.close();
      rtnetlink.close();
    }
    for (const netns of this.#namespaces) await netns[Symbol.asyncDispose]();
  }

  #node(name: string): PacketNode {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new RangeError(`no node ${name}`);
    return node;
  }

  #deliver({ changes }: Commit): void {
    for (const { key, value, isRemoved, entered, left } of changes) {
      const audience = this.#audiences.get(key) ?? new Set<string>();
      const before = [...audience].map((name) => this.#nodes.get(name)?.view.get(key)).find((known) => known !== undefined);
      const carried = value === undefined ? before : overTheWire(value);
      const isShared = value !== undefined && SHARED_RECORD_KINDS.includes(value.kind);
      for (const name of isShared ? this.#nodes.keys() : entered) audience.add(name);
      for (const name of left) audience.delete(name);
      if (isRemoved) audience.clear();
      this.#audiences.set(key, audience);
      for (const node of this.#nodes.values()) {
        if (audience.has(node.name) && carried !== undefined) node.view.set(key, carried);
        else node.view.delete(key);
      }
    }
  }

  async #program(node: PacketNode): Promise<void> {
    const { failures, ruleset } = planOf(node, node.cache);
    if (failures.length > 0) throw new Error(`${node.name}: the plan has failures: ${JSON.stringify(failures)}`);
    const { operations, repaired } = await node.table.apply(ruleset);
    if (repaired.length > 0) throw new Error(`${node.name}: the table was not as left: ${repaired.join(", ")}`);
    this.#operations += operations;
    const { routes } = desiredRoutes({ records: node.view, endpoints: node.endpoints, nodeName: node.name });
    const { failed } = node.routes.apply(routes);
    if (failed.length > 0) throw new Error(`${node.name}: routes failed: ${failed.map(({ reason }) => reason).join(", ")}`);
  }
}

function asWritten(manifest: unknown): Arrived {
  const parsed = parseResource(manifest, { isStrict: true });
  if (!parsed.ok) throw new Error(`manifest is not understood: ${JSON.stringify(parsed.problems)} in ${JSON.stringify(manifest)}`);
  return { key: keyOf(parsed.value), event: { kind: "upsert", resource: parsed.value } };
}

function openNode(name: string, netns: Netns): PacketNode {
  const nft = NftDriver.open({ netns: netns.path });
  const rtnetlink = RtnetlinkDriver.open({ netns: netns.path });
  return {
    name,
    netns,
    nft,
    rtnetlink,
    table: new KernelTable(nft),
    routes: new KernelRoutes(rtnetlink),
    cache: new PlanCache(),
    settings: new EffectiveSettings({ ...SETTINGS, nodeName: name }),
    view: new Map(),
    endpoints: [],
  };
}

function planOf({ view, endpoints, settings }: PacketNode, cache: PlanCache): ReturnType<typeof desiredRuleset> {
  return desiredRuleset({ records: view, undecodable: new Map(), endpoints, settings: settings.of(view) }, cache);
}

function overTheWire(value: RecordValue): RecordValue {
  const decoded = decodeRecord(encodeRecord(value, HASH_SEED).bytes);
  if (decoded.value === undefined) throw new Error(`record ${decoded.key} does not come back from the wire: ${decoded.problem}`);
  return decoded.value;
}

/** Routes that the fabric's routers would have: to pods of other nodes, and outside. */
async function connectNodes(world: PacketWorld, nodes: ReadonlyMap<string, PacketNode>, outside: Netns): Promise<void> {
  using outsideRoutes = RtnetlinkDriver.open({ netns: outside.path });
  const add = (driver: RtnetlinkDriver, destination: string, gateway: string): void => {
    const [failure] = driver.changeRoutes([{ kind: "add", route: { destination: hostCidr(parseIp(destination)), gateway: parseIp(gateway), protocol: 4 } }]);
    if (failure !== undefined) throw failure.error;
  };
  for (const node of nodes.values()) {
    for (const family of ["v4", "v6"] as const) add(node.rtnetlink, OUTSIDE[family], GATEWAY[family]);
  }
  for (const pod of world.pods) {
    const via = NODES.find(({ name }) => name === pod.node);
    if (via === undefined) continue;
    for (const family of ["v4", "v6"] as const) {
      add(outsideRoutes, pod[family], via[family]);
      for (const node of nodes.values()) if (node.name !== pod.node) add(node.rtnetlink, pod[family], via[family]);
    }
  }
  await Promise.resolve();
}
