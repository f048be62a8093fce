/**
 * Clusters for the compute benchmark, as streams of events: nothing of them is held but what compute holds.
 *
 * (a) to (d) are a start with everything there already: namespaces, then pods, then policies, one flush. (e) goes on with changes.
 */
import type { ClusterEvent } from "../../src/model/event.ts";
import type { NamespaceName, NodeName } from "../../src/model/names.ts";
import type { LabelSelector, Labels, NetworkPolicy, Pod, Resource } from "../../src/model/resource.ts";
import type { IpAddress } from "../../src/net/ip.ts";

export interface Scenario {
  readonly name: string;
  readonly what: string;
  readonly start: () => Iterable<ClusterEvent>;
  /** Changes after the start, each flushed alone; undefined: none. */
  readonly changes?: { readonly perSecond: number; readonly list: () => Iterable<readonly ClusterEvent[]> };
}

const NODES = 1_000;

export const SCENARIOS: readonly Scenario[] = [
  {
    name: "a",
    what: "25,000 namespaces of 4 pods and 3 policies",
    *start() {
      for (let ns = 0; ns < 25_000; ns++) {
        yield namespaceEvent(`ns-${ns}`);
        for (let i = 0; i < 4; i++)
          yield podEvent({ namespace: `ns-${ns}`, number: ns * 4 + i, labels: { app: i < 2 ? "front" : "back", "pod-template-hash": `h${ns}-${i % 2}` } });
      }
      for (let ns = 0; ns < 25_000; ns++) {
        yield policyEvent({ namespace: `ns-${ns}`, name: "default-deny", subject: {}, from: undefined });
        yield policyEvent({ namespace: `ns-${ns}`, name: "front", subject: { app: "front" }, from: {} });
        yield policyEvent({ namespace: `ns-${ns}`, name: "back", subject: { app: "back" }, from: { app: "front" } });
      }
    },
  },
  {
    name: "b",
    what: "one namespace of 10,000 pods and 10,000 policies that all select all",
    *start() {
      yield namespaceEvent("big");
      for (let i = 0; i < 10_000; i++) yield podEvent({ namespace: "big", number: i, labels: { app: "one" } });
      for (let i = 0; i < 10_000; i++) yield policyEvent({ namespace: "big", name: `policy-${i}`, subject: {}, from: {} });
    },
    // One policy more, one less: what it costs among so many.
    changes: {
      perSecond: 10,
      *list() {
        for (let i = 0; i < 2_500; i++) {
          const name = `policy-${(i * 7_919) % 10_000}-more`;
          yield [policyEvent({ namespace: "big", name, subject: {}, from: {} })];
          yield [{ kind: "delete", key: { kind: "NetworkPolicy", namespace: "big", name } }];
        }
      },
    },
  },
  {
    name: "b2",
    what: "one namespace of 10,000 pods and 10,000 policies that all select all, each with peers of its own",
    *start() {
      yield namespaceEvent("big");
      for (let i = 0; i < 10_000; i++) yield podEvent({ namespace: "big", number: i, labels: { id: `id-${i}` } });
      for (let i = 0; i < 10_000; i++) yield policyEvent({ namespace: "big", name: `policy-${i}`, subject: {}, from: { id: `id-${i}` } });
    },
  },
  {
    name: "c",
    what: "100 namespaces of 1,000 pods, 100 labels and 100 policies",
    *start() {
      for (let ns = 0; ns < 100; ns++) {
        yield namespaceEvent(`ns-${ns}`);
        for (let i = 0; i < 1_000; i++) yield podEvent({ namespace: `ns-${ns}`, number: ns * 1_000 + i, labels: { app: `app-${i % 100}`, part: "of-it" } });
      }
      for (let ns = 0; ns < 100; ns++) {
        for (let i = 0; i < 100; i++)
          yield policyEvent({ namespace: `ns-${ns}`, name: `app-${i}`, subject: { app: `app-${i}` }, from: { app: `app-${(i + 1) % 100}` } });
      }
    },
  },
  {
    name: "d",
    what: "10,000 pods with a policy each",
    *start() {
      yield namespaceEvent("big");
      for (let i = 0; i < 10_000; i++) yield podEvent({ namespace: "big", number: i, labels: { id: `id-${i}` } });
      for (let i = 0; i < 10_000; i++)
        yield policyEvent({ namespace: "big", name: `policy-${i}`, subject: { id: `id-${i}` }, from: { id: `id-${(i + 1) % 10_000}` } });
    },
  },
  {
    name: "e",
    what: "100,000 pods, 10,000 selectors, then 20,000 changes of a label or a pod at 1,000 a second",
    *start() {
      for (let ns = 0; ns < 100; ns++) yield namespaceEvent(`ns-${ns}`);
      for (let i = 0; i < 100_000; i++) yield churnPod(i, i);
      for (let i = 0; i < 10_000; i++) {
        const namespace = `ns-${i % 100}`;
        yield policyEvent({
          namespace,
          name: `policy-${i}`,
          subject: { app: `app-${Math.floor(i / 100)}` },
          from: { app: `app-${(Math.floor(i / 100) + 1) % 100}` },
        });
      }
    },
    changes: {
      perSecond: 1_000,
      *list() {
        for (let i = 0; i < 20_000; i++) {
          const number = (i * 7_919) % 100_000;
          if (i % 2 === 0) yield [churnPod(number, number + 100 * (1 + (i % 50)))];
          else yield [{ kind: "delete", key: { kind: "Pod", namespace: `ns-${number % 100}`, name: `pod-${number}` } }, churnPod(number, number, number + 1)];
        }
      },
    },
  },
];

/** Pod `number`, with the label that it has as number `as`, on the node of number `at`. */
function churnPod(number: number, as: number, at: number = number): ClusterEvent {
  const labels = { app: `app-${Math.floor(as / 100) % 100}`, release: `r${number % 7}`, part: "of-it" };
  return podEvent({ namespace: `ns-${number % 100}`, number, labels, at });
}

const upsert = (resource: Resource): ClusterEvent => ({ kind: "upsert", resource });

function namespaceEvent(name: string): ClusterEvent {
  return upsert({
    kind: "Namespace",
    name: name as NamespaceName,
    resourceVersion: "1",
    labels: { "kubernetes.io/metadata.name": name, team: `team-${name.length}` },
  });
}

function podEvent({ namespace, number, labels, at = number }: { namespace: string; number: number; labels: Labels; at?: number }): ClusterEvent {
  const pod: Pod = {
    kind: "Pod",
    namespace: namespace as NamespaceName,
    name: `pod-${number}`,
    uid: `00000000-0000-0000-0000-${number}`,
    resourceVersion: String(number),
    labels,
    node: `node-${at % NODES}` as NodeName,
    serviceAccount: "default",
    hostNetwork: false,
    isTerminated: false,
    addresses: [`10.${number >> 16}.${(number >> 8) & 255}.${number & 255}` as IpAddress],
    namedPorts: [],
  };
  return upsert(pod);
}

/** Allows TCP 80 from the pods of the namespace with the labels; `from` undefined: allows nothing. */
function policyEvent({ namespace, name, subject, from }: { namespace: string; name: string; subject: Labels; from: Labels | undefined }): ClusterEvent {
  const selector = (matchLabels: Labels): LabelSelector => ({ matchLabels, matchExpressions: [] });
  const policy: NetworkPolicy = {
    kind: "NetworkPolicy",
    namespace: namespace as NamespaceName,
    name,
    resourceVersion: "1",
    podSelector: selector(subject),
    policyTypes: ["Ingress"],
    ingress:
      from === undefined
        ? []
        : [
            {
              peers: [{ kind: "pods", podSelector: selector(from), namespaceSelector: undefined }],
              ports: [{ protocol: "TCP", port: 80, endPort: undefined }],
            },
          ],
    egress: [],
  };
  return upsert(policy);
}
