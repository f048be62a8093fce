/**
 * Which fan-out servers this cluster has, as the EndpointSlices of their own Service say (and `--peer`, for servers outside of Kubernetes), and in which
 * zone each node is.
 *
 * They come with the cluster's other events: the slices are watched for policy anyway, so that no second watch and no further right is needed. A pod in two
 * slices (two families, or while the controller moves it) is one server. Invariant: `version` grows with each change that anybody could notice.
 */
import type { ClusterEvent } from "../../src/model/event.ts";
import type { EndpointSlice } from "../../src/model/resource.ts";
import { formatAddress } from "../delivery/listen.ts";

export interface Member {
  /** The pod's name, or the address of a peer that was given. */
  readonly name: string;
  /** The first address. */
  readonly identity: string;
  readonly addresses: readonly string[];
  /** "" when not known. */
  readonly zone: string;
  /** Zones whose nodes should use it; empty: no hint. */
  readonly forZones: readonly string[];
  readonly isReady: boolean;
  readonly isSelf: boolean;
}

export interface MembersOptions {
  /** Name of this server: the pod's name where there are pods. */
  readonly serverName: string;
  /** The Service whose endpoints the servers are. */
  readonly service?: { readonly namespace: string; readonly name: string } | undefined;
  /** This server as agents reach it, for servers that know each other by `peers`. */
  readonly advertise?: string | undefined;
  readonly peers: readonly string[];
}

/** A list beyond this would be a mistake, and is sent to every node. */
const MAX_MEMBERS = 256;
const MAX_ADDRESSES = 4;
const ZONE_LABEL = "topology.kubernetes.io/zone";

export class Members {
  readonly #options: MembersOptions;
  readonly #slices = new Map<string, EndpointSlice>();
  readonly #zones = new Map<string, string>();
  #list: readonly Member[];
  #version = 0;
  #listeners: (() => void)[] = [];

  constructor(options: MembersOptions) {
    this.#options = options;
    this.#list = this.#read();
  }

  /** Sorted by identity. Those that are not ready are in it, those that are stopping are not ready. */
  get list(): readonly Member[] {
    return this.#list;
  }

  get ready(): readonly Member[] {
    return this.#list.filter(({ isReady }) => isReady);
  }

  /** This server in the list; undefined: it is not known how agents reach it. */
  get self(): Member | undefined {
    return this.#list.find(({ isSelf }) => isSelf);
  }

  get version(): number {
    return this.#version;
  }

  /** Node objects of the cluster. */
  get nodeCount(): number {
    return this.#zones.size;
  }

  hasNode(node: string): boolean {
    return this.#zones.has(node);
  }

  nodes(): IterableIterator<string> {
    return this.#zones.keys();
  }

  /** Of the node's label; "" when it has none. */
  zoneOf(node: string): string {
    return this.#zones.get(node) ?? "";
  }

  /** Called after each change of the list. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  apply(event: ClusterEvent): void {
    const { service } = this.#options;
    if (event.kind === "upsert") {
      const { resource } = event;
      if (resource.kind === "Node") this.#zones.set(resource.name, resource.labels[ZONE_LABEL] ?? "");
      else if (resource.kind === "EndpointSlice") {
        const key = `${resource.namespace}/${resource.name}`;
        const isOurs = resource.namespace === service?.namespace && resource.service === service.name;
        if (isOurs) this.#slices.set(key, resource);
        else if (!this.#slices.delete(key)) return;
        this.#changed();
      }
    } else if (event.kind === "delete") {
      const { kind, namespace, name } = event.key;
      if (kind === "Node") this.#zones.delete(name);
      else if (kind === "EndpointSlice" && this.#slices.delete(`${namespace}/${name}`)) this.#changed();
    }
  }

  #changed(): void {
    const next = this.#read();
    if (JSON.stringify(next) === JSON.stringify(this.#list)) return;
    this.#list = next;
    this.#version++;
    for (const listener of this.#listeners) listener();
  }

  #read(): readonly Member[] {
    const { serverName, service, advertise, peers } = this.#options;
    const found = new Map<string, Omit<Member, "identity"> & { readonly addresses: string[] }>();
    for (const [, slice] of [...this.#slices].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const port = slice.ports.find(({ protocol }) => protocol === "TCP")?.port;
      if (port === undefined) continue;
      for (const endpoint of slice.endpoints) {
        const addresses = endpoint.addresses.map((address) => formatAddress(address, port));
        const [first] = addresses;
        if (first === undefined) continue;
        const isReady = endpoint.isReady && !endpoint.isTerminating;
        const key = endpoint.target === "" ? first : endpoint.target;
        const before = found.get(key);
        const { zone, forZones, target } = endpoint;
        const isSelf = target === `${service?.namespace ?? ""}/${serverName}` || addresses.includes(advertise ?? "");
        found.set(key, {
          name: target === "" ? first : target.slice(target.indexOf("/") + 1),
          addresses: [...(before?.addresses ?? []), ...addresses.filter((address) => before?.addresses.includes(address) !== true)],
          zone: zone === "" ? (before?.zone ?? "") : zone,
          forZones: forZones.length === 0 ? (before?.forZones ?? []) : forZones,
          isReady: isReady || before?.isReady === true,
          isSelf: isSelf || before?.isSelf === true,
        });
      }
    }
    for (const address of advertise === undefined ? peers : [advertise, ...peers]) {
      if ([...found.values()].some(({ addresses }) => addresses.includes(address))) continue;
      const isSelf = address === advertise;
      found.set(address, { name: isSelf ? serverName : address, addresses: [address], zone: "", forZones: [], isReady: true, isSelf });
    }
    return [...found.values()]
      .map((member) => withIdentity(member))
      .sort((a, b) => (a.identity < b.identity ? -1 : 1))
      .slice(0, MAX_MEMBERS);
  }
}

/** IPv4 first, so that every list of the same server has the same identity whichever slice was read first. */
function withIdentity(member: Omit<Member, "identity">): Member {
  const addresses = [...member.addresses].sort((a, b) => Number(isV6(a)) - Number(isV6(b)) || (a < b ? -1 : 1)).slice(0, MAX_ADDRESSES);
  return { ...member, identity: addresses[0] ?? "", addresses };
}

function isV6(address: string): boolean {
  return address.startsWith("[");
}

/** A member as a node in the zone ranks it. Hints count more than the zone: they are the control plane's decision (KEP-2433). */
export function isNear({ zone, forZones }: Pick<Member, "zone" | "forZones">, nodeZone: string): boolean {
  if (nodeZone === "") return false;
  return forZones.length > 0 ? forZones.includes(nodeZone) : zone === nodeZone;
}
