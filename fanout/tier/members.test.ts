import { describe, expect, it } from "vitest";
import { node, serverSlice } from "../../test/fakes/fanout-fixture.ts";
import { isNear, Members, type MembersOptions } from "./members.ts";

const SERVICE = { namespace: "sedge-system", name: "sedge-fanout" };
const members = (options: Partial<MembersOptions> = {}): Members => new Members({ serverName: "pod-a", service: SERVICE, peers: [], ...options });
const upsert = (resource: ReturnType<typeof serverSlice> | ReturnType<typeof node>) => ({ kind: "upsert", resource }) as const;

describe("members", () => {
  it("are the endpoints of the Service: ready ones, those that are not, itself, one pod in two slices, IPv4 first", () => {
    const found = members();
    found.apply(
      upsert(
        serverSlice("v4", [
          { pod: "pod-b", address: "10.0.0.2:5473", zone: "z2" },
          { pod: "pod-a", address: "10.0.0.1:5473", zone: "z1", forZones: ["z1", "z3"] },
          { pod: "pod-c", address: "10.0.0.3:5473", isReady: false },
          { pod: "pod-d", address: "10.0.0.4:5473", isTerminating: true },
        ]),
      ),
    );
    found.apply(upsert({ ...serverSlice("a-v6", [{ pod: "pod-b", address: "[fd00::2]:5473", zone: "z2" }]), ports: [{ protocol: "TCP", port: 5473 }] }));
    expect(found.list.map(({ name, identity, addresses, isReady, isSelf }) => ({ name, identity, addresses, isReady, isSelf }))).toEqual([
      { name: "pod-a", identity: "10.0.0.1:5473", addresses: ["10.0.0.1:5473"], isReady: true, isSelf: true },
      { name: "pod-b", identity: "10.0.0.2:5473", addresses: ["10.0.0.2:5473", "[fd00::2]:5473"], isReady: true, isSelf: false },
      { name: "pod-c", identity: "10.0.0.3:5473", addresses: ["10.0.0.3:5473"], isReady: false, isSelf: false },
      { name: "pod-d", identity: "10.0.0.4:5473", addresses: ["10.0.0.4:5473"], isReady: false, isSelf: false },
    ]);
    expect(found.self?.name).toBe("pod-a");
  });

  it("other Services' slices, and changes that change nothing here, are no change; a slice that leaves the Service is one", () => {
    const found = members();
    const told: number[] = [];
    found.onChange(() => told.push(found.version));
    const slice = serverSlice("s", [{ pod: "pod-a", address: "10.0.0.1:5473" }]);
    found.apply(upsert({ ...slice, service: "other" }));
    found.apply(upsert({ ...slice, namespace: "other" as never }));
    expect(told).toEqual([]);
    found.apply(upsert(slice));
    found.apply(upsert({ ...slice, resourceVersion: "2" }));
    expect(told).toEqual([1]);
    found.apply(upsert({ ...slice, service: "other" }));
    expect([told, found.list]).toEqual([[1, 2], []]);
    found.apply(upsert(slice));
    found.apply({ kind: "delete", key: { kind: "EndpointSlice", namespace: "sedge-system", name: "s" } });
    expect([told, found.list]).toEqual([[1, 2, 3, 4], []]);
  });

  it("a list beyond 256 servers is cut, and an address list beyond four", () => {
    const found = members();
    const many = Array.from({ length: 300 }, (_, i) => ({ pod: `p${i}`, address: `10.1.${i >> 8}.${i & 255}:5473` }));
    found.apply(upsert(serverSlice("s", many)));
    expect(found.list).toHaveLength(256);
    const one = members();
    for (let i = 0; i < 6; i++) one.apply(upsert(serverSlice(`s${i}`, [{ pod: "pod-b", address: `10.2.0.${i}:5473` }])));
    expect(one.list.map(({ addresses }) => addresses.length)).toEqual([4]);
  });

  it("peers stand where no Service tells; what both tell of is one server", () => {
    const found = members({ service: undefined, advertise: "10.0.0.1:5473", peers: ["10.0.0.2:5473"] });
    expect(found.list.map(({ name, isSelf, isReady }) => [name, isSelf, isReady])).toEqual([
      ["pod-a", true, true],
      ["10.0.0.2:5473", false, true],
    ]);
    const both = members({ peers: ["10.0.0.2:5473"] });
    both.apply(upsert(serverSlice("s", [{ pod: "pod-b", address: "10.0.0.2:5473", isReady: false }])));
    expect(both.list).toMatchObject([{ name: "pod-b", isReady: false }]);
  });

  it("zones of nodes come from their labels; hints count more than the zone", () => {
    const found = members();
    found.apply(upsert({ ...node("n1", 1), labels: { "topology.kubernetes.io/zone": "z1" } } as never));
    expect([found.zoneOf("n1"), found.zoneOf("n2"), found.nodeCount]).toEqual(["z1", "", 1]);
    expect(isNear({ zone: "z1", forZones: [] }, "z1")).toBe(true);
    expect(isNear({ zone: "z1", forZones: ["z2"] }, "z1")).toBe(false);
    expect(isNear({ zone: "z2", forZones: ["z1"] }, "z1")).toBe(true);
    expect(isNear({ zone: "", forZones: [] }, "")).toBe(false);
    found.apply({ kind: "delete", key: { kind: "Node", namespace: "", name: "n1" } });
    expect(found.nodeCount).toBe(0);
  });
});
