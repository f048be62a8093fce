/**
 * Endpoints: pods put into the selector index, and the endpoints' own records.
 *
 * Invariant: a pod is in the index exactly while policy applies to it (scheduled, not on the host's network, not over). A pod that appears on another
 * node under its old name is another endpoint.
 */

import type { Problem } from "../model/event.ts";
import type { NodeName, PodKey } from "../model/names.ts";
import { podKey } from "../model/names.ts";
import type { Endpoint } from "../model/record.ts";
import type { Labels, Pod, ResourceKey } from "../model/resource.ts";
import { type ReadLimits, readTrafficLimits } from "../model/traffic-limits.ts";
import type { Addressing } from "./addressing.ts";
import { type AudienceDelta, audienceDifference, NO_DELTA, NO_NODES } from "./audience.ts";
import { type CommittedEndpoint, EndpointState, endpointNode, ownLabels, type PolicyItem } from "./endpoint.ts";
import type { Floating } from "./floating.ts";
import type { Ledger } from "./ledger.ts";
import type { Namespaces } from "./namespaces.ts";
import type { PodAddresses } from "./pod-addresses.ts";
import { isSameValue } from "./same-value.ts";
import type { SelectorIndex } from "./selector-index.ts";
import type { Stacks } from "./stacks.ts";

/** A node that has endpoints: its name, and what one endpoint more means there, are kept once, not with each of them. */
interface Place {
  readonly node: NodeName;
  readonly arrival: AudienceDelta;
  endpoints: number;
}

export class Endpoints {
  readonly #index: SelectorIndex<PolicyItem>;
  readonly #namespaces: Namespaces;
  readonly #stacks: Stacks;
  readonly #addresses: PodAddresses;
  readonly #addressing: Addressing;
  readonly #floating: Floating;
  readonly #onFloating: (node: NodeName) => void;
  readonly #onLimitProblems: (key: ResourceKey, problems: readonly Problem[]) => void;
  /** Of the few pods that have annotations for it. */
  readonly #limits = new Map<PodKey, ReadLimits & { readonly annotations: Labels; readonly uid: string }>();
  readonly #endpoints = new Map<PodKey, EndpointState>();
  /** Records of pods that are no endpoints any more, as the last commit said of them, until the next one. */
  readonly #gone = new Map<PodKey, CommittedEndpoint>();
  readonly #dirty = new Set<EndpointState>();
  /** Of nodes with endpoints. */
  readonly #places = new Map<NodeName, Place>();

  constructor(options: {
    readonly index: SelectorIndex<PolicyItem>;
    readonly namespaces: Namespaces;
    readonly stacks: Stacks;
    readonly addresses: PodAddresses;
    readonly addressing: Addressing;
    readonly floating: Floating;
    /** The node's floating addresses are others. */
    readonly onFloating: (node: NodeName) => void;
    /** What is wrong with a pod's limits; empty: nothing. */
    readonly onLimitProblems: (key: ResourceKey, problems: readonly Problem[]) => void;
  }) {
    this.#index = options.index;
    this.#namespaces = options.namespaces;
    this.#stacks = options.stacks;
    this.#addresses = options.addresses;
    this.#addressing = options.addressing;
    this.#floating = options.floating;
    this.#onFloating = options.onFloating;
    this.#onLimitProblems = options.onLimitProblems;
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
    if (this.#limits.delete(key)) this.#onLimitProblems({ kind: "Pod", namespace: endpoint.namespace, name: endpoint.pod }, []);
    this.#leavePlace(endpoint.node);
    this.#dirty.delete(endpoint);
    if (endpoint.committed !== undefined) this.#gone.set(key, endpoint.committed);
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
    for (const endpoint of endpoints) if (this.#endpoints.get(endpoint.key) === endpoint) this.#dirty.add(endpoint);
  }

  commit(ledger: Ledger): void {
    this.#addressingChanged();
    const floating = this.#floating.settle(this.#endpoints.values());
    for (const key of floating.pods) this.#markDirty(this.#endpoints.get(key));
    for (const node of floating.nodes) this.#onFloating(node);
    for (const [key, { node }] of this.#gone) ledger.remove(`endpoint/${key}`, [node]);
    this.#gone.clear();
    for (const endpoint of this.#dirty) this.#commitOne(endpoint, ledger);
    this.#dirty.clear();
  }

  #commitOne(endpoint: EndpointState, ledger: Ledger): void {
    const { key, node, committed: before } = endpoint;
    const recordKey = `endpoint/${key}`;
    const record = this.#recordOf(endpoint);
    const delta =
      before === undefined
        ? (this.#places.get(node)?.arrival ?? { entered: [node], left: NO_NODES })
        : before.node === node
          ? NO_DELTA
          : audienceDifference([before.node], [node]);
    if (before !== undefined && isSameValue(before.record, record)) ledger.move(recordKey, delta);
    else ledger.put(recordKey, record, delta);
    endpoint.committed = { record, node };
  }

  #recordOf(endpoint: EndpointState): Endpoint {
    const { key, namespace, pod, uid, addresses } = endpoint;
    const plain: Endpoint = { kind: "endpoint", namespace, pod, uid, stack: this.#stacks.stackOf(endpoint), addresses };
    const addressRequest = this.#addressing.requestOf(endpoint);
    const limits = this.#limits.get(key)?.limits;
    const floats = this.#floating.addressesOf(key);
    if (addressRequest === undefined && limits === undefined && floats.length === 0) return plain;
    return {
      ...plain,
      ...(addressRequest === undefined ? {} : { addressRequest }),
      ...(limits === undefined ? {} : { limits }),
      ...(floats.length === 0 ? {} : { floating: floats }),
    };
  }

  #enterPlace(node: NodeName): NodeName {
    let place = this.#places.get(node);
    if (place === undefined) {
      place = { node, arrival: { entered: [node], left: NO_NODES }, endpoints: 0 };
      this.#places.set(node, place);
    }
    place.endpoints++;
    return place.node;
  }

  #leavePlace(node: NodeName): void {
    const place = this.#places.get(node);
    if (place !== undefined && --place.endpoints === 0) this.#places.delete(node);
  }

  #markDirty(endpoint: EndpointState | undefined): void {
    if (endpoint !== undefined) this.#dirty.add(endpoint);
  }

  /** True when they are others now. What a pod had before that is not understood any more stays; what one of the same name had before it does not. */
  #setLimits(key: PodKey, pod: Pod): boolean {
    const { trafficAnnotations: annotations, uid } = pod;
    const before = this.#limits.get(key);
    if (before?.uid === (annotations === undefined ? undefined : uid) && isSameValue(before?.annotations, annotations)) return false;
    const read = annotations === undefined ? undefined : readTrafficLimits(annotations, before?.uid === uid ? before.inForce : {});
    if (annotations === undefined || read === undefined) this.#limits.delete(key);
    else this.#limits.set(key, { ...read, annotations, uid });
    this.#noteLimits(pod, read?.limits.problems ?? []);
    return true;
  }

  #noteLimits({ namespace, name }: Pick<Pod, "namespace" | "name">, problems: readonly string[]): void {
    this.#onLimitProblems(
      { kind: "Pod", namespace, name },
      problems.map((message) => ({ field: "metadata.annotations", message })),
    );
  }

  #addressingChanged(): void {
    const changed = this.#addressing.takeChanged();
    if (changed !== "all" && changed.size === 0) return;
    for (const endpoint of this.#endpoints.values()) {
      if (this.#dirty.has(endpoint) || !(changed === "all" || changed.has(endpoint.namespace))) continue;
      if (!isSameValue(endpoint.committed?.record.addressRequest, this.#addressing.requestOf(endpoint))) this.#dirty.add(endpoint);
    }
  }

  #add(key: PodKey, pod: Pod, node: NodeName): void {
    const parent = this.#namespaces.account(pod.namespace, pod.serviceAccount || "default");
    const endpoint = new EndpointState({ key, pod, node: this.#enterPlace(node), parent });
    endpoint.committed = this.#gone.get(key);
    this.#gone.delete(key);
    endpoint.addresses = this.#addresses.addressesOf({ pod: key, node, reported: endpoint.reported });
    this.#endpoints.set(key, endpoint);
    this.#addressing.setPod(key, pod);
    this.#floating.setPod(key, { object: pod, node, own: endpoint.addresses });
    this.#floating.readdressed(key, [], endpoint.addresses);
    this.#setLimits(key, pod);
    this.#index.add(endpoint, ownLabels(pod.labels));
    this.#dirty.add(endpoint);
  }

  #update(endpoint: EndpointState, pod: Pod): void {
    if (endpoint.uid !== pod.uid) {
      endpoint.uid = pod.uid;
      this.#dirty.add(endpoint);
    }
    endpoint.reported = pod.addresses;
    if (this.#addressing.setPod(endpoint.key, pod)) this.#dirty.add(endpoint);
    if (this.#setLimits(endpoint.key, pod)) this.#dirty.add(endpoint);
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
    this.#dirty.add(endpoint);
  }
}
