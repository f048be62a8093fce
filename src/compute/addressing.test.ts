import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { namespace, node, pod, pool } from "../../test/fakes/cluster-objects.ts";
import { addressRequestOf } from "../ipam/pool-selection.ts";
import { type NamespaceName, type NodeName, podKey } from "../model/names.ts";
import type { AddressRequest } from "../model/record.ts";
import type { IpPool, Labels, Namespace, Node, Pod } from "../model/resource.ts";
import { Addressing } from "./addressing.ts";

const WEB = podKey("shop", "web");
const SHOP = "shop" as NamespaceName;
const N1 = "n1" as NodeName;
const at = (on: NodeName = N1): Parameters<Addressing["requestOf"]>[0] => ({ key: WEB, namespace: "shop", node: on });
const asking = (addressing: Labels): Pod => ({ ...pod("web", { on: "n1", ips: [] }), addressing });
const shop = (labels: Labels, addressing: Labels = {}): Namespace => ({
  ...namespace("shop", labels),
  ...(Object.keys(addressing).length === 0 ? {} : { addressing }),
});
const labelled = (name: string, labels: Labels): Node => ({ ...node(name, "192.0.2.1"), labels });
const open = pool("open", "10.0.0.0/16", false);
const gold: IpPool = { ...pool("gold", "10.1.0.0/16", false), namespaceSelector: "tier == 'gold'" };

/** Namespaces whose pods are to be asked again, or "all". */
function told(addressing: Addressing): "all" | readonly string[] {
  const changed = addressing.takeChanged();
  return changed === "all" ? changed : [...changed];
}

describe("Addressing", () => {
  it("nothing is asked for, and nobody is asked again, while no pod has a wish and no pool selects", () => {
    const addressing = new Addressing();
    addressing.setPool("open", open);
    addressing.setNode(N1, labelled("n1", {}));
    addressing.setNamespace(SHOP, shop({ tier: "gold" }));
    expect(addressing.setPod(WEB, pod("web", { on: "n1", ips: [] }))).toBe(false);
    expect([addressing.requestOf(at()), told(addressing)]).toEqual([undefined, []]);
  });

  it("a pod's wish: told when it changes, not when it is said again; gone with the pod", () => {
    const addressing = new Addressing();
    addressing.setPool("open", open);
    const wish = asking({ ipAddrs: '["10.0.0.9"]' });
    expect([addressing.setPod(WEB, wish), addressing.setPod(WEB, { ...wish, resourceVersion: "2" })]).toEqual([true, false]);
    expect(addressing.requestOf(at())?.addresses).toEqual(["10.0.0.9"]);
    expect([addressing.setPod(WEB, undefined), addressing.requestOf(at())]).toEqual([true, undefined]);
  });

  it("a namespace's wish and labels concern its pods alone, and only while they matter", () => {
    const addressing = new Addressing();
    addressing.setPool("open", open);
    addressing.takeChanged();
    addressing.setNamespace(SHOP, shop({ tier: "tin" }));
    expect(told(addressing)).toEqual([]);
    addressing.setNamespace(SHOP, shop({ tier: "tin" }, { ipv4pools: '["open"]' }));
    expect(told(addressing)).toEqual(["shop"]);
    expect(addressing.requestOf(at())?.pools).toEqual(["open"]);
    addressing.setNamespace(SHOP, undefined);
    expect([told(addressing), addressing.requestOf(at())]).toEqual([["shop"], undefined]);
  });

  it("a pool that selects namespaces concerns all; a label then moves a namespace's pods", () => {
    const addressing = new Addressing();
    addressing.setPool("open", open);
    addressing.setNamespace(SHOP, shop({ tier: "gold" }));
    addressing.takeChanged();
    addressing.setPool("gold", gold);
    expect([addressing.takeChanged(), addressing.requestOf(at())?.pools]).toEqual(["all", ["gold", "open"]]);
    addressing.setNamespace(SHOP, shop({ tier: "tin" }));
    expect([told(addressing), addressing.requestOf(at())?.pools]).toEqual([["shop"], undefined]);
    addressing.setPool("gold", undefined);
    expect([addressing.takeChanged(), addressing.requestOf(at())]).toEqual(["all", undefined]);
  });

  it("a node's labels concern all while anyone has a wish, and nobody otherwise", () => {
    const addressing = new Addressing();
    addressing.setPool("east", { ...pool("east", "10.2.0.0/16", false), nodeSelector: "zone == 'east'" });
    addressing.setNode(N1, labelled("n1", {}));
    expect(told(addressing)).toEqual([]);
    addressing.setPod(WEB, asking({ ipFamilies: '["IPv4"]' }));
    addressing.setNode(N1, labelled("n1", { zone: "east" }));
    expect(addressing.takeChanged()).toBe("all");
    addressing.setNode(N1, labelled("n1", { zone: "east" }));
    expect(told(addressing)).toEqual([]);
  });

  it("in any order of events: the request is that of the present objects, and whoever's request changed is told", () => {
    const labels = fc.constantFrom<Labels>({}, { tier: "gold" }, { zone: "east" });
    const wish = fc.constantFrom<Labels>({}, { ipv4pools: '["open"]' }, { ipAddrs: '["10.0.0.9"]' }, { ipFamilies: '["IPv4"]' });
    const event = fc.oneof(
      fc.record({ kind: fc.constant("pod" as const), wish: fc.option(wish) }),
      fc.record({ kind: fc.constant("namespace" as const), labels: fc.option(labels), wish }),
      fc.record({ kind: fc.constant("node" as const), labels: fc.option(labels) }),
      fc.record({
        kind: fc.constant("pool" as const),
        pool: fc.constantFrom(open, gold, { ...pool("east", "10.2.0.0/16", false), nodeSelector: "zone == 'east'" }),
        isGone: fc.boolean(),
      }),
    );
    fc.assert(
      fc.property(fc.array(event, { maxLength: 30 }), (events) => {
        const addressing = new Addressing();
        const pools = new Map<string, IpPool>();
        const now: { pod?: Labels | undefined; namespace?: { labels: Labels; addressing: Labels } | undefined; node?: Labels | undefined } = {};
        let before: AddressRequest | undefined;
        for (const one of events) {
          let isTold = false;
          if (one.kind === "pod") {
            now.pod = one.wish === null || Object.keys(one.wish).length === 0 ? undefined : one.wish;
            isTold = addressing.setPod(
              WEB,
              one.wish === null ? undefined : Object.keys(one.wish).length === 0 ? pod("web", { on: "n1", ips: [] }) : asking(one.wish),
            );
          } else if (one.kind === "namespace") {
            now.namespace = one.labels === null ? undefined : { labels: one.labels, addressing: one.wish };
            addressing.setNamespace(SHOP, one.labels === null ? undefined : shop(one.labels, one.wish));
          } else if (one.kind === "node") {
            now.node = one.labels ?? undefined;
            addressing.setNode(N1, one.labels === null ? undefined : labelled("n1", one.labels));
          } else {
            if (one.isGone) pools.delete(one.pool.name);
            else pools.set(one.pool.name, one.pool);
            addressing.setPool(one.pool.name, one.isGone ? undefined : one.pool);
          }
          const changed = addressing.takeChanged();
          const request = addressing.requestOf(at());
          const isNeeded = now.pod !== undefined || Object.keys(now.namespace?.addressing ?? {}).length > 0 || pools.has("gold");
          const naive = addressRequestOf({
            pod: now.pod ?? {},
            namespace: now.namespace ?? { labels: {}, addressing: {} },
            node: { labels: now.node ?? {} },
            pools: [...pools.values()],
          });
          expect(request).toEqual(isNeeded ? naive : undefined);
          if (JSON.stringify(request) !== JSON.stringify(before)) expect(isTold || changed === "all" || changed.has("shop")).toBe(true);
          before = request;
        }
      }),
    );
  });
});
