import { describe, expect, it } from "vitest";
import { node } from "../../test/fakes/cluster-objects.ts";
import type { ClusterEvent } from "../model/event.ts";
import { type FelixConfiguration, keyOf, type Node, type Resource } from "../model/resource.ts";
import type { StatedSettings } from "../model/stated-settings.ts";
import { Compute } from "./compute.ts";

const felix = (name: string, settings: StatedSettings, more: Partial<FelixConfiguration> = {}): FelixConfiguration => ({
  kind: "FelixConfiguration",
  name,
  resourceVersion: "1",
  createdAt: "2026-01-01T00:00:00Z",
  nodeSelector: "",
  settings,
  floatingIps: undefined,
  unused: [],
  ...more,
});
const edge = (name: string, createdAt: string, settings: StatedSettings): FelixConfiguration =>
  felix(name, settings, { createdAt, nodeSelector: "zone == 'edge'" });
const inZone = (name: string, zone: string): Node => ({ ...node(name), labels: { zone } });
const upsert = (resource: Resource): ClusterEvent => ({ kind: "upsert", resource });
const gone = (resource: Resource): ClusterEvent => ({ kind: "delete", key: keyOf(resource) });

/** What the nodes are told after each step: by node, or "-" where the record goes. */
function told(compute: Compute, ...events: readonly ClusterEvent[]): Readonly<Record<string, unknown>> {
  for (const event of events) compute.apply(event);
  const own = compute.flush().changes.filter(({ key }) => key.startsWith("node-settings/"));
  return Object.fromEntries(
    own.map(({ key, value, entered, left, isRemoved }) => {
      const name = key.slice("node-settings/".length);
      expect([...entered, ...left].every((each) => each === name)).toBe(true);
      if (isRemoved || value?.kind !== "node-settings") return [name, "-"];
      const { kind: _kind, node: _node, ...stated } = value;
      return [name, stated];
    }),
  );
}

const DEFAULT = felix("default", { logPrefix: "all", endpointToHostAction: "drop" });

describe("Compute: settings that FelixConfiguration states", () => {
  it("default, then the oldest whose selector matches, then the node's own: field by field; nobody else hears of it", () => {
    const compute = new Compute();
    expect(told(compute, upsert(inZone("n1", "edge")), upsert(inZone("n2", "core")))).toEqual({});
    const everywhere = { logPrefix: "all", endpointToHostAction: "drop" };
    expect(told(compute, upsert(DEFAULT))).toEqual({ n1: everywhere, n2: everywhere });
    expect(told(compute, upsert(edge("young", "2026-03-01T00:00:00Z", { logPrefix: "young", denyAction: "reject" })))).toEqual({
      n1: { logPrefix: "young", endpointToHostAction: "drop", denyAction: "reject" },
    });
    expect(told(compute, upsert(edge("old", "2025-03-01T00:00:00Z", { logPrefix: "old" })))).toEqual({
      n1: { logPrefix: "old", endpointToHostAction: "drop" },
    });
    const own = felix("node.n1", { failsafeInbound: [], endpointToHostAction: "accept" });
    expect(told(compute, upsert(own))).toEqual({ n1: { logPrefix: "old", endpointToHostAction: "accept", failsafeInbound: [] } });
    expect(told(compute, upsert(inZone("n1", "core")))).toEqual({ n1: { logPrefix: "all", endpointToHostAction: "accept", failsafeInbound: [] } });
    expect(told(compute, gone(own), gone(DEFAULT))).toEqual({ n1: "-", n2: "-" });
    expect(told(compute, upsert(inZone("n1", "edge")))).toEqual({ n1: { logPrefix: "old" } });
    expect(told(compute, gone(node("n1")))).toEqual({ n1: "-" });
  });

  it("objects before the nodes, an object of a node that is not there, an object that says nothing", () => {
    const compute = new Compute();
    expect(told(compute, upsert(DEFAULT), upsert(felix("node.n9", { logPrefix: "x" })))).toEqual({});
    expect(told(compute, upsert(node("n9")))).toEqual({ n9: { logPrefix: "x", endpointToHostAction: "drop" } });
    expect(told(compute, upsert(felix("node.n9", {})))).toEqual({ n9: DEFAULT.settings });
  });

  it("what is wrong and what has no meaning is listed, apart, and goes with the object", () => {
    const compute = new Compute();
    const listed = (...events: readonly ClusterEvent[]): unknown => {
      for (const event of events) compute.apply(event);
      return compute.flush().problems.map(({ key, problems, outcome }) => [key.name, outcome, problems.map(({ field }) => field)]);
    };
    const wrong = felix("east", { logPrefix: "x" }, { nodeSelector: "zone =", unused: ["bpfEnabled", "wireguardEnabled"] });
    expect(listed(upsert(node("n1")), upsert(wrong))).toEqual([
      ["east", "narrowed", ["spec.nodeSelector"]],
      ["east", "unused", ["spec.bpfEnabled", "spec.wireguardEnabled"]],
    ]);
    expect(listed(upsert({ ...wrong, nodeSelector: "has(zone)", unused: ["bpfEnabled"] }))).toEqual([["east", "unused", ["spec.bpfEnabled"]]]);
    expect(listed(gone(wrong))).toEqual([]);
  });

  it("floatingIPs holds before the server's flag, live", () => {
    for (const flag of [false, true]) {
      const compute = new Compute({ floatingIps: flag });
      const enabled = (floatingIps: boolean | undefined): void => compute.apply(upsert(felix("default", {}, { floatingIps })));
      const pod: Resource = {
        kind: "Pod",
        namespace: "shop" as never,
        name: "a",
        uid: "u",
        resourceVersion: "1",
        labels: {},
        node: "n1" as never,
        serviceAccount: "default",
        hostNetwork: false,
        isTerminated: false,
        addresses: [],
        namedPorts: [],
        floating: { text: "[]", createdAt: "" },
      };
      const isOff = (): boolean => compute.flush().problems.some(({ problems }) => problems.some(({ message }) => message.includes("are off")));
      compute.apply(upsert(node("n1")));
      compute.apply(upsert({ ...pod, floating: { text: '["10.0.0.9"]', createdAt: "" } }));
      const seen = [isOff()];
      for (const value of [true, false, undefined]) {
        enabled(value);
        seen.push(isOff());
      }
      compute.apply(gone(felix("default", {})));
      seen.push(isOff());
      expect(seen).toEqual([!flag, false, true, !flag, !flag]);
    }
  });
});
