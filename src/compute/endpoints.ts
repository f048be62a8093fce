/**
 * Endpoints: pods put into the selector index, and the endpoints' own records.
 *
 * Invariant: a pod is in the index exactly while policy applies to it (scheduled, not on the host's network, not over). A pod that appears on another
 * node under its old name is another endpoint.
 */
import type { NodeName, PodKey } from "../model/names.ts";
import { podKey } from "../model/names.ts";
import type { Endpoint } from "../model/record.ts";
import type { Labels, Pod } from "../model/resource.ts";
import { parseTrafficLimits, type TrafficLimits } from "../model/traffic-limits.ts";
import type { Addressing } from "./addressing.ts";
import { audienceDifference, NO_DELTA, NO_NODES } from "./audience.ts";
import { EndpointState, endpointNode, ownLabels, type PolicyItem } from "./endpoint.ts";
import type { Floating } from "./floating.ts";
import type { Ledger } from "./ledger.ts";
import type { Namespaces } from "./namespaces.ts";
import type { PodAddresses } from "./pod-addresses.ts";
import { isSameValue } from "./same-value.ts";
import type { SelectorIndex } from "./selector-index.ts";
import type { Stacks } from "./stacks.ts";

interface Committed {
  readonly record: Endpoint;
  readonly node: NodeName;
}

export class Endpoints {
  readonly #index: SelectorIndex<PolicyItem>;
  readonly #namespaces: Namespaces;
  readonly #stacks: Stacks;
  readonly #addresses: PodAddresses;
  readonly #addressing: Addressing;
  readonly #floating: Floating;
  readonly #onFloating: (node: NodeName) => void;
  /** Of the few pods that have annotations for it. */
  readonly #limits = new Map<PodKey, { readonly annotations: Labels; readonly limits: TrafficLimits }>();
  readonly #endpoints = new Map<PodKey, EndpointState>();
  readonly #committed = new Map<PodKey, Committed>();
  readonly #dirty = new Set<PodKey>();

  constructor(options: {
    readonly index: SelectorIndex<PolicyItem>;
    readonly namespaces: Namespaces;
    readonly stacks: Stacks;
    readonly addresses: PodAddresses;
    readonly addressing: Addressing;
    readonly floating: Floating;
    /** The node's floating addresses are others. */
    readonly onFloating: (node: NodeName) => void;
  }) {
    this.#index = options.index;
    this.#namespaces = options.namespaces;
    this.#stacks = options.stacks;
    this.#addresses = options.addresses;
    this.#addressing = options.addressing;
    this.#floating = options.floating;
    this.#onFloating = options.onFloating;
  }

  get size(): number {
    return this.#endpoints.size;
  }

  setPod(pod: Pod): void {
    const key = podKey(pod.namespace, pod.name);
    const node = endpointNode(pod);
    const known = this.#endpoints.get(key);
    if (node === undefined) {
      this.removePod(key);
      return;
    }
    if (known?.node === node && known.parent.account === (pod.serviceAccount || "default")) this.#update(known, pod);
    else {
      this.removePod(key);
      this.#add(key, pod, node);
    }
  }

  removePod(key: PodKey): void {
    const endpoint = this.#endpoints.get(key);
    if (endpoint === undefined) return;
    this.#index.remove(endpoint);
    this.#endpoints.delete(key);
    this.#addressing.setPod(key, undefined);
    this.#floating.setPod(key, undefined);
    this.#floating.readdressed(key, endpoint.addresses, []);
    this.#limits.delete(key);
    this.#dirty.add(key);
    this.#namespaces.left(endpoint.parent);
  }

  /** The blocks say something else of these pods. */
  addressesChanged(pods: readonly PodKey[]): void {
    for (const key of pods) {
      const endpoint = this.#endpoints.get(key);
      if (endpoint !== undefined) this.#readdress(endpoint);
    }
  }

  /** The stacks of these endpoints are others now. */
  stacksChanged(endpoints: readonly EndpointState[]): void {
    for (const { key } of endpoints) this.#dirty.add(key);
  }

  commit(ledger: Ledger): void {
    this.#addressingChanged();
    const floating = this.#floating.settle(this.#endpoints.values());
    for (const key of floating.pods) this.#dirty.add(key);
    for (const node of floating.nodes) this.#onFloating(node);
    for (const key of this.#dirty) {
      const recordKey = `endpoint/${key}`;
      const endpoint = this.#endpoints.get(key);
      const before = this.#committed.get(key);
      if (endpoint === undefined) {
        if (before === undefined) continue;
        this.#committed.delete(key);
        ledger.remove(recordKey, [before.node]);
        continue;
      }
      const { namespace, pod, uid, addresses, node } = endpoint;
      const addressRequest = this.#addressing.requestOf(endpoint);
      const limits = this.#limits.get(key)?.limits;
      const floats = this.#floating.addressesOf(key);
      const record: Endpoint = {
        kind: "endpoint",
        namespace,
        pod,
        uid,
        stack: this.#stacks.stackOf(endpoint),
        addresses,
        ...(addressRequest === undefined ? {} : { addressRequest }),
        ...(limits === undefined ? {} : { limits }),
        ...(floats.length === 0 ? {} : { floating: floats }),
      };
      const delta = before === undefined ? { entered: [node], left: NO_NODES } : before.node === node ? NO_DELTA : audienceDifference([before.node], [node]);
      if (before !== undefined && isSameValue(before.record, record)) ledger.move(recordKey, delta);
      else ledger.put(recordKey, record, delta);
      this.#committed.set(key, { record, node });
    }
    this.#dirty.clear();
  }

  /** True when they are others now. */
  #setLimits(key: PodKey, { trafficAnnotations }: Pod): boolean {
    if (isSameValue(this.#limits.get(key)?.annotations, trafficAnnotations)) return false;
    const limits = trafficAnnotations === undefined ? undefined : parseTrafficLimits(trafficAnnotations);
    if (trafficAnnotations === undefined || limits === undefined) this.#limits.delete(key);
    else this.#limits.set(key, { annotations: trafficAnnotations, limits });
    return true;
  }

  #addressingChanged(): void {
    const changed = this.#addressing.takeChanged();
    if (changed !== "all" && changed.size === 0) return;
    for (const [key, endpoint] of this.#endpoints) {
      if (this.#dirty.has(key) || !(changed === "all" || changed.has(endpoint.namespace))) continue;
      if (!isSameValue(this.#committed.get(key)?.record.addressRequest, this.#addressing.requestOf(endpoint))) this.#dirty.add(key);
    }
  }

  #add(key: PodKey, pod: Pod, node: NodeName): void {
    const parent = this.#namespaces.account(pod.namespace, pod.serviceAccount || "default");
    const endpoint = new EndpointState({ key, pod, node, parent });
    endpoint.addresses = this.#addresses.addressesOf({ pod: key, node, reported: endpoint.reported });
    this.#endpoints.set(key, endpoint);
    this.#addressing.setPod(key, pod);
    this.#floating.setPod(key, { object: pod, node, own: endpoint.addresses });
    this.#floating.readdressed(key, [], endpoint.addresses);
    this.#setLimits(key, pod);
    this.#index.add(endpoint, ownLabels(pod.labels));
    this.#dirty.add(key);
  }

  #update(endpoint: EndpointState, pod: Pod): void {
    if (endpoint.uid !== pod.uid) {
      endpoint.uid = pod.uid;
      this.#dirty.add(endpoint.key);
    }
    endpoint.reported = pod.addresses;
    if (this.#addressing.setPod(endpoint.key, pod)) this.#dirty.add(endpoint.key);
    if (this.#setLimits(endpoint.key, pod)) this.#dirty.add(endpoint.key);
    this.#readdress(endpoint);
    this.#floating.setPod(endpoint.key, { object: pod, node: endpoint.node, own: endpoint.addresses });
    if (!isSameValue(endpoint.namedPorts, pod.namedPorts)) {
      this.#index.change(endpoint, () => {
        endpoint.namedPorts = pod.namedPorts;
      });
    }
    this.#index.relabel(endpoint, ownLabels(pod.labels));
  }

  #readdress(endpoint: EndpointState): void {
    const addresses = this.#addresses.addressesOf({ pod: endpoint.key, node: endpoint.node, reported: endpoint.reported });
    if (isSameValue(addresses, endpoint.addresses)) return;
    this.#floating.readdressed(endpoint.key, endpoint.addresses, addresses);
    this.#index.change(endpoint, () => {
      endpoint.addresses = addresses;
    });
    this.#dirty.add(endpoint.key);
  }
}
