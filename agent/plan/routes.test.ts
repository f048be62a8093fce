import { describe, expect, it } from "vitest";
import { type NodeName, podKey } from "../../src/model/names.ts";
import { type NodeEntry, type RecordKey, type RecordValue, recordKey } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";
import { floatingAddresses } from "./floating.ts";
import { desiredRoutes, diffRoutes, type PlannedRoute, type RoutePlan } from "./routes.ts";

const node = (name: string, addresses: readonly string[], blocks: readonly string[]): NodeEntry => ({
  kind: "node",
  name: name as NodeName,
  addresses: addresses.map(parseIp),
  blocks: blocks.map(parseCidr),
});

function plan(values: readonly RecordValue[], pods: Readonly<Record<string, readonly string[]>> = {}): RoutePlan {
  const records = new Map<RecordKey, RecordValue>(values.map((value) => [recordKey(value), value]));
  const endpoints = Object.entries(pods).map(([name, addresses]) => ({
    podKey: podKey("shop", name),
    interfaceName: `cali${name}`,
    addresses: addresses.map(parseIp),
  }));
  return desiredRoutes({ records, endpoints, floating: floatingAddresses(records, endpoints), nodeName: "n1" });
}

const texts = ({ routes }: RoutePlan): readonly string[] => [...routes.values()].map(routeText);

function routeText(route: PlannedRoute): string {
  if (route.kind === "blackhole") return `blackhole ${route.destination}`;
  return route.kind === "node" ? `${route.destination} via ${route.via}` : `${route.destination} dev ${route.interfaceName}`;
}

describe("desiredRoutes", () => {
  it("own blocks are blackholes, but not those of one address; others' go via their node in the block's family; pods by interface", () => {
    const found = plan(
      [
        node("n1", ["192.0.2.1"], ["10.65.0.0/26", "10.65.9.9/32", "fd65::/122"]),
        node("n2", ["192.0.2.2", "2001:db8::2"], ["10.65.1.0/26", "fd65::40/122", "10.65.7.7/32"]),
      ],
      { a: ["10.65.0.1", "fd65::1"] },
    );
    expect(texts(found)).toEqual([
      "blackhole 10.65.0.0/26",
      "blackhole fd65::/122",
      "10.65.1.0/26 via 192.0.2.2",
      "fd65::40/122 via 2001:db8::2",
      "10.65.7.7/32 via 192.0.2.2",
      "10.65.0.1/32 dev calia",
      "fd65::1/128 dev calia",
    ]);
    expect(found.failures).toEqual([]);
  });

  it("a floating address goes to its pod's interface here and to its node elsewhere; a pod's own route wins over it", () => {
    const values: readonly RecordValue[] = [
      node("n1", ["192.0.2.1"], ["10.65.0.0/26"]),
      node("n2", ["192.0.2.2"], []),
      { kind: "borrowed", node: "n1" as NodeName, addresses: ["10.65.9.1", "10.65.0.2"].map(parseIp) },
      { kind: "borrowed", node: "n2" as NodeName, addresses: [parseIp("10.65.9.2")] },
      { kind: "endpoint", namespace: "shop", pod: "a", uid: "", stack: "", addresses: [], floating: ["10.65.9.1", "10.65.0.2", "fd65::9"].map(parseIp) },
    ];
    expect(texts(plan(values))).toEqual(["blackhole 10.65.0.0/26", "blackhole 10.65.9.1/32", "blackhole 10.65.0.2/32", "10.65.9.2/32 via 192.0.2.2"]);
    // Of a family that the pod has no address of: nothing to lead to.
    expect(texts(plan(values, { a: ["10.65.0.1"], b: ["10.65.0.2"] }))).toEqual([
      "blackhole 10.65.0.0/26",
      "10.65.9.1/32 dev calia",
      "10.65.0.2/32 dev calib",
      "10.65.9.2/32 via 192.0.2.2",
      "10.65.0.1/32 dev calia",
    ]);
  });

  it("borrowed addresses go to who has them, over the route of their block; here they go nowhere until a pod has them", () => {
    const borrowed = (name: string, ...addresses: readonly string[]): RecordValue => ({
      kind: "borrowed",
      node: name as NodeName,
      addresses: addresses.map(parseIp),
    });
    const found = plan(
      [
        node("n1", ["192.0.2.1"], ["10.65.0.0/26"]),
        node("n2", ["192.0.2.2"], ["10.65.1.0/26"]),
        node("n3", ["192.0.2.3"], []),
        borrowed("n1", "10.65.1.9", "10.65.1.10"),
        borrowed("n3", "10.65.0.7", "10.65.1.7", "fd65::7"),
      ],
      { a: ["10.65.1.10"] },
    );
    expect(texts(found)).toEqual([
      "blackhole 10.65.0.0/26",
      "10.65.1.0/26 via 192.0.2.2",
      "blackhole 10.65.1.9/32",
      "10.65.1.10/32 dev calia",
      "10.65.0.7/32 via 192.0.2.3",
      "10.65.1.7/32 via 192.0.2.3",
    ]);
    expect(found.failures).toEqual([{ key: "borrowed/n3", reason: "fd65::7/128 cannot be routed: the node has no IPv6 address" }]);
    const twice = plan([node("n1", ["192.0.2.1"], []), borrowed("n2", "10.65.0.7"), borrowed("n3", "10.65.0.7")]);
    expect([texts(twice), twice.failures.map(({ key }) => key)]).toEqual([[], ["borrowed/n2", "borrowed/n3"]]);
  });

  it("a block that two nodes state → routed to neither, reported for both; this node's own stays a blackhole", () => {
    const found = plan([
      node("n1", ["192.0.2.1"], ["10.65.0.0/26"]),
      node("n2", ["192.0.2.2"], ["10.65.0.0/26", "10.65.1.0/26"]),
      node("n3", ["192.0.2.3"], ["10.65.1.0/26"]),
    ]);
    expect(texts(found)).toEqual(["blackhole 10.65.0.0/26"]);
    expect(found.failures.map(({ key }) => key).sort()).toEqual(["node/n1", "node/n2", "node/n2", "node/n3"]);
  });

  it("a node without an address in the block's family → no route, reported", () => {
    const found = plan([node("n2", ["192.0.2.2"], ["fd65::/122"])]);
    expect([texts(found), found.failures]).toEqual([[], [{ key: "node/n2", reason: "block fd65::/122 cannot be routed: the node has no IPv6 address" }]]);
  });

  it("a pod's own route wins over a block of one address", () => {
    expect(texts(plan([node("n2", ["192.0.2.2"], ["10.65.0.1/32"])], { a: ["10.65.0.1"] }))).toEqual(["10.65.0.1/32 dev calia"]);
  });
});

describe("diffRoutes", () => {
  it("changed routes are replaced, not removed first; equal ones stay", () => {
    const before = plan([node("n2", ["192.0.2.2"], ["10.65.1.0/26", "10.65.2.0/26"]), node("n3", ["192.0.2.3"], ["10.65.3.0/26"])]).routes;
    const after = plan([node("n2", ["192.0.2.22"], ["10.65.1.0/26"]), node("n3", ["192.0.2.3"], ["10.65.3.0/26"])]).routes;
    const { removed, added } = diffRoutes(before, after);
    expect([removed.map(routeText), added.map(routeText)]).toEqual([["10.65.2.0/26 via 192.0.2.2"], ["10.65.1.0/26 via 192.0.2.22"]]);
    expect(diffRoutes(after, after)).toEqual({ removed: [], added: [] });
  });
});
