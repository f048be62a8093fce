import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { block, namespace, node, pod, policy, pool, selector } from "../../test/fakes/cluster-objects.ts";
import type { ClusterEvent } from "../model/event.ts";
import { type NodeName, podKey } from "../model/names.ts";
import type { RecordKey, RecordValue } from "../model/record.ts";
import { type BlockAllocation, describeKey, keyOf, type Pod, type Resource } from "../model/resource.ts";
import { parseIp } from "../net/ip.ts";
import { Compute } from "./compute.ts";

const upsert = (resource: Resource): ClusterEvent => ({ kind: "upsert", resource });
const deletion = (resource: Resource): ClusterEvent => ({ kind: "delete", key: keyOf(resource) });
const OLD = "2026-01-01T00:00:00Z";
const YOUNG = "2026-01-02T00:00:00Z";

function floats(name: string, on: string, own: string, text: string, createdAt = OLD): Pod {
  return { ...pod(name, { on, ips: own === "" ? [] : [own], labels: { app: name } }), floating: { text, createdAt } };
}

/** A block of n2 with one address, which is n1's. */
function withHandle(address: string, more: Pick<BlockAllocation, "handle" | "loan">): Resource {
  const [allocation] = block("10.0.0.0/26", "n2", [{ ip: address, pod: "any" }]).allocations;
  if (allocation === undefined) throw new TypeError("no allocation");
  return { ...block("10.0.0.0/26", "n2", []), allocations: [{ ...allocation, pod: undefined, node: "n1" as NodeName, ...more }] };
}

/** What all commits add up to, of what matters here. */
class Told {
  readonly compute: Compute;
  readonly #records = new Map<RecordKey, RecordValue>();

  constructor(floatingIps = true) {
    this.compute = new Compute({ floatingIps });
  }

  after(...events: readonly ClusterEvent[]): Readonly<Record<string, readonly string[]>> {
    for (const event of events) this.compute.apply(event);
    const { changes, problems } = this.compute.flush();
    for (const { key, value, isRemoved } of changes) {
      if (isRemoved) this.#records.delete(key);
      else if (value !== undefined) this.#records.set(key, value);
    }
    const found: [string, readonly string[]][] = [];
    for (const [key, value] of this.#records) {
      if (value.kind === "endpoint" && value.floating !== undefined) found.push([key, value.floating]);
      if (value.kind === "borrowed") found.push([key, value.addresses]);
    }
    for (const { key, problems: list } of problems) found.push([describeKey(key), list.map(({ message }) => message)]);
    return Object.fromEntries(found.sort(([a], [b]) => (a < b ? -1 : 1)));
  }
}

const nodes = [node("n1", "192.0.2.1"), node("n2", "192.0.2.2")].map(upsert);
const pools = [pool("p", "10.0.0.0/16", false), pool("p6", "fd00::/48", false)].map(upsert);

describe("floating addresses", () => {
  it("are told to the pod's node with its record, and to every node as a route; the pod's other records stay as they are", () => {
    const told = new Told();
    const web = floats("web", "n1", "10.0.0.1", '["10.0.9.2", "10.0.9.1"]');
    const rule = policy("p", { podSelector: selector({ app: "web" }), ingress: [] });
    expect(told.after(...nodes, ...pools, upsert(web), upsert(rule))).toEqual({
      "endpoint/shop/web": ["10.0.9.1", "10.0.9.2"],
      "borrowed/n1": ["10.0.9.1", "10.0.9.2"],
    });
    // The annotation is taken away.
    const { floating: _gone, ...plain } = web;
    for (const event of [upsert(plain)]) told.compute.apply(event);
    const { changes } = told.compute.flush();
    expect(changes.map(({ key, isRemoved }) => `${isRemoved ? "-" : "="} ${key}`)).toEqual(["- borrowed/n1", "= endpoint/shop/web"]);
  });

  it("a pod on another node takes them along; a pod without an address yet has them already", () => {
    const told = new Told();
    const before = told.after(...nodes, ...pools, upsert(floats("web", "n1", "", '["10.0.9.1"]')));
    expect(before).toEqual({ "endpoint/shop/web": ["10.0.9.1"], "borrowed/n1": ["10.0.9.1"] });
    expect(told.after(upsert(floats("web", "n2", "10.0.0.1", '["10.0.9.1"]')))).toEqual({ "endpoint/shop/web": ["10.0.9.1"], "borrowed/n2": ["10.0.9.1"] });
  });

  const web = (text: string): Pod => floats("web", "n1", "10.0.0.1", text);
  it.each<[string, readonly Resource[], string]>([
    ["no JSON", [web("10.0.9.1")], "it is not JSON"],
    ["no list", [web('"10.0.9.1"')], "it is not a list"],
    ["no address", [web('["10.0.9.1", "10.0.9.0/24"]')], '"10.0.9.0/24" is not an IP address'],
    ["no text", [web("[1]")], "1 is not an IP address"],
    ["in no pool", [web('["172.16.0.1"]')], "172.16.0.1: no IPPool has it"],
    ["the pod's own", [web('["10.0.0.1"]')], "it is the own address of pod shop/web"],
    ["another pod's own", [web('["10.0.0.2"]'), pod("db", { on: "n2", ips: ["10.0.0.2"] })], "it is the own address of pod shop/db"],
    [
      "another pod's own, by its block",
      [web('["10.0.0.9"]'), pod("db", { on: "n2" }), block("10.0.0.0/26", "n2", [{ ip: "10.0.0.9", pod: "db" }])],
      "of pod shop/db",
    ],
    [
      "allocated to a pod that is not known",
      [web('["10.0.0.9"]'), block("10.0.0.0/26", "n2", [{ ip: "10.0.0.9", pod: "gone" }])],
      "10.0.0.9: IPAMBlock 10-0-0-0-26 has it allocated to pod shop/gone; take another",
    ],
    [
      "allocated to what is no pod",
      [web('["10.0.0.9"]'), withHandle("10.0.0.9", { handle: "ipip-tunnel-addr-n2" })],
      "IPAMBlock 10-0-0-0-26 has it allocated to handle ipip-tunnel-addr-n2",
    ],
    [
      "on loan to a node",
      [web('["10.0.0.9"]'), withHandle("10.0.0.9", { handle: "loan", loan: { id: "l", claim: "c", isAgreed: false } })],
      "allocated to node n1, which has borrowed it or asks for it",
    ],
    ["of a family that the pod has not", [web('["fd00::1"]')], "the pod has no IPv6 address"],
  ])("%s → a problem of the pod, which goes without", (_what, resources, problem) => {
    for (const list of [resources, [...resources].reverse()]) {
      const told = new Told().after(...nodes, ...pools, ...list.map(upsert));
      expect(Object.keys(told)).toEqual(["Pod shop/web"]);
      expect(told["Pod shop/web"]?.join()).toContain(problem);
    }
  });

  it("what is given is known by its node, to be lent to nobody; allocated all the same it is floating no more, until that ends", () => {
    const told = new Told();
    const free = block("10.0.9.0/26", "n2", []);
    told.after(...nodes, ...pools, upsert(floats("web", "n1", "10.0.0.1", '["10.0.9.1"]')), upsert(free));
    expect([told.compute.floatingNodeOf(parseIp("10.0.9.1")), told.compute.floatingNodeOf(parseIp("10.0.9.2"))]).toEqual(["n1", undefined]);
    expect(Object.keys(told.after(upsert(block("10.0.9.0/26", "n2", [{ ip: "10.0.9.1", pod: "db" }]))))).toEqual(["Pod shop/web"]);
    expect(told.compute.floatingNodeOf(parseIp("10.0.9.1"))).toBeUndefined();
    expect(told.after(upsert(free))).toEqual({ "endpoint/shop/web": ["10.0.9.1"], "borrowed/n1": ["10.0.9.1"] });
    expect(told.after(upsert({ ...block("10.0.9.0/26", "n2", [{ ip: "10.0.9.1", pod: "db" }]), isDeleted: true }))["borrowed/n1"]).toEqual(["10.0.9.1"]);
  });

  it("of two pods the older has it, of the same age the first by name; when that one goes, the other", () => {
    const young = floats("a", "n1", "10.0.0.1", '["10.0.9.1", "10.0.9.2"]', YOUNG);
    const old = floats("b", "n2", "10.0.0.2", '["10.0.9.1"]', OLD);
    const told = new Told();
    expect(told.after(...nodes, ...pools, upsert(young), upsert(old))).toEqual({
      "endpoint/shop/a": ["10.0.9.2"],
      "endpoint/shop/b": ["10.0.9.1"],
      "borrowed/n1": ["10.0.9.2"],
      "borrowed/n2": ["10.0.9.1"],
      "Pod shop/a": ["10.0.9.1: pod shop/b has it, which comes first by age, then name; take another; the pod goes without it"],
    });
    expect(told.after(deletion(old))).toEqual({ "endpoint/shop/a": ["10.0.9.1", "10.0.9.2"], "borrowed/n1": ["10.0.9.1", "10.0.9.2"] });
    expect(told.after(upsert({ ...old, floating: { text: '["10.0.9.1"]', createdAt: YOUNG } }))["endpoint/shop/a"]).toEqual(["10.0.9.1", "10.0.9.2"]);
  });

  it("an address that a pod gets as its own is no longer floating; a pool that goes takes its addresses along", () => {
    const told = new Told();
    told.after(...nodes, ...pools, upsert(floats("web", "n1", "10.0.0.1", '["10.0.9.1"]')));
    const db = pod("db", { on: "n2", ips: ["10.0.9.1"] });
    expect(Object.keys(told.after(upsert(db)))).toEqual(["Pod shop/web"]);
    expect(told.after(deletion(db))).toEqual({ "endpoint/shop/web": ["10.0.9.1"], "borrowed/n1": ["10.0.9.1"] });
    expect(told.after(deletion(pool("p", "10.0.0.0/16", false)))["Pod shop/web"]?.join()).toContain("no IPPool has it");
    expect(Object.keys(told.after(deletion(floats("web", "n1", "", ""))))).toEqual([]);
  });

  it("off: nobody has any, and each pod that asks is told so", () => {
    const told = new Told(false).after(...nodes, ...pools, upsert(floats("web", "n1", "10.0.0.1", '["10.0.9.1"]')));
    expect(told).toEqual({
      "Pod shop/web": [
        "floating addresses are off: set floatingIPs: Enabled in FelixConfiguration default (or start the fan-out servers with --floating-ips), or take it away",
      ],
    });
  });

  it("any history of pods, blocks and pools → what is told is what a server says that hears of the end alone; no address twice, none that is a pod's own", () => {
    const address = fc.constantFrom("10.0.0.1", "10.0.0.2", "10.0.9.1", "10.0.9.2", "fd00::1", "fd00:9::1");
    const text = fc.oneof(
      { weight: 6, arbitrary: fc.uniqueArray(address, { maxLength: 3 }).map((list) => JSON.stringify(list)) },
      { weight: 1, arbitrary: fc.constant("x") },
    );
    const on = fc.constantFrom("n1", "n2");
    const anyPod = fc
      .tuple(
        fc.constantFrom("a", "b", "c"),
        on,
        fc.uniqueArray(address, { maxLength: 2 }),
        fc.option(fc.tuple(text, fc.constantFrom(OLD, YOUNG)), { nil: undefined }),
      )
      .map(([name, where, ips, asked]): Resource => {
        const plain = pod(name, { on: where, ips });
        return asked === undefined ? plain : { ...plain, floating: { text: asked[0], createdAt: asked[1] } };
      });
    const anyBlock = fc
      .tuple(on, fc.uniqueArray(fc.tuple(fc.constantFrom("10.0.0.1", "10.0.0.2"), fc.constantFrom("a", "b")), { maxLength: 2, selector: ([ip]) => ip }))
      .map(
        ([owner, list]): Resource =>
          block(
            "10.0.0.0/26",
            owner,
            list.map(([ip, name]) => ({ ip, pod: name })),
          ),
      );
    const resource = fc.oneof(
      { weight: 6, arbitrary: anyPod },
      { weight: 1, arbitrary: anyBlock },
      {
        weight: 1,
        arbitrary: fc.constantFrom(pool("p", "10.0.0.0/16", false), pool("p", "10.0.9.0/24", false), pool("p6", "fd00::/32", false)) as fc.Arbitrary<Resource>,
      },
      { weight: 1, arbitrary: on.map((name): Resource => node(name, "192.0.2.1")) },
    );
    const step = fc.tuple(resource, fc.constantFrom("upsert", "upsert", "delete"), fc.boolean());
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25, size: "max" }), (history) => {
        const told = new Told();
        const state = new Map<string, Resource>();
        told.after(...nodes, ...pools);
        for (const event of [...nodes, ...pools]) if (event.kind === "upsert") state.set(describeKey(keyOf(event.resource)), event.resource);
        for (const [item, kind, isFlushed] of history) {
          told.compute.apply(kind === "upsert" ? upsert(item) : deletion(item));
          if (kind === "upsert") state.set(describeKey(keyOf(item)), item);
          else state.delete(describeKey(keyOf(item)));
          if (isFlushed) told.after();
        }
        const end = told.after();
        expect(end).toEqual(new Told().after(...[...state.values()].reverse().map(upsert)));
        const given = Object.entries(end).flatMap(([key, list]) => (key.startsWith("endpoint/") ? list : []));
        expect(new Set(given).size).toBe(given.length);
        const routed = Object.entries(end).flatMap(([key, list]) => (key.startsWith("borrowed/") ? list : []));
        // A pod's node may not be there.
        expect(given).toEqual(expect.arrayContaining(routed));
      }),
      { numRuns: 300 },
    );
  });

  it("namespaces and pods of others cost nothing that is told", () => {
    const told = new Told();
    told.after(...nodes, ...pools, upsert(namespace("shop", {})), upsert(floats("web", "n1", "10.0.0.1", '["10.0.9.1"]')));
    told.compute.apply(upsert(pod("db", { on: "n2", ips: ["10.0.0.2"] })));
    expect(told.compute.flush().changes.map(({ key }) => key)).toEqual([`endpoint/${podKey("shop", "db")}`]);
  });
});
