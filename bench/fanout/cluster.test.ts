import { describe, expect, it } from "vitest";
import { Compute } from "../../src/compute/compute.ts";
import type { ClusterEvent } from "../../src/model/event.ts";
import { Cluster, type ClusterShape, CONCERNED_NODES, nodeName } from "./cluster.ts";

const SHAPE: ClusterShape = { agents: 40, nodes: 60, podsPerNode: 3, policies: 4, seed: 3 };

describe("generated cluster", () => {
  it("equal seeds give equal events, another seed others", () => {
    const eventsOf = (seed: number): ClusterEvent[] => {
      const cluster = new Cluster({ ...SHAPE, seed });
      return [...cluster.initial(), ...Array.from({ length: 30 }, () => cluster.change("scoped").events).flat()];
    };
    expect(eventsOf(3)).toEqual(eventsOf(3));
    expect(eventsOf(4)).not.toEqual(eventsOf(3));
  });

  it("a scoped change changes one set, of the nodes that it says, and at most one endpoint, of one of them", () => {
    const cluster = new Cluster(SHAPE);
    const compute = new Compute();
    for (const event of cluster.initial()) compute.apply(event);
    const audiences = new Map(compute.flush().changes.map(({ key, entered }) => [key, new Set(entered)]));
    for (let i = 0; i < 200; i++) {
      const change = cluster.change("scoped");
      for (const event of change.events) compute.apply(event);
      const { changes } = compute.flush();
      const sets = changes.filter(({ key }) => key.startsWith("set/"));
      const endpoints = changes.filter(({ key }) => key.startsWith("endpoint/"));
      expect(sets).toHaveLength(1);
      expect(endpoints).toHaveLength(1);
      expect(changes).toHaveLength(2);
      const concerned = new Set(change.concerns?.map(nodeName));
      expect(concerned.size).toBe(CONCERNED_NODES);
      expect(audiences.get(sets[0]?.key ?? "")).toEqual(concerned);
      for (const node of [...(endpoints[0]?.entered ?? []), ...(endpoints[0]?.left ?? [])]) expect(concerned).toContain(node);
    }
  });

  it("a broadcast change changes one node's record, and concerns all", () => {
    const cluster = new Cluster(SHAPE);
    const compute = new Compute();
    for (const event of cluster.initial()) compute.apply(event);
    compute.flush();
    for (const kind of ["broadcast", "hot"] as const) {
      const change = cluster.change(kind);
      for (const event of change.events) compute.apply(event);
      expect(change.concerns).toBeUndefined();
      expect(compute.flush().changes.map(({ key }) => key.split("/")[0])).toEqual(["node"]);
    }
  });
});
