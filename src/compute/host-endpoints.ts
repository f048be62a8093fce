/**
 * Host endpoints put into the selector index, and their own records.
 *
 * A host endpoint has a label for each of its profiles that nothing else can have, and a profile's subject is that label: so a profile reaches the nodes
 * that need it, with its sets, as any policy does.
 */
import type { NodeName } from "../model/names.ts";
import type { HostEndpoint as HostEndpointRecord } from "../model/record.ts";
import type { HostEndpoint, Labels } from "../model/resource.ts";
import { compareIps } from "../net/ip.ts";
import { PROFILE_LABEL_PREFIX } from "../policy/convert-calico-policy.ts";
import { audienceDifference, NO_DELTA, NO_NODES } from "./audience.ts";
import { HostEndpointState, ownLabels, type PolicyItem, type RootState } from "./endpoint.ts";
import type { Ledger } from "./ledger.ts";
import { isSameValue } from "./same-value.ts";
import type { LabelPair, SelectorIndex } from "./selector-index.ts";
import type { Stacks } from "./stacks.ts";

export class HostEndpoints {
  readonly #index: SelectorIndex<PolicyItem>;
  readonly #stacks: Stacks;
  readonly #root: RootState;
  readonly #hosts = new Map<string, HostEndpointState>();
  readonly #committed = new Map<string, { readonly record: HostEndpointRecord; readonly node: NodeName }>();
  readonly #dirty = new Set<string>();
  /** spec.labelsToApply of profiles that have any. */
  readonly #profileLabels = new Map<string, Labels>();
  /** Host endpoints by name of a profile of theirs. */
  readonly #profileUsers = new Map<string, number>();

  constructor(options: { readonly index: SelectorIndex<PolicyItem>; readonly stacks: Stacks; readonly root: RootState }) {
    this.#index = options.index;
    this.#stacks = options.stacks;
    this.#root = options.root;
  }

  /** Labels that a profile gives; undefined: the profile is gone. */
  setProfileLabels(name: string, labels: Labels | undefined): void {
    const hasLabels = labels !== undefined && Object.keys(labels).length > 0;
    if (isSameValue(this.#profileLabels.get(name), hasLabels ? labels : undefined)) return;
    if (hasLabels) this.#profileLabels.set(name, labels);
    else this.#profileLabels.delete(name);
    for (const host of this.#hosts.values()) if (host.profiles.includes(name)) this.#index.relabel(host, this.#labelsOf(host.ownLabels, host.profiles));
  }

  usesProfile(name: string): boolean {
    return this.#profileUsers.has(name);
  }

  set(host: HostEndpoint): void {
    const known = this.#hosts.get(host.name);
    const addresses = [...host.expectedIPs].sort(compareIps);
    this.#dirty.add(host.name);
    if (known?.node === host.node) {
      if (!isSameValue(known.addresses, addresses) || !isSameValue(known.namedPorts, host.ports)) {
        this.#index.change(known, () => {
          known.addresses = addresses;
          known.namedPorts = host.ports;
        });
      }
      known.interfaceName = host.interfaceName;
      if (!isSameValue(known.profiles, host.profiles)) {
        this.#countProfiles(host.profiles, 1);
        this.#countProfiles(known.profiles, -1);
        known.profiles = host.profiles;
        this.#stacks.reconsider(known);
      }
      known.ownLabels = host.labels;
      this.#index.relabel(known, this.#labelsOf(host.labels, host.profiles));
      return;
    }
    this.remove(host.name);
    const state = new HostEndpointState({ host, addresses, parent: this.#root });
    this.#hosts.set(host.name, state);
    this.#countProfiles(host.profiles, 1);
    this.#stacks.addHost(state);
    this.#index.add(state, this.#labelsOf(host.labels, host.profiles));
  }

  remove(name: string): void {
    const state = this.#hosts.get(name);
    if (state === undefined) return;
    this.#hosts.delete(name);
    this.#countProfiles(state.profiles, -1);
    this.#dirty.add(name);
    this.#index.remove(state);
    this.#stacks.removeHost(state);
  }

  /** The stacks of these are others now. */
  stacksChanged(hosts: readonly HostEndpointState[]): void {
    for (const { name } of hosts) this.#dirty.add(name);
  }

  commit(ledger: Ledger): void {
    for (const name of this.#dirty) {
      const key = `host/${name}`;
      const host = this.#hosts.get(name);
      const before = this.#committed.get(name);
      if (host === undefined) {
        if (before === undefined) continue;
        this.#committed.delete(name);
        ledger.remove(key, [before.node]);
        continue;
      }
      const { node, interfaceName, addresses } = host;
      const record: HostEndpointRecord = { kind: "host", name, interfaceName, addresses, ...this.#stacks.hostStacks(host) };
      const delta = before === undefined ? { entered: [node], left: NO_NODES } : before.node === node ? NO_DELTA : audienceDifference([before.node], [node]);
      if (before !== undefined && isSameValue(before.record, record)) ledger.move(key, delta);
      else ledger.put(key, record, delta);
      this.#committed.set(name, { record, node });
    }
    this.#dirty.clear();
  }

  #countProfiles(names: readonly string[], by: number): void {
    for (const name of names) {
      const count = (this.#profileUsers.get(name) ?? 0) + by;
      if (count > 0) this.#profileUsers.set(name, count);
      else this.#profileUsers.delete(name);
    }
  }

  /** Its own, then those of its profiles in order, each label once, and the mark of each profile. */
  #labelsOf(own: Labels, profiles: readonly string[]): readonly LabelPair[] {
    const labels = new Map(ownLabels(own));
    for (const profile of profiles)
      for (const [label, value] of ownLabels(this.#profileLabels.get(profile) ?? {})) if (!labels.has(label)) labels.set(label, value);
    return [...labels, ...profiles.map((profile): LabelPair => [`${PROFILE_LABEL_PREFIX}${profile}`, ""])];
  }
}
