import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { rankServers } from "./rendezvous.ts";

const servers = (count: number, near: (i: number) => boolean = () => false): { identity: string; isNear: boolean }[] =>
  Array.from({ length: count }, (_, i) => ({ identity: `10.0.0.${i + 1}:5473`, isNear: near(i) }));
const NODES = Array.from({ length: 3_000 }, (_, i) => `node-${i}`);
const first = (node: string, list: ReturnType<typeof servers>): string => rankServers(node, list)[0]?.identity ?? "";

describe("rankServers", () => {
  it("spreads nodes evenly, and the second choices of one server's nodes too", () => {
    const list = servers(5);
    const counts = new Map<string, number>();
    for (const node of NODES) counts.set(first(node, list), (counts.get(first(node, list)) ?? 0) + 1);
    // 600 each; the standard deviation of each is 22.
    for (const count of counts.values()) expect(Math.abs(count - 600)).toBeLessThan(110);
    const heirs = new Map<string, number>();
    for (const node of NODES.filter((one) => first(one, list) === "10.0.0.1:5473")) {
      const second = rankServers(node, list)[1]?.identity ?? "";
      heirs.set(second, (heirs.get(second) ?? 0) + 1);
    }
    expect(heirs.size).toBe(4);
    for (const count of heirs.values()) expect(Math.abs(count - 150)).toBeLessThan(60);
  });

  it("a server that comes takes only the nodes whose first choice it is; one that goes gives away only its own", () => {
    const before = servers(4);
    const after = servers(5);
    for (const node of NODES) {
      const [old, now] = [first(node, before), first(node, after)];
      if (old !== now) expect(now).toBe("10.0.0.5:5473");
    }
  });

  it("near servers first, whatever their hash", () => {
    const list = servers(6, (i) => i % 3 === 0);
    for (const node of NODES.slice(0, 100)) expect(rankServers(node, list).map(({ isNear }) => isNear)).toEqual([true, true, false, false, false, false]);
  });

  it("does not depend on the order of the list", () => {
    fc.assert(
      fc.property(
        fc.shuffledSubarray(
          servers(7, (i) => i < 2),
          { minLength: 7 },
        ),
        fc.constantFrom(...NODES),
        (shuffled, node) => {
          expect(rankServers(node, shuffled)).toEqual(
            rankServers(
              node,
              servers(7, (i) => i < 2),
            ),
          );
        },
      ),
    );
  });

  it("is what other implementations must compute: XXH64, seed 0, of node, line feed, identity", () => {
    expect(rankServers("n1", servers(3)).map(({ identity }) => identity)).toEqual(["10.0.0.2:5473", "10.0.0.3:5473", "10.0.0.1:5473"]);
  });
});
