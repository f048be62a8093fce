import { describe, expect, it } from "vitest";
import { parseCidr } from "../../src/net/cidr.ts";
import type { Route, RouteChange } from "../drivers/rtnetlink/routes.ts";
import type { PlannedRoute } from "../plan/routes.ts";
import { KernelRoutes, type RouteDriver } from "./kernel-routes.ts";

/** A kernel that takes everything, and counts how often it is read. */
class Kernel {
  readonly indexes = new Map([
    ["calia", 2],
    ["calib", 3],
  ]);
  readings = 0;
  readonly installed: RouteChange[] = [];

  readonly driver: RouteDriver = {
    findIndex: (name) => this.indexes.get(name),
    links: () =>
      [...this.indexes].map(([name, index]) => ({
        name,
        index,
        mtu: 1500,
        mac: undefined,
        flags: 1,
        isUp: true,
        hasCarrier: true,
        kind: "veth",
        peerIndex: undefined,
        masterIndex: undefined,
      })),
    addresses: () => [],
    routes: (): Route[] => {
      this.readings++;
      return [];
    },
    changeRoutes: (changes) => {
      this.installed.push(...changes);
      return [];
    },
    watch: () => Promise.resolve(),
  };
}

const route = (name: string, address: string): PlannedRoute => ({ kind: "pod", destination: parseCidr(`${address}/32`), interfaceName: name });
const planned = (...routes: readonly PlannedRoute[]): ReadonlyMap<PlannedRoute["destination"], PlannedRoute> =>
  new Map(routes.map((one) => [one.destination, one]));
const A = route("calia", "10.65.0.1");
const B = route("calib", "10.65.0.2");

describe("KernelRoutes", () => {
  it("mayHaveLost: an interface with a route of ours that is gone, down, or another one under its name", () => {
    const kernel = new Kernel();
    const routes = new KernelRoutes(kernel.driver);
    const up = { name: "calia", index: 2, isUp: true };
    // Nothing was read yet.
    expect(routes.mayHaveLost(false, up)).toBe(true);
    routes.apply(planned(A));
    expect([
      routes.mayHaveLost(false, up),
      routes.mayHaveLost(true, up),
      routes.mayHaveLost(false, { ...up, isUp: false }),
      routes.mayHaveLost(false, { ...up, index: 9 }),
    ]).toEqual([false, true, true, true]);
    // A pod that comes, and one that went after its route.
    for (const isGone of [false, true]) expect(routes.mayHaveLost(isGone, { name: "calib", index: 3, isUp: false })).toBe(false);
    routes.apply(planned(B));
    expect([routes.mayHaveLost(true, up), routes.mayHaveLost(true, { name: "calib", index: 3, isUp: true })]).toEqual([false, true]);
    routes.doubt();
    expect(routes.mayHaveLost(false, up)).toBe(true);
  });

  it("pods that are connected and removed: the kernel is read once", () => {
    const kernel = new Kernel();
    const routes = new KernelRoutes(kernel.driver);
    for (const desired of [planned(A), planned(A, B), planned(B), planned()]) expect(routes.apply(desired).failed).toEqual([]);
    expect(kernel.readings).toBe(1);
    expect(kernel.installed.map(({ kind, route: { destination } }) => `${kind} ${destination}`)).toEqual([
      "add 10.65.0.1/32",
      "add 10.65.0.2/32",
      "delete 10.65.0.1/32",
      "delete 10.65.0.2/32",
    ]);
  });
});
