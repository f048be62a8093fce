/**
 * Replicas of one API in which objects become unreadable and readable again: one server that saw all of it, one that starts at the end. Their tables must
 * have the same digests for every node, or an agent that goes from one to the other would be given another policy for no change of the cluster.
 */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Table } from "../../fanout/table/table.ts";
import { Compute } from "../../src/compute/compute.ts";
import type { ClusterEvent } from "../../src/model/event.ts";
import type { NodeName } from "../../src/model/names.ts";
import { parseResource } from "../../src/model/parse-resource.ts";
import { seedOf } from "../../src/wire/digest.ts";
import { arrived } from "../fakes/arrived.ts";

const NODES = ["n1", "n2"] as NodeName[];
const v3 = (kind: string, name: string, spec: unknown, metadata: object = {}): object => ({
  apiVersion: "projectcalico.org/v3",
  kind,
  metadata: { name, ...metadata },
  spec,
});
const cnp = (spec: unknown): object => ({ apiVersion: "policy.networking.k8s.io/v1alpha2", kind: "ClusterNetworkPolicy", metadata: { name: "p" }, spec });
const kubernetes = (spec: unknown): object => ({ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { name: "p", namespace: "shop" }, spec });
const shop = { namespace: "shop" };

const FIXED: readonly object[] = [
  ...NODES.map((name) => ({ apiVersion: "v1", kind: "Node", metadata: { name } })),
  { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop", labels: { team: "a" } } },
  ...NODES.map((node, i) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: `web-${i}`, namespace: "shop", uid: `u${i}`, labels: { app: i === 0 ? "web" : "db" } },
    spec: { nodeName: node },
    status: { podIPs: [{ ip: `10.0.0.${i + 1}` }] },
  })),
  v3("HostEndpoint", "h", { node: "n1", interfaceName: "eth0", profiles: ["open"] }),
];

/** Each object in forms that can be read, and in forms that cannot. */
const FORMS: readonly { readonly readable: readonly object[]; readonly unreadable: readonly object[] }[] = [
  {
    readable: [cnp({ tier: "Admin", priority: 1, subject: { namespaces: {} }, ingress: [{ action: "Accept", from: [{ namespaces: {} }] }] })],
    unreadable: [
      cnp({ tier: "Admin", priority: 1, subject: { later: {} }, ingress: [{ action: "Pass", from: [{ namespaces: {} }] }] }),
      cnp({ tier: "Admin", priority: -1, subject: { namespaces: { matchLabels: { team: "a" } } }, egress: [{ action: "Deny", to: [{ later: {} }, {}] }] }),
      cnp("closed"),
    ],
  },
  {
    readable: [v3("GlobalNetworkPolicy", "g", { tier: "t", selector: "app == 'web'", ingress: [{ action: "Allow", source: { selector: "role == 'x'" } }] })],
    unreadable: [
      v3("GlobalNetworkPolicy", "g", { tier: "t", selector: "app = 'web'", ingress: [{ action: "Allow" }, { action: "Deny", protocol: "TCP" }] }),
      v3("GlobalNetworkPolicy", "g", { tier: 5, order: "first", selector: "app == 'web'", types: [7] }),
      v3("GlobalNetworkPolicy", "g", { selector: "app == 'web'", ingress: [{ action: "Allow", source: { selector: "(" } }] }),
    ],
  },
  {
    readable: [v3("NetworkPolicy", "p", { selector: "app == 'db'", egress: [{ action: "Pass" }] }, shop)],
    unreadable: [v3("NetworkPolicy", "p", { selector: 1 }, shop), v3("NetworkPolicy", "p", { ingress: {} }, shop), v3("NetworkPolicy", "p", [], shop)],
  },
  {
    readable: [kubernetes({ podSelector: { matchLabels: { app: "db" } }, ingress: [{}] })],
    unreadable: [kubernetes({ podSelector: [] }), kubernetes({ podSelector: {}, ingress: [{ from: [{}] }] })],
  },
  {
    readable: [v3("Tier", "t", { order: 5, defaultAction: "Pass" })],
    unreadable: [v3("Tier", "t", { order: "5" }), v3("Tier", "t", { order: 7, defaultAction: "Maybe" })],
  },
  {
    readable: [{ ...v3("GlobalNetworkSet", "s", { nets: ["192.0.2.0/24"] }), metadata: { name: "s", labels: { role: "x" } } }],
    unreadable: [{ ...v3("GlobalNetworkSet", "s", { nets: ["192.0.2.0/99", "10.0.0.0/8"] }), metadata: { name: "s", labels: { role: "x" } } }],
  },
  {
    readable: [v3("Profile", "open", { ingress: [{ action: "Allow" }] })],
    unreadable: [v3("Profile", "open", { ingress: [{ action: "Allow", protocol: "x" }] }), v3("Profile", "open", { egress: 1 })],
  },
];

class Server {
  readonly #compute = new Compute();
  readonly #table = new Table({ seed: seedOf("u") });

  constructor(objects: readonly object[]) {
    for (const object of objects) this.see(arrived(object).event);
  }

  see(...events: readonly ClusterEvent[]): void {
    for (const event of events) this.#compute.apply(event);
    this.#table.commit(this.#compute.flush().changes, 1n);
  }

  /** Digests of all nodes' views, and the objects that are listed. */
  state(): object {
    return { digests: NODES.map((node) => this.#table.viewDigest(this.#table.nodes.idOf(node))), problems: this.#compute.problems() };
  }
}

describe("replicas and objects that cannot be read", () => {
  it("the forms are what they say", () => {
    for (const { readable } of FORMS) for (const object of readable) expect(parseResource(object), JSON.stringify(object)).toMatchObject({ ok: true });
    for (const { unreadable } of FORMS)
      for (const object of unreadable)
        expect(new Server([...FIXED, object]).state(), JSON.stringify(object)).toMatchObject({ problems: [{ key: arrived(object).key }] });
  });

  it("a server that saw every version and one that starts now have the same digests", () => {
    const versions = FORMS.map(({ readable, unreadable }) => fc.option(fc.constantFrom(...readable, ...unreadable), { nil: undefined }));
    const step = fc.nat(FORMS.length - 1).chain((which) => (versions[which] ?? fc.constant(undefined)).map((object) => ({ which, object })));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (history) => {
        const old = new Server(FIXED);
        const present = new Map<number, object>();
        for (const { which, object } of history) {
          const before = present.get(which);
          if (object !== undefined) {
            present.set(which, object);
            old.see(arrived(object).event);
          } else if (before !== undefined) {
            present.delete(which);
            old.see({ kind: "delete", key: arrived(before).key });
          }
        }
        expect(old.state()).toEqual(new Server([...FIXED, ...present.values()]).state());
      }),
      { numRuns: 200 },
    );
  });
});
