/**
 * Policies that got into the API and cannot be read: what stands for each lets nothing more through than the policy may have meant, and cuts off nobody
 * whom it cannot have been meant for. Verdicts are written down by hand; `earlier` is a version of the first object that could be read.
 */
import type { ObjectCase } from "./calico.ts";
import { calicoObject } from "./calico-validation.ts";

type Spec = Readonly<Record<string, unknown>>;

export interface UnreadableCase extends ObjectCase {
  readonly earlier: unknown;
}

const cluster = (spec: Spec): unknown => calicoObject("ClusterNetworkPolicy", { tier: "Admin", priority: 10, ...spec }, { name: "p" });
const global = (spec: Spec, name = "p"): unknown => calicoObject("GlobalNetworkPolicy", spec, { name });
const kubernetes = (namespace: string, spec: Spec): unknown => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { namespace, name: "p" },
  spec,
});

const EVERYWHERE = { namespaces: {} };
const RED = { namespaces: { matchLabels: { team: "red" } } };
const denyRed = { action: "Deny", from: [RED] };
const openAll = cluster({ subject: EVERYWHERE, ingress: [{ action: "Accept", from: [EVERYWHERE] }] });

export const UNREADABLE_CASES: readonly UnreadableCase[] = [
  {
    name: "ClusterNetworkPolicy: a subject of a kind that is not known: Deny holds for every pod",
    earlier: openAll,
    objects: [cluster({ subject: { serviceAccounts: { matchLabels: {} } }, ingress: [denyRed] })],
    allow: ["z/a > y/b 80/TCP", "outside > y/b 80/TCP"],
    deny: ["x/a > y/b 80/TCP", "x/c > z/b ICMP", "x/a > y/b 81/UDP v6"],
  },
  {
    name: "ClusterNetworkPolicy: the readable part of a subject still limits it",
    earlier: openAll,
    objects: [
      cluster({
        subject: { pods: { namespaceSelector: { matchLabels: { team: "blue" } }, podSelector: { matchLabels: { pod: ["b"] } } } },
        ingress: [denyRed],
      }),
    ],
    allow: ["x/a > x/b 80/TCP", "z/a > y/b 80/TCP"],
    deny: ["x/a > y/b 80/TCP", "x/a > y/a 80/TCP"],
  },
  {
    name: "ClusterNetworkPolicy: Accept is left out of a stand-in, and Pass denies",
    earlier: openAll,
    objects: [
      cluster({
        subject: { pods: { podSelector: { matchLabels: { pod: "b" } }, serviceAccounts: {} } },
        ingress: [
          { action: "Accept", from: [EVERYWHERE] },
          { action: "Pass", from: [RED] },
        ],
      }),
      kubernetes("y", { podSelector: {} }),
    ],
    allow: ["z/a > z/b 80/TCP"],
    deny: ["x/a > z/b 80/TCP", "z/a > y/b 80/TCP", "z/a > y/a 80/TCP"],
  },
  {
    name: "ClusterNetworkPolicy: with a place that cannot be read it is the first of Admin",
    earlier: openAll,
    objects: [
      cluster({ tier: "Middle", priority: "high", subject: { pods: { podSelector: { matchLabels: { pod: "b" } } } }, ingress: [denyRed] }),
      calicoObject(
        "ClusterNetworkPolicy",
        { tier: "Admin", priority: 1, subject: EVERYWHERE, ingress: [{ action: "Accept", from: [EVERYWHERE] }] },
        { name: "other" },
      ),
    ],
    allow: ["x/a > y/a 80/TCP", "z/a > y/b 80/TCP"],
    deny: ["x/a > y/b 80/TCP"],
  },
  {
    name: "ClusterNetworkPolicy: rules that are no list deny their direction",
    earlier: openAll,
    objects: [cluster({ subject: RED, egress: { action: "Accept" } })],
    allow: ["z/a > x/a 80/TCP"],
    deny: ["x/a > z/a 80/TCP", "x/a > outside 80/TCP"],
  },
  {
    name: "ClusterNetworkPolicy: a match that a later version has closes its rule alone",
    earlier: openAll,
    objects: [
      cluster({
        subject: EVERYWHERE,
        ingress: [
          { action: "Accept", from: [{ pods: { podSelector: {}, serviceAccountSelector: {} } }] },
          { action: "Deny", from: [RED] },
        ],
      }),
    ],
    allow: ["z/a > y/b 80/TCP"],
    deny: ["x/a > y/b 80/TCP"],
  },
  {
    name: "GlobalNetworkPolicy: a selector that is no text",
    earlier: global({ selector: "pod == 'b'", ingress: [{ action: "Allow" }] }),
    objects: [
      global({ selector: ["pod == 'b'"], ingress: [{ action: "Allow" }], types: ["Ingress"] }),
      global({ selector: "pod == 'c'", ingress: [{ action: "Allow" }] }, "other"),
    ],
    allow: ["x/a > y/c 80/TCP"],
    deny: ["x/a > y/b 80/TCP", "x/a > y/a 80/UDP v6"],
  },
  {
    name: "GlobalNetworkPolicy: types that cannot be read are both",
    earlier: global({ selector: "pod == 'b'", ingress: [{ action: "Allow" }] }),
    objects: [global({ selector: "pod == 'b'", types: ["Inbound"], ingress: [{ action: "Allow" }] })],
    allow: ["x/a > y/a 80/TCP"],
    deny: ["x/a > y/b 80/TCP", "y/b > x/a 80/TCP"],
  },
  {
    name: "NetworkPolicy of Kubernetes: its namespace is closed",
    earlier: kubernetes("y", { podSelector: {}, ingress: [{}] }),
    objects: [kubernetes("y", { podSelector: { matchExpressions: [{ key: "pod", operator: "Like", values: ["b"] }] }, ingress: [{}] })],
    allow: ["x/a > z/b 80/TCP"],
    deny: ["x/a > y/b 80/TCP", "y/a > x/a 80/TCP"],
  },
];
