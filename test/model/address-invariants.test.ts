/**
 * The invariants of addresses (those that Calico's own can be tested against, and those that agents which give from memory add), each with the tests that show it.
 * The table checks itself: every test that it names exists, under that title, and every invariant of docs/addresses.md is in it.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "../..");

interface Invariant {
  readonly id: string;
  readonly what: string;
  /** [file, beginning of the test's title] */
  readonly tests: readonly (readonly [string, string])[];
}

const MODEL = "test/model/borrowing.test.ts";
const INVARIANTS: readonly Invariant[] = [
  {
    id: "I1",
    what: "no address is two pods'",
    tests: [
      [MODEL, "no address is two pods'"],
      [MODEL, "of the servers, to the API"],
      [MODEL, "of the agent of node %i, to its disk"],
      ["agent/addresses/manager.test.ts", "no address twice, none lost"],
      ["src/ipam/ipam.test.ts", "no address twice, none lost"],
    ],
  },
  {
    id: "I2",
    what: "no address is lost for good",
    tests: [
      [MODEL, "no address is two pods', and at the end every address of the pool can be given"],
      ["agent/addresses/manager.test.ts", "no address twice, none lost"],
      ["src/controllers/collector.fv.test.ts", "frees what pods and nodes that are gone had"],
    ],
  },
  {
    id: "I3",
    what: "every assigned address has exactly one owner in the API, and the block's content is what its node's journal says",
    tests: [
      [MODEL, "a pool of 16 addresses and 40 pods over 3 nodes"],
      ["agent/addresses/manager.test.ts", "no address twice, none lost"],
      ["fanout/claims/endpoint-reports.test.ts", "become the block's allocations"],
    ],
  },
  {
    id: "I4",
    what: "at most one confirmed affinity per block, and it is the node that the block says",
    tests: [
      ["fanout/claims/block-claims.test.ts", "two servers, any failures at any call"],
      [MODEL, "of the servers, to the API"],
    ],
  },
  {
    id: "I5",
    what: "only a confirmed block that says the same node is routed",
    tests: [["src/compute/compute-paths.test.ts", "after every flush, what is held = recomputation from scratch"]],
  },
  {
    id: "I6",
    what: "a release or report of an earlier life changes nothing",
    tests: [
      [MODEL, "a block's release, while the next life takes the block over"],
      [MODEL, "a borrowed address given back, while the next life takes it over"],
      [MODEL, "a list that lags shows a block that was given back"],
      ["fanout/claims/holdings.test.ts", "a release under an older claim does nothing"],
      ["fanout/claims/block-claims.test.ts", "a block that is given again has a new claim"],
      ["fanout/claims/endpoint-reports.test.ts", "a report under an older claim writes nothing"],
      ["src/controllers/collector.fv.test.ts", "an address that was given again since the finding is not freed"],
      ["src/ipam/ipam.test.ts", "a late release does not free another's address"],
    ],
  },
  { id: "I7", what: "nothing is borrowed under strictAffinity", tests: [[MODEL, "not under strictAffinity"]] },
  { id: "I8", what: "a node has no more blocks than maxBlocksPerHost", tests: [["fanout/claims/block-claims.test.ts", "none beyond maxBlocksPerHost"]] },
  {
    id: "I9",
    what: "an address is lent only after its block's node agreed, and is that node's again only after it was given back",
    tests: [
      ["src/ipam/loans.test.ts", "%s"],
      [MODEL, "a node that does not answer lends nothing"],
      [MODEL, "many that wait share one call"],
    ],
  },
  {
    id: "I10",
    what: "collection frees no live address: what a node that exists has borrowed stays on loan",
    tests: [
      ["src/controllers/collector.fv.test.ts", "a borrowed address stays on loan while its borrower exists"],
      ["src/controllers/collector.fv.test.ts", "a pod that appears between the reading and the repair keeps its address"],
      [MODEL, "no address is two pods'"],
    ],
  },
  {
    id: "I11",
    what: "an address is given to another pod only after its cooldown, on whatever node",
    tests: [
      ["src/ipam/ipam.test.ts", "gives the longest unused address first, none in cooldown"],
      [MODEL, "many that wait share one call"],
      ["agent/pods/returning-pods.test.ts", "no address twice; a pod that comes again"],
    ],
  },
  {
    id: "I12",
    what: "of two pools that overlap at most one gives addresses; a pool goes only when nothing of it is in use",
    tests: [
      ["src/ipam/pool-overlap.test.ts", "UsablePools: in any order of events"],
      ["test/apiserver/address-suite.ts", "deleted under running pods: it stays, closed"],
    ],
  },
  {
    id: "I13",
    what: "a waiting request shares the claim of others, and in steady state none waits for the API",
    tests: [
      ["agent/addresses/manager.test.ts", "one claim serves all that wait; the next block is claimed before it is needed"],
      [MODEL, "many that wait share one call"],
    ],
  },
  {
    id: "I14",
    what: "a pod that comes again has the addresses that it had, while they are free, its node's and permitted; a late release of its old container frees nothing",
    tests: [
      ["agent/pods/returning-pods.test.ts", "no address twice; a pod that comes again"],
      ["agent/pods/returning-pods.test.ts", "$order (audit before it: $audit)"],
      ["agent/addresses/remembered.test.ts", "$what: it gets others"],
      ["agent/addresses/remembered.test.ts", "over restarts, each with a new snapshot"],
      [MODEL, "what a pod had and gave back with its block"],
      ["test/kernel/reboot.kernel.test.ts", "$order: the same addresses"],
    ],
  },
];

describe("invariants of addresses", () => {
  it.each(INVARIANTS)("$id $what", ({ tests }) => {
    expect(tests.length).toBeGreaterThan(0);
    for (const [file, title] of tests) {
      expect([file, existsSync(join(ROOT, file))]).toEqual([file, true]);
      const titles = [...readFileSync(join(ROOT, file), "utf8").matchAll(/\bit(?:\.each(?:<[^(]*>)?\([\s\S]*?\))?\(\s*(["'`])((?:(?!\1)[^\\]|\\.)*)\1/g)].map(
        ([, , text]) => text ?? "",
      );
      expect([file, title, titles.some((text) => text.startsWith(title))]).toEqual([file, title, true]);
      expect(titles.length, file).toBeGreaterThan(0);
    }
  });

  it("are those of docs/addresses.md, by number and wording", () => {
    const page = readFileSync(join(ROOT, "docs/addresses.md"), "utf8");
    const told = [...page.matchAll(/^\| (I\d+) \| (.*) \|$/gm)].map(([, id, what]) => `${id} ${what}`);
    expect(told).toEqual(INVARIANTS.map(({ id, what }) => `${id} ${what}`));
  });
});
