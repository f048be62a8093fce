/**
 * The final records and audiences depend on the final cluster only: named states in sequence, each sequence expanded (reversed, shuffled, split,
 * squashed, emptied between), and random histories against a recomputation from scratch that knows no indexes.
 *
 * Above 500 lines: the states build on each other, and are judged by the recomputation that judges the random histories.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  calicoPolicy,
  calicoRule,
  clusterPolicy,
  globalPolicy,
  globalSet,
  hostEndpoint,
  networkSet,
  profile,
  serviceAccount,
  slice,
  tier,
} from "../../test/fakes/calico-objects.ts";
import { affinity, block, namespace, node, peer, pod, policy, pool, selector, tcp } from "../../test/fakes/cluster-objects.ts";
import type { ClusterEvent } from "../model/event.ts";
import type { NamespaceName, NodeName } from "../model/names.ts";
import { podKey } from "../model/names.ts";
import { parseResource } from "../model/parse-resource.ts";
import type { RecordChange, RecordValue, StackTier } from "../model/record.ts";
import { recordKey, SHARED_RECORD_KINDS } from "../model/record.ts";
import {
  type AnyPolicy,
  describeKey,
  type GlobalNetworkSet,
  type HostEndpoint,
  keyOf,
  type LabelSelector,
  type NetworkPolicyPeer,
  type NetworkSet,
  type Pod,
  type Resource,
} from "../model/resource.ts";
import { type Cidr, compareCidrs, parseCidr } from "../net/cidr.ts";
import { compareIps, type IpAddress, parseIp } from "../net/ip.ts";
import { allowingProfile } from "../policy/convert-calico-policy.ts";
import { convertPolicy } from "../policy/convert-policy.ts";
import type { Selector } from "../selector/selector.ts";
import { Compute } from "./compute.ts";
import { policyRecord } from "./policies.ts";
import { compareMembers, memberHash } from "./set-member.ts";
import { type SetUse, setTypeOf } from "./set-source.ts";
import { SmallMap } from "./small-collections.ts";

// a cluster, and what all nodes hold
/** The objects of a cluster, by description of their key. */
type Cluster = ReadonlyMap<string, Resource>;

const cluster = (...resources: readonly Resource[]): Cluster => new Map(resources.map((resource) => [describeKey(keyOf(resource)), resource]));

/** Objects that the API has in a form that cannot be read, by what is to be in force for them. */
const UNREADABLE = new WeakMap<Resource, ClusterEvent>();

/** The object as a server reads it: what it says, or what stands for it. */
function fromApi(object: unknown, standIn?: Resource): Resource {
  const parsed = parseResource(object);
  if (parsed.ok) throw new Error(`can be read: ${JSON.stringify(object)}`);
  const resource = { ...(parsed.closed ?? standIn) } as Resource;
  const closed = parsed.closed === undefined ? {} : { closed: parsed.closed };
  UNREADABLE.set(resource, { kind: "invalid", key: keyOf(resource), resourceVersion: "", problems: parsed.problems, ...closed });
  return resource;
}

const arrival = (resource: Resource): ClusterEvent => UNREADABLE.get(resource) ?? { kind: "upsert", resource };

/** Events that lead from one cluster to the other, in order of keys. */
function events(from: Cluster, to: Cluster): ClusterEvent[] {
  const result: ClusterEvent[] = [];
  for (const [key, resource] of to)
    if (JSON.stringify(from.get(key)) !== JSON.stringify(resource) || UNREADABLE.has(from.get(key) ?? resource) !== UNREADABLE.has(resource))
      result.push(arrival(resource));
  for (const [key, resource] of from) if (!to.has(key)) result.push({ kind: "delete", key: keyOf(resource) });
  return result;
}

/** What commits add up to; refuses a commit that says something superfluous or impossible. */
class Held {
  readonly records = new Map<string, { readonly value: RecordValue; readonly nodes: ReadonlySet<NodeName> }>();

  take(changes: readonly RecordChange[]): void {
    expect(changes.map(({ key }) => key)).toEqual([...new Set(changes.map(({ key }) => key))].sort());
    for (const change of changes) {
      const before = this.records.get(change.key);
      const nodes = new Set(before?.nodes);
      for (const name of change.entered) expect(nodes.has(name), `${change.key}: ${name} enters twice`).toBe(false);
      for (const name of change.left) expect(nodes.delete(name), `${change.key}: ${name} leaves without being there`).toBe(true);
      for (const name of change.entered) nodes.add(name);
      if (change.isRemoved) {
        expect(before, `${change.key} is removed and was not there`).toBeDefined();
        expect([...nodes], `${change.key} is removed from under nodes`).toEqual([]);
        this.records.delete(change.key);
        continue;
      }
      const value = change.value ?? before?.value;
      if (value === undefined) throw new Error(`${change.key} has no value`);
      expect(recordKey(value)).toBe(change.key);
      const isNothing =
        before !== undefined && change.entered.length === 0 && change.left.length === 0 && JSON.stringify(before.value) === JSON.stringify(value);
      expect(isNothing, `${change.key} changes into itself`).toBe(false);
      expect(nodes.size === 0, `${change.key}: for somebody, or for all`).toBe(SHARED_RECORD_KINDS.includes(value.kind));
      this.records.set(change.key, { value, nodes });
    }
  }

  /** Comparable, and readable when different. */
  text(): Readonly<Record<string, string>> {
    const keys = [...this.records.keys()].sort();
    return Object.fromEntries(keys.map((key) => [key, describe1(this.records.get(key))]));
  }
}

const describe1 = (record: { readonly value: RecordValue; readonly nodes: ReadonlySet<NodeName> } | undefined): string =>
  `${JSON.stringify(record?.value)} for ${[...(record?.nodes ?? [])].sort().join(" ")}`;

/** Goes from cluster to cluster, with a flush after each, and returns what is held at the end. */
function follow(path: readonly Cluster[], order: (list: ClusterEvent[]) => readonly ClusterEvent[] = (list) => list): Readonly<Record<string, string>> {
  const compute = new Compute();
  const held = new Held();
  let at: Cluster = new Map();
  for (const next of path) {
    for (const event of order(events(at, next))) compute.apply(event);
    held.take(compute.flush().changes);
    at = next;
  }
  expect(compute.flush().changes).toEqual([]);
  return held.text();
}

// recomputation from scratch
const POLICY_KINDS: readonly string[] = ["NetworkPolicy", "CalicoNetworkPolicy", "GlobalNetworkPolicy", "ClusterNetworkPolicy", "Profile"];

function isPolicy(item: Resource): item is AnyPolicy {
  return POLICY_KINDS.includes(item.kind);
}

type Placed = Pod & { readonly node: NodeName };
/** What selectors match. */
type Item = Placed | GlobalNetworkSet | NetworkSet | HostEndpoint;

function effectiveLabels(item: Item, objects: Cluster): ReadonlyMap<string, string> {
  const labels = new Map<string, string>();
  const computed = ["projectcalico.org/namespace", "projectcalico.org/orchestrator", "projectcalico.org/serviceaccount"];
  for (const [label, value] of Object.entries(item.labels)) if (!/^pc(?:ns|sa)\./.test(label) && !computed.includes(label)) labels.set(label, value);
  if (item.kind === "HostEndpoint") {
    for (const name of item.profiles) {
      const object = objects.get(`Profile ${name}`);
      if (object?.kind !== "Profile") continue;
      for (const [label, value] of Object.entries(object.labelsToApply)) if (!labels.has(label) && !/^pc(?:ns|sa)\./.test(label)) labels.set(label, value);
    }
  }
  if (item.kind === "HostEndpoint") for (const profile of item.profiles) labels.set(`sedge.network/profile/${profile}`, "");
  if (!("namespace" in item)) return labels;
  const parent = objects.get(`Namespace ${item.namespace}`);
  if (parent?.kind === "Namespace") {
    for (const [label, value] of Object.entries(parent.labels)) labels.set(`pcns.${label}`, value);
    labels.set("pcns.projectcalico.org/name", item.namespace);
    labels.set("pcns.kubernetes.io/metadata.name", item.namespace);
  }
  labels.set("projectcalico.org/namespace", item.namespace);
  if (item.kind !== "Pod") return labels;
  const account = objects.get(`ServiceAccount ${item.namespace}/${item.serviceAccount}`);
  if (account?.kind === "ServiceAccount") {
    for (const [label, value] of Object.entries(account.labels)) labels.set(`pcsa.${label}`, value);
    labels.set("pcsa.projectcalico.org/name", item.serviceAccount);
  }
  labels.set("projectcalico.org/orchestrator", "k8s");
  if (item.serviceAccount.length < 63) labels.set("projectcalico.org/serviceaccount", item.serviceAccount);
  return labels;
}

function addressesOf(item: Pod, objects: readonly Resource[]): readonly IpAddress[] {
  const allocations = objects.flatMap((resource) => (resource.kind === "IPAMBlock" && !resource.isDeleted ? resource.allocations : []));
  const own = allocations.filter((allocation) => allocation.pod === podKey(item.namespace, item.name) && (allocation.node ?? item.node) === item.node);
  return [...new Set(own.length > 0 ? own.map(({ address }) => address) : item.addresses)].sort(compareIps);
}

/** Cuts by definition: a prefix with at most 64 members is a shard. */
function shardsOf(members: readonly string[], prefix = ""): readonly (readonly [string, readonly string[]])[] {
  if (members.length === 0) return [];
  if (members.length <= 64) return [[prefix, [...members].sort(compareMembers)]];
  const side = (bit: string): readonly (readonly [string, readonly string[]])[] =>
    shardsOf(
      members.filter((member) => memberHash(member).toString(2).padStart(32, "0")[prefix.length] === bit),
      prefix + bit,
    );
  return [...side("0"), ...side("1")];
}

const TIER_ORDER: Readonly<Record<string, number>> = { "kube-admin": 1_000, default: 1_000_000, "kube-baseline": 10_000_000 };

function idOf(text: string): string {
  return bytesToHex(sha256(utf8ToBytes(text)).subarray(0, 16));
}

function naive(state: Cluster): Readonly<Record<string, string>> {
  const held = new Held();
  const objects = [...state.values()];
  const put = (value: RecordValue, nodes: Iterable<NodeName>): void => {
    held.records.set(recordKey(value), { value, nodes: new Set(nodes) });
  };
  const pods = objects.filter((item): item is Placed => item.kind === "Pod" && item.node !== undefined && !item.hostNetwork && !item.isTerminated);
  const hosts = objects.filter((item) => item.kind === "HostEndpoint");
  const items: Item[] = [...pods, ...hosts, ...objects.filter((item) => item.kind === "NetworkSet" || item.kind === "GlobalNetworkSet")];
  const matches = (wanted: Selector, item: Item): boolean => {
    const labels = effectiveLabels(item, state);
    return wanted.matches((label) => labels.get(label));
  };
  const tierOf = (name: string): { readonly order: number; readonly defaultAction: "deny" | "pass" | "reject" } => {
    const tier = state.get(`Tier ${name}`);
    if (tier?.kind === "Tier")
      return { order: tier.order ?? Number.POSITIVE_INFINITY, defaultAction: ({ Deny: "deny", Pass: "pass", Reject: "reject" } as const)[tier.defaultAction] };
    return { order: TIER_ORDER[name] ?? Number.POSITIVE_INFINITY, defaultAction: name.startsWith("kube-") ? "pass" : "deny" };
  };
  const intents = objects.flatMap((item) => (isPolicy(item) ? (convertPolicy(item).intent ?? []) : []));
  const needsDefault = hosts.some(({ profiles }) => profiles.includes("projectcalico-default-allow"));
  if (needsDefault) intents.push(allowingProfile("projectcalico-default-allow"));
  // One without rules applies in no direction, and so to nobody.
  const policies = intents
    .filter(({ ingress, egress }) => ingress !== undefined || egress !== undefined)
    .map((intent) => {
      const uses = new SmallMap<string, SetUse>();
      const record = policyRecord(intent, uses);
      return { intent, record, uses, key: recordKey(record), nodes: new Set<NodeName>() };
    })
    .sort((a, b) => {
      const [tierA, tierB] = [tierOf(a.intent.tier), tierOf(b.intent.tier)];
      const [orderA, orderB] = [a.intent.order ?? Number.POSITIVE_INFINITY, b.intent.order ?? Number.POSITIVE_INFINITY];
      if (tierA.order !== tierB.order) return tierA.order < tierB.order ? -1 : 1;
      if (a.intent.tier !== b.intent.tier) return a.intent.tier < b.intent.tier ? -1 : 1;
      if (orderA !== orderB) return orderA < orderB ? -1 : 1;
      return a.key < b.key ? -1 : 1;
    });
  type Entry = (typeof policies)[number];
  const tiersOf = (list: readonly Entry[], endsOpen: boolean): StackTier[] =>
    [...new Set(list.map(({ intent }) => intent.tier))].map((name) => {
      const own = list.filter(({ intent }) => intent.tier === name);
      const keys = (direction: "ingress" | "egress"): string[] => own.filter(({ intent }) => intent[direction] !== undefined).map(({ key }) => key);
      return { name, defaultAction: endsOpen ? "pass" : tierOf(name).defaultAction, ingress: keys("ingress"), egress: keys("egress") };
    });
  const subjectTexts = (list: readonly Entry[]): string =>
    [...new Set(list.map(({ intent }) => `${(intent.stage ?? "normal") === "normal" ? "" : "h "}${intent.subject.canonical}`))].sort().join("\n");
  const stacks = new Map<string, { readonly value: RecordValue; readonly nodes: Set<NodeName> }>();
  const use = (value: RecordValue, name: NodeName): string => {
    const key = recordKey(value);
    const known = stacks.get(key) ?? { value, nodes: new Set<NodeName>() };
    known.nodes.add(name);
    stacks.set(key, known);
    return key;
  };
  for (const item of pods) {
    const mine = policies.filter(({ intent }) => (intent.stage ?? "normal") === "normal" && matches(intent.subject, item));
    for (const { nodes } of mine) nodes.add(item.node);
    let stack = "";
    const space = state.get(`Namespace ${item.namespace}`);
    const logs = space?.kind === "Namespace" && space.logsDenied === true;
    if (mine.length > 0) {
      const id = idOf(`${logs ? "log\n" : ""}${subjectTexts(mine)}`);
      stack = use({ kind: "stack", id, tiers: tiersOf(mine, false), noMatchAction: "allow", ...(logs ? { logDenied: true } : {}) }, item.node);
    }
    put({ kind: "endpoint", namespace: item.namespace, pod: item.name, uid: item.uid, stack, addresses: addressesOf(item, objects) }, [item.node]);
  }
  for (const host of hosts) {
    const mine = policies.filter(({ intent }) => matches(intent.subject, host));
    for (const { nodes } of mine) nodes.add(host.node);
    const stackAt = (section: string, wanted: (entry: Entry) => boolean): string => {
      const id = idOf(`${section}\n${host.profiles.join(",")}\n${subjectTexts(mine)}`);
      const tiers = tiersOf(mine.filter(wanted), section === "preDnatStack" || section === "untrackedStack");
      const isOwn = section === "stack";
      const profiles = isOwn && host.profiles.length > 0 ? { profiles: host.profiles.map((name) => `policy/Profile//${name}`) } : {};
      return use({ kind: "stack", id, tiers, noMatchAction: isOwn ? "deny" : "allow", ...profiles }, host.node);
    };
    const isNormal = ({ intent }: Entry): boolean => (intent.stage ?? "normal") === "normal";
    put(
      {
        kind: "host",
        name: host.name,
        interfaceName: host.interfaceName,
        addresses: [...host.expectedIPs].sort(compareIps),
        stack: stackAt("stack", isNormal),
        forwardStack: stackAt("forwardStack", (entry) => isNormal(entry) && entry.intent.appliesOnForward === true),
        preDnatStack: stackAt("preDnatStack", ({ intent }) => intent.stage === "preDnat"),
        untrackedStack: stackAt("untrackedStack", ({ intent }) => intent.stage === "untracked"),
      },
      [host.node],
    );
  }
  for (const { value, nodes } of stacks.values()) put(value, nodes);
  const sets = new Map<string, { readonly use: SetUse; readonly nodes: Set<NodeName> }>();
  const everyNode = objects.flatMap((item) => (item.kind === "Node" ? item.name : []));
  for (const { intent, record, uses, nodes } of policies) {
    if (intent.isEverywhere === true) for (const name of everyNode) nodes.add(name);
    if (nodes.size === 0) continue;
    put(record, nodes);
    for (const one of uses.values()) {
      const set = sets.get(one.id) ?? { use: one, nodes: new Set() };
      for (const name of nodes) set.nodes.add(name);
      sets.set(one.id, set);
    }
  }
  const membersOf = (wanted: SetUse): readonly string[] => {
    if (wanted.kind === "nodes")
      return objects.flatMap((item) => (item.kind === "Node" && wanted.selector.matches((label) => item.labels[label]) ? item.addresses : []));
    if (wanted.kind === "service") {
      const slices = objects.filter((item) => item.kind === "EndpointSlice" && item.namespace === wanted.namespace && item.service === wanted.name);
      return slices.flatMap((slice): readonly string[] => {
        if (slice.kind !== "EndpointSlice") return [];
        if (!wanted.hasPorts) return slice.addresses;
        return slice.addresses.flatMap((address) => slice.ports.map(({ protocol, port }) => `${address},${protocol.toLowerCase()}:${port}`));
      });
    }
    const { port, includesSets, selector: wantedSelector } = wanted;
    return items
      .filter((item) => (includesSets || item.kind === "Pod") && matches(wantedSelector, item))
      .flatMap((item): readonly string[] => {
        if (item.kind === "NetworkSet" || item.kind === "GlobalNetworkSet")
          return port === undefined ? item.nets.map((text) => text.replace(/^([\d.]+)\/32$|^(.*:.*)\/128$/, "$1$2")) : [];
        const addresses = item.kind === "Pod" ? addressesOf(item, objects) : item.expectedIPs;
        if (port === undefined) return addresses;
        const named = (item.kind === "Pod" ? item.namedPorts : item.ports).filter(
          ({ name, protocol }) => name === port.name && [0, { TCP: 6, UDP: 17, SCTP: 132 }[protocol]].includes(port.protocol),
        );
        return addresses.flatMap((address) => named.map(({ protocol, port: number }) => `${address},${protocol.toLowerCase()}:${number}`));
      });
  };
  for (const [id, { use: wanted, nodes }] of sets) {
    const members = [...new Set(membersOf(wanted))];
    const type = setTypeOf(wanted);
    for (const [shard, list] of shardsOf(members.filter((member) => !member.includes("/")))) put({ kind: "set", id, shard, type, members: list }, nodes);
    for (const [shard, list] of shardsOf(members.filter((member) => member.includes("/"))))
      put({ kind: "set", id, shard: `n${shard}`, type: "prefix", members: list }, nodes);
  }
  for (const item of objects) {
    if (item.kind === "IPPool")
      put({ kind: "pool", name: item.name, cidr: item.cidr, natOutgoing: item.natOutgoing, disabled: item.disabled, blockSize: item.blockSize }, []);
    if (item.kind !== "Node") continue;
    const blocks = new Set<Cidr>();
    for (const claim of objects) {
      if (claim.kind !== "BlockAffinity" || claim.state !== "confirmed" || claim.isDeleted || claim.node !== item.name) continue;
      const named = objects.filter((other) => other.kind === "IPAMBlock" && other.cidr === claim.cidr && !other.isDeleted);
      if (named.length > 0 && named.every((other) => other.kind === "IPAMBlock" && other.node === item.name)) blocks.add(claim.cidr);
    }
    put({ kind: "node", name: item.name, addresses: item.addresses, blocks: [...blocks].sort(compareCidrs) }, []);
  }
  return held.text();
}

// named states
const empty = cluster();
const nodesOnly = cluster(node("n1", "192.0.2.1"), node("n2", "192.0.2.2", "2001:db8::2"), pool("main", "10.65.0.0/16", false));
const withBlocks = cluster(
  ...nodesOnly.values(),
  block("10.65.0.0/26", "n1"),
  block("10.65.0.64/26", "n2"),
  affinity("n1", "10.65.0.0/26", "confirmed"),
  affinity("n2", "10.65.0.64/26", "confirmed"),
);
/** Both nodes hold a confirmed affinity to one block; only the block's own node gets it. */
const contested = cluster(...withBlocks.values(), affinity("n2", "10.65.0.0/26", "confirmed"));
const released = cluster(...withBlocks.values(), affinity("n1", "10.65.0.0/26", "pendingDeletion"));
const web1 = pod("web-1", { on: "n1", ips: ["10.65.0.1"], labels: { app: "web", tier: "front" }, namedPorts: [{ name: "http", protocol: "TCP", port: 8080 }] });
const web2 = pod("web-2", {
  on: "n2",
  ips: ["10.65.0.65", "fd00::65"],
  labels: { app: "web", tier: "front" },
  namedPorts: [{ name: "http", protocol: "TCP", port: 8081 }],
});
const db = pod("db", { on: "n2", ips: ["10.65.0.66"], labels: { app: "db" }, serviceAccount: "database" });
const outside = pod("probe", { in: "ops", on: "n1", ips: ["10.65.0.2"], labels: { app: "probe" } });
const podsOnly = cluster(...withBlocks.values(), namespace("shop", { team: "a" }), namespace("ops", { team: "b" }), web1, web2, db, outside);
const allowWeb = policy("allow-web", {
  podSelector: selector({ app: "db" }),
  ingress: [{ peers: [peer(selector({ app: "web" })), peer(undefined, selector({ team: "b" }))], ports: [tcp(5432)] }],
});
const denyAll = policy("deny-all", { policyTypes: ["Ingress", "Egress"] });
const toHttp = policy("to-http", {
  podSelector: selector({}, { key: "tier", operator: "DoesNotExist", values: [] }),
  policyTypes: ["Egress"],
  egress: [{ peers: [peer(selector({ app: "web" }))], ports: [tcp("http")] }],
});
const httpIn = policy("http-in", { podSelector: selector({ app: "web" }), ingress: [{ peers: [], ports: [tcp("http"), tcp(443)] }] });
const isolated = cluster(...podsOnly.values(), denyAll);
const allowed = cluster(...isolated.values(), allowWeb);
const all = cluster(...allowed.values(), toHttp, httpIn);
const logged = cluster(...all.values(), { ...namespace("shop", { team: "a" }), logsDenied: true });
const relabelled = cluster(...all.values(), { ...web1, labels: { app: "db" } }, namespace("ops", { team: "c" }));
const noNamespaces = cluster(...[...all.values()].filter(({ kind }) => kind !== "Namespace"));
const podMoved = cluster(...all.values(), { ...web1, node: "n2" as NodeName, uid: "uid-again" });
const podOver = cluster(...all.values(), { ...web1, isTerminated: true });
const podOnHost = cluster(...all.values(), { ...web1, hostNetwork: true });
const allocated = cluster(
  ...all.values(),
  block("10.65.0.0/26", "n1", [
    { ip: "10.65.0.9", pod: "web-1", on: "n1" },
    { ip: "10.65.0.10", pod: "web-2", on: "n1" },
    { ip: "10.65.0.11", pod: "unborn" },
  ]),
);
const sharedAddress = cluster(...all.values(), { ...web2, addresses: web1.addresses });
const otherSubject = cluster(...all.values(), { ...denyAll, podSelector: selector({ app: "web" }) });
const otherRules = cluster(...all.values(), { ...allowWeb, ingress: [{ peers: [peer(selector({ app: "probe" }), selector({}))], ports: [] }] });
const portsMoved = cluster(...all.values(), { ...web1, namedPorts: [{ name: "http", protocol: "TCP", port: 9090 }] });
const many = cluster(
  ...all.values(),
  ...Array.from({ length: 150 }, (_, i) => pod(`web-${i + 100}`, { on: `n${i % 5}`, ips: [`10.65.9.${i}`], labels: { app: "web" } })),
);
const fewer = cluster(
  ...all.values(),
  ...Array.from({ length: 30 }, (_, i) => pod(`web-${i + 100}`, { on: `n${i % 5}`, ips: [`10.65.9.${i}`], labels: { app: "web" } })),
);

// Calico's kinds, ClusterNetworkPolicy, and what they match besides pods.
const allowFromSets = calicoPolicy("from-sets", {
  selector: "app == 'web'",
  types: ["Ingress"],
  ingress: [calicoRule("Allow", { source: { selector: "role == 'office'", namespaceSelector: "global()" } }), calicoRule("Log"), calicoRule("Deny")],
});
const global = globalPolicy("platform", {
  tier: "platform",
  order: 10,
  selector: "has(app)",
  types: ["Ingress", "Egress"],
  ingress: [
    calicoRule("Pass", {
      source: { selector: "app == 'probe'", namespaceSelector: "team == 'b'" },
      protocol: 6,
      destination: { ports: ["http", { first: 80, last: 90 }] },
    }),
    calicoRule("Deny", { source: { nets: [parseCidr("203.0.113.0/24")], notSelector: "app == 'db'" } }),
  ],
  egress: [calicoRule("Allow", { destination: { services: { name: "dns", namespace: "ops" } } }), calicoRule("Pass")],
});
const office = globalSet("office", { role: "office" }, "192.0.2.0/24", "192.0.2.128/25", "2001:db8::/32");
const shopSet = networkSet("partners", { app: "web" }, "198.51.100.7/32");
const withSets = cluster(...all.values(), allowFromSets, office, shopSet);
const setChanged = cluster(...withSets.values(), globalSet("office", { role: "office" }, "192.0.2.0/24", "10.9.0.0/16"));
const setRelabelled = cluster(...withSets.values(), globalSet("office", { role: "home" }, "192.0.2.0/24"));
const bigSet = cluster(...withSets.values(), globalSet("office", { role: "office" }, ...Array.from({ length: 200 }, (_, i) => `10.${i}.0.0/16`)));
const tiered = cluster(...withSets.values(), global, tier("platform", 50), slice("dns-1", "ops", "dns", ["10.65.0.2"], [53]));
const tierMoved = cluster(...tiered.values(), tier("platform", 5_000_000, "Pass"));
const tierGone = cluster(...[...tiered.values()].filter(({ kind }) => kind !== "Tier"));
const serviceGrown = cluster(...tiered.values(), slice("dns-2", "ops", "dns", ["10.65.0.2", "fd00::53"], [53, 9153]));
const admin = clusterPolicy("admin", {
  ingress: [
    { name: "no-probes", action: "Deny", peers: [{ kind: "pods", namespaceSelector: selector({ team: "b" }), podSelector: undefined }], protocols: [] },
  ],
  egress: [{ name: "nodes", action: "Accept", peers: [{ kind: "nodes", selector: selector({ zone: "z1" }) }], protocols: [] }],
});
const zoned = { ...node("n1", "192.0.2.1"), labels: { zone: "z1" } };
const withAdmin = cluster(...tiered.values(), admin, zoned);
const baseline = cluster(...withAdmin.values(), { ...admin, tier: "Baseline" as const, priority: 7 });
const byAccount = globalPolicy("accounts", {
  serviceAccountSelector: "level == 'high'",
  types: ["Egress"],
  egress: [calicoRule("Allow", { destination: { serviceAccounts: { names: ["database"], selector: "" } } })],
});
const accounts = cluster(...tiered.values(), byAccount, serviceAccount("database", { level: "high" }), serviceAccount("default", {}));
const accountsChanged = cluster(...accounts.values(), serviceAccount("database", {}), serviceAccount("default", { level: "high" }));
const hostPolicy = globalPolicy("host", {
  selector: "has(host)",
  applyOnForward: true,
  types: ["Ingress"],
  ingress: [calicoRule("Allow", { source: { selector: "app == 'web'" } })],
});
const untracked = globalPolicy("untracked", { ...hostPolicy, name: "untracked", doNotTrack: true, order: 1 });
const preDnat = globalPolicy("pre-dnat", { ...hostPolicy, name: "pre-dnat", preDNAT: true, order: 2 });
const hosts = cluster(
  ...accounts.values(),
  hostPolicy,
  untracked,
  preDnat,
  hostEndpoint("n1-all", "n1", { host: "yes" }, { interfaceName: "*", profiles: ["projectcalico-default-allow"] }),
  hostEndpoint(
    "n2-eth0",
    "n2",
    { host: "yes" },
    { interfaceName: "eth0", expectedIPs: [parseIp("192.0.2.2")], profiles: ["closed", "projectcalico-default-allow"] },
  ),
  hostEndpoint("n2-eth1", "n2", {}, { interfaceName: "eth1" }),
  profile("closed", [calicoRule("Deny", { protocol: 17 })]),
);
const hostMoved = cluster(...hosts.values(), hostEndpoint("n2-eth0", "n1", {}, { interfaceName: "eth0", profiles: [] }));

// Objects that cannot be read, each of a kind that has a readable one in states above.
const v3 = (kind: string, name: string, spec: unknown, metadata: object = {}): unknown => ({
  apiVersion: "projectcalico.org/v3",
  kind,
  metadata: { name, ...metadata },
  spec,
});
const cnp = (name: string, spec: unknown): unknown => ({
  apiVersion: "policy.networking.k8s.io/v1alpha2",
  kind: "ClusterNetworkPolicy",
  metadata: { name },
  spec,
});
const unreadable = cluster(
  ...hosts.values(),
  fromApi(cnp("admin", { tier: "Admin", priority: 1, subject: { later: {} }, ingress: [{ action: "Deny", from: [{ namespaces: {} }] }] })),
  fromApi(
    v3("GlobalNetworkPolicy", "platform", {
      tier: "platform",
      order: "ten",
      selector: 5,
      types: "Ingress",
      ingress: [{ action: "Pass" }, { action: "Allow" }],
    }),
  ),
  fromApi(v3("NetworkPolicy", "from-sets", { selector: "app == 'web'", ingress: [{ action: "Allow", protocol: "QUIC" }] }, { namespace: "shop" })),
  fromApi(
    {
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { namespace: "shop", name: "deny-all" },
      spec: { podSelector: { matchLabels: [] } },
    },
    denyAll,
  ),
  fromApi(v3("Profile", "closed", { labelsToApply: { host: "yes" }, ingress: [{ action: "Deny", protocol: 300 }] })),
  fromApi(v3("Tier", "platform", { order: 50, defaultAction: "Maybe" })),
  fromApi(v3("GlobalNetworkSet", "office", { nets: ["192.0.2.0/24", "192.0.2.0/33"] }, { labels: { role: "office" } })),
  { ...byAccount, serviceAccountSelector: "level = 'high'" },
);
const unreadableStill = cluster(
  ...unreadable.values(),
  fromApi(
    cnp("admin", {
      tier: "Last",
      priority: 1,
      subject: { namespaces: { matchLabels: { team: "a" } } },
      egress: [{ action: "Accept", to: [{ namespaces: {} }] }],
    }),
  ),
  fromApi(v3("GlobalNetworkPolicy", "platform", { tier: "platform", selector: "has(app)", types: ["Sideways"], egress: 7 })),
  { ...hostPolicy, namespaceSelector: "team ==" },
);

const STATES: Readonly<Record<string, Cluster>> = {
  logged,
  withSets,
  setChanged,
  setRelabelled,
  bigSet,
  tiered,
  tierMoved,
  tierGone,
  serviceGrown,
  withAdmin,
  baseline,
  accounts,
  accountsChanged,
  hosts,
  hostMoved,
  empty,
  nodesOnly,
  withBlocks,
  contested,
  released,
  podsOnly,
  isolated,
  allowed,
  all,
  relabelled,
  noNamespaces,
  podMoved,
  podOver,
  podOnHost,
  allocated,
  sharedAddress,
  otherSubject,
  otherRules,
  portsMoved,
  many,
  fewer,
  unreadable,
  unreadableStill,
};

const SEQUENCES: readonly (readonly Cluster[])[] = [
  [all, logged, isolated],
  [withSets, setChanged, setRelabelled, bigSet, withSets],
  [all, tiered, tierMoved, tierGone, serviceGrown],
  [tiered, withAdmin, baseline, accounts, accountsChanged, isolated],
  [accounts, hosts, hostMoved, tierMoved, hosts],
  [nodesOnly, withBlocks, contested, released, withBlocks],
  [podsOnly, isolated, allowed, all],
  [all, relabelled, all, noNamespaces],
  [allowed, podMoved, podOver, podOnHost, all],
  [isolated, allocated, sharedAddress, all],
  [all, otherSubject, otherRules, portsMoved],
  [all, many, fewer, many, all],
  [hosts, unreadable, unreadableStill, hosts, unreadableStill, unreadable],
  [unreadable, tiered, baseline, unreadable, all],
  // Asymmetric: the last user of a set goes while its members change.
  [many, isolated, relabelled, podsOnly, fewer],
];

/** A fixed permutation, so that a failure is the same failure next time. */
function shuffled<T>(list: readonly T[], seed: number): readonly T[] {
  const result = [...list];
  let state = seed;
  for (let i = result.length - 1; i > 0; i--) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    const j = state % (i + 1);
    [result[i], result[j]] = [result[j] as T, result[i] as T];
  }
  return result;
}

/** One event at a time between states: every intermediate cluster is a state too. */
function split(path: readonly Cluster[]): readonly Cluster[] {
  const steps: Cluster[] = [];
  let at: Cluster = new Map();
  for (const next of path) {
    for (const event of events(at, next)) {
      const step = new Map(at);
      if (event.kind === "upsert") step.set(describeKey(keyOf(event.resource)), event.resource);
      if (event.kind === "invalid") step.set(describeKey(event.key), next.get(describeKey(event.key)) as Resource);
      if (event.kind === "delete") step.delete(describeKey(event.key));
      steps.push(step);
      at = step;
    }
    steps.push(next);
    at = next;
  }
  return steps;
}

type Follow = (path: readonly Cluster[]) => Readonly<Record<string, string>>;

const EXPANDERS: Readonly<Record<string, Follow>> = {
  "as written": (path) => follow(path),
  "there and back again": (path) => follow([...path, ...path.toReversed(), ...path]),
  "events reversed": (path) => follow(path, (list) => list.toReversed()),
  "events shuffled": (path) => follow(path, (list) => shuffled(list, 7)),
  "events repeated": (path) => follow(path, (list) => [...list, ...shuffled(list, 3)]),
  "split into single events": (path) => follow(split(path)),
  "squashed into one flush": (path) => {
    const compute = new Compute();
    const held = new Held();
    let at: Cluster = new Map();
    for (const next of path) {
      for (const event of events(at, next)) compute.apply(event);
      at = next;
    }
    held.take(compute.flush().changes);
    return held.text();
  },
  "emptied between": (path) => follow(path.flatMap((state) => [state, empty]).slice(0, -1)),
};

describe("Compute: the end does not depend on the path", () => {
  for (const [name, state] of Object.entries(STATES)) {
    it(`state ${name} = recomputation from scratch`, () => expect(follow([state])).toEqual(naive(state)));
  }
  for (const [i, path] of SEQUENCES.entries()) {
    for (const [name, expander] of Object.entries(EXPANDERS)) {
      it(`sequence ${i}, ${name}`, () => expect(expander(path)).toEqual(follow([path.at(-1) ?? empty])));
    }
  }
  it("every state is in a sequence or a path of its own", () => {
    const used = new Set(SEQUENCES.flat());
    expect(
      Object.entries(STATES)
        .filter(([name, state]) => name !== "empty" && !used.has(state))
        .map(([name]) => name),
    ).toEqual([]);
  });
  it("leaves nothing behind when all objects are gone", () => {
    for (const path of SEQUENCES) {
      const compute = new Compute();
      let at: Cluster = new Map();
      for (const next of [...path, empty]) {
        for (const event of events(at, next)) compute.apply(event);
        compute.flush();
        at = next;
      }
      expect(compute.sizes()).toEqual({ endpoints: 0, selectors: 0, labels: 0, stacks: 0 });
    }
  });
});

// random histories
const labels = fc.dictionary(fc.constantFrom("app", "tier", "pcns.team"), fc.constantFrom("a", "b"), { maxKeys: 2 });
const requirement = fc.record({
  key: fc.constantFrom("app", "tier", "team"),
  operator: fc.constantFrom("In" as const, "NotIn" as const, "Exists" as const, "DoesNotExist" as const),
  values: fc.constantFrom(["a"], ["b"], ["a", "b"]),
});
const expressions = fc
  .array(requirement, { maxLength: 1 })
  .map((list) => list.map((item) => (item.operator.endsWith("Exist") || item.operator === "Exists" ? { ...item, values: [] } : item)));
const labelSelector: fc.Arbitrary<LabelSelector> = fc.record({
  matchLabels: fc.dictionary(fc.constantFrom("app", "tier"), fc.constantFrom("a", "b"), { maxKeys: 1 }),
  matchExpressions: expressions,
});
const nodeName = fc.constantFrom("n1", "n2", "n3");
const where = fc.constantFrom("ns1", "ns2");
const ip = fc.constantFrom("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "fd00::1", "fd00::2");
const randomPod = fc
  .record({
    name: fc.constantFrom("p1", "p2", "p3", "p4"),
    in: where,
    on: fc.option(nodeName, { nil: undefined }),
    serviceAccount: fc.constantFrom("default", "sa"),
    ips: fc.uniqueArray(ip, { maxLength: 2 }),
    labels,
    hostNetwork: fc.integer({ min: 0, max: 5 }).map((n) => n === 0),
    isTerminated: fc.integer({ min: 0, max: 5 }).map((n) => n === 0),
    uid: fc.constantFrom("u1", "u2"),
    namedPorts: fc.constantFrom([], [{ name: "http", protocol: "TCP" as const, port: 80 }], [{ name: "http", protocol: "TCP" as const, port: 81 }]),
  })
  .map(({ name, on, ...rest }) => pod(name, on === undefined ? rest : { ...rest, on }));
const randomPeer: fc.Arbitrary<NetworkPolicyPeer> = fc.oneof(
  fc.tuple(labelSelector, fc.option(labelSelector, { nil: undefined })).map(([pods, spaces]) => peer(pods, spaces)),
  labelSelector.map((spaces) => peer(undefined, spaces)),
  fc.constant<NetworkPolicyPeer>({ kind: "ipBlock", cidr: parseCidr("10.0.0.0/8"), except: [] }),
);
const rule = fc.record({ peers: fc.array(randomPeer, { maxLength: 2 }), ports: fc.constantFrom([], [tcp(80)], [tcp("http")], [tcp("http"), tcp(undefined)]) });
const randomPolicy = fc
  .record({
    name: fc.constantFrom("a", "b", "c"),
    in: where,
    podSelector: labelSelector,
    policyTypes: fc.constantFrom(["Ingress" as const], ["Egress" as const], ["Ingress" as const, "Egress" as const]),
    ingress: fc.array(rule, { maxLength: 1 }),
    egress: fc.array(rule, { maxLength: 1 }),
  })
  .map(({ name, ...rest }) => policy(name, rest));
const selectorText = fc.constantFrom(
  "",
  "app = 'a'",
  "app == 'a'",
  "app != 'a'",
  "has(tier) && app in {'a', 'b'}",
  "!has(tier)",
  "all()",
  "role == 'x' || app == 'b'",
);
const namespaceText = fc.constantFrom("", "team ==", "all()", "global()", "team == 'a'", "team != 'a'");
const net = fc.constantFrom("10.0.0.0/8", "10.0.0.1/32", "10.0.0.0/30", "fd00::/64").map(parseCidr);
const entity = fc.record(
  {
    nets: fc.array(net, { maxLength: 1 }),
    selector: selectorText,
    notSelector: selectorText,
    namespaceSelector: namespaceText,
    ports: fc.constantFrom(["http"], [{ first: 80, last: 81 }]),
    notPorts: fc.constantFrom(["http"], []),
    serviceAccounts: fc.constantFrom({ names: ["sa"], selector: "" }, { names: [], selector: "app == 'a'" }),
  },
  { requiredKeys: [] },
);
const randomRule = fc
  .record({ action: fc.constantFrom("Allow" as const, "Deny" as const, "Pass" as const), source: entity, destination: entity })
  .map(({ action, ...rest }) => calicoRule(action, { ...rest, protocol: 6 }));
const types = fc.constantFrom(["Ingress" as const], ["Egress" as const], ["Ingress" as const, "Egress" as const]);
const order = fc.constantFrom(undefined, 1, 2000);
const tierName = fc.constantFrom("default", "t1", "t2");
const common = {
  order,
  tier: tierName,
  selector: selectorText,
  types,
  ingress: fc.array(randomRule, { maxLength: 1 }),
  egress: fc.array(randomRule, { maxLength: 1 }),
};
const flags = fc.constantFrom(
  {},
  { isNeededEverywhere: true as const },
  { applyOnForward: true },
  { applyOnForward: true, doNotTrack: true },
  { applyOnForward: true, preDNAT: true },
);
const calicoResource: fc.Arbitrary<Resource> = fc.oneof(
  fc.tuple(fc.constantFrom("a", "b"), fc.record({ ...common, in: where })).map(([name, rest]) => calicoPolicy(name, rest)),
  fc
    .tuple(
      fc.constantFrom("a", "b"),
      fc.record({ ...common, namespaceSelector: namespaceText, serviceAccountSelector: fc.constantFrom("", "app == 'a'") }),
      flags,
    )
    .map(([name, rest, more]) => globalPolicy(name, { ...rest, ...more })),
  fc
    .tuple(tierName, fc.constantFrom(1, 5_000_000), fc.constantFrom("Deny" as const, "Pass" as const, "Reject" as const))
    .map(([name, at, action]) => tier(name, at, action)),
  fc.tuple(fc.constantFrom("s1", "s2"), labels, fc.array(net, { maxLength: 3 })).map(([name, own, nets]) => globalSet(name, own, ...nets)),
  fc
    .tuple(fc.constantFrom("s1", "s2"), labels, fc.array(net, { maxLength: 2 }), where)
    .map(([name, own, nets, at]) => ({ ...networkSet(name, own, ...nets), namespace: at as NamespaceName })),
  fc.tuple(fc.constantFrom("sa", "default"), labels, where).map(([name, own, at]) => ({ ...serviceAccount(name, own), namespace: at as NamespaceName })),
  fc
    .tuple(
      fc.constantFrom("h1", "h2"),
      nodeName,
      labels,
      fc.constantFrom([], ["p"], ["p", "projectcalico-default-allow"], ["projectcalico-default-allow", "p"]),
    )
    .map(([name, on, own, profiles]) => hostEndpoint(name, on, own, { interfaceName: "*", profiles, expectedIPs: [parseIp("10.0.0.3")] })),
  fc.tuple(fc.array(randomRule, { maxLength: 1 }), labels).map(([rules, labelsToApply]) => ({ ...profile("p", rules), labelsToApply })),
);
const cidrs = fc.constantFrom("10.0.0.0/26", "10.0.0.64/26");
const resource: fc.Arbitrary<Resource> = fc.oneof(
  { weight: 5, arbitrary: randomPod },
  { weight: 4, arbitrary: randomPolicy },
  { weight: 6, arbitrary: calicoResource },
  {
    weight: 2,
    arbitrary: fc
      .tuple(where, fc.dictionary(fc.constantFrom("team", "app"), fc.constantFrom("a", "b"), { maxKeys: 2 }))
      .map(([name, own]) => ({ ...namespace(name, own), ...(own["app"] === "a" ? { logsDenied: true as const } : {}) })),
  },
  { weight: 1, arbitrary: nodeName.map((name) => node(name, "192.0.2.1")) },
  {
    weight: 1,
    arbitrary: fc.tuple(nodeName, cidrs, fc.constantFrom("pending" as const, "confirmed" as const)).map(([name, cidr, state]) => affinity(name, cidr, state)),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(
        cidrs,
        fc.option(nodeName, { nil: undefined }),
        fc.uniqueArray(fc.tuple(ip, fc.constantFrom("p1", "p2"), where, fc.option(nodeName, { nil: undefined })), { maxLength: 3, selector: ([at]) => at }),
      )
      .map(([cidr, owner, list]) => ({
        ...block(cidr, owner),
        allocations: list.map(([at, name, space, on]) => ({ address: parseIp(at), handle: name, pod: podKey(space, name), node: on as NodeName | undefined })),
      })),
  },
);
const randomClusterPolicy = fc
  .record(
    {
      tier: fc.constantFrom("Admin" as const, "Baseline" as const),
      subject: fc.record({ namespaceSelector: labelSelector, podSelector: fc.option(labelSelector, { nil: undefined }) }),
      ingress: fc.array(
        fc.record({
          name: fc.constant(""),
          action: fc.constantFrom("Accept" as const, "Deny" as const, "Pass" as const),
          peers: fc.constantFrom(
            [{ kind: "unknown" as const, field: "spec" }],
            [{ kind: "pods" as const, namespaceSelector: selector({}), podSelector: undefined }],
          ),
          protocols: fc.constant([]),
        }),
        { maxLength: 2 },
      ),
      isStandIn: fc.constant(true as const),
    },
    { requiredKeys: ["tier", "subject", "ingress"] },
  )
  .map((rest) => clusterPolicy("c", rest));
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("upsert" as const), resource }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("upsert" as const), resource: randomClusterPolicy }) },
  // An object that cannot be read, with what stands for it.
  {
    weight: 2,
    arbitrary: fc.oneof(randomClusterPolicy, calicoResource).map((item) => ({
      kind: "invalid" as const,
      key: keyOf(item),
      resourceVersion: "",
      problems: [{ field: "spec", message: "x" }],
      closed: item,
    })),
  },
  { weight: 2, arbitrary: resource.map((item) => ({ kind: "delete" as const, key: keyOf(item) })) },
  { weight: 2, arbitrary: fc.constant({ kind: "flush" as const }) },
);

describe("Compute: random histories", () => {
  it("after every flush, what is held = recomputation from scratch", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60, size: "max" }), (history) => {
        const compute = new Compute();
        const held = new Held();
        const state = new Map<string, Resource>();
        for (const event of [...history, { kind: "flush" as const }]) {
          if (event.kind === "flush") {
            held.take(compute.flush().changes);
            expect(held.text()).toEqual(naive(state));
            continue;
          }
          compute.apply(event);
          if (event.kind === "upsert") state.set(describeKey(keyOf(event.resource)), event.resource);
          else if (event.kind === "invalid") state.set(describeKey(event.key), event.closed);
          else state.delete(describeKey(event.key));
        }
      }),
      { numRuns: 300 },
    );
  });

  it("two servers that hear of the same cluster in different orders say the same, to the byte", () => {
    fc.assert(
      fc.property(fc.uniqueArray(resource, { maxLength: 40, size: "max", selector: (item) => describeKey(keyOf(item)) }), fc.nat(), (resources, seed) => {
        const one = new Compute();
        const two = new Compute();
        for (const item of resources) one.apply({ kind: "upsert", resource: item });
        for (const item of shuffled(resources, seed)) two.apply({ kind: "upsert", resource: item });
        expect(JSON.stringify(one.flush())).toBe(JSON.stringify(two.flush()));
      }),
      { numRuns: 100 },
    );
  });
});
