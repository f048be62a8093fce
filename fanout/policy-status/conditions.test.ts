import { describe, expect, it } from "vitest";
import type { ObjectProblems, Outcome } from "../../src/compute/problems.ts";
import { conditionsOf } from "./conditions.ts";
import type { PolicyStatus } from "./statuses.ts";

const KEY = { kind: "GlobalNetworkPolicy", namespace: "", name: "p" } as const;
const status = (options: Partial<PolicyStatus> = {}): PolicyStatus => ({
  key: KEY,
  resourceVersion: "7",
  generation: 2,
  revision: 9n,
  isStaged: false,
  nodes: 5_000,
  lagging: [],
  problems: undefined,
  unknown: undefined,
  ...options,
});
const problems = (outcome: Outcome, count = 1): ObjectProblems => ({
  key: KEY,
  outcome,
  problems: Array.from({ length: count }, (_, i) => ({ field: `spec.ingress[${i}].http`, message: "needs a layer 7 proxy" })),
});
const lagging = (count: number) => Array.from({ length: count }, (_, i) => ({ node: `n${i}`, reason: "not connected", isConnected: false }));

describe("conditionsOf", () => {
  it.each<[string, Partial<PolicyStatus>, string, string]>([
    ["everywhere", {}, "True/Accepted understood as written", "True/Programmed in force on all 5,000 nodes that it concerns"],
    ["on one node", { nodes: 1 }, "True/Accepted understood as written", "True/Programmed in force on the one node that it concerns"],
    ["nowhere needed", { nodes: 0 }, "True/Accepted understood as written", "True/NoEndpoints no node has an endpoint that it applies to"],
    [
      "two lag",
      { lagging: [...lagging(1), { node: "n203", reason: "no room", isConnected: true }] },
      "True/Accepted understood as written",
      "False/NodesLag in force on 4,998 of 5,000 nodes; n0: not connected; n203: no room",
    ],
    [
      "a server is behind",
      { unknown: "server b has not seen this version yet" },
      "True/Accepted understood as written",
      "Unknown/NotKnown server b has not seen this version yet",
    ],
    [
      "a clause without its proxy",
      { problems: problems("narrowed") },
      "False/NotEnforceable spec.ingress[0].http: needs a layer 7 proxy: what cannot be enforced lets nothing through; the rest is in force",
      "True/Programmed in force on all 5,000 nodes that it concerns",
    ],
    [
      "an earlier version",
      { problems: problems("earlier") },
      "False/Invalid spec.ingress[0].http: needs a layer 7 proxy: the version before it stays in force",
      "False/Invalid in force on all 5,000 nodes that it concerns (the version before it stays in force)",
    ],
    [
      "in force nowhere",
      { problems: problems("nothing"), nodes: 0 },
      "False/Invalid spec.ingress[0].http: needs a layer 7 proxy: it is in force nowhere",
      "False/Invalid it is in force nowhere",
    ],
    [
      "staged",
      { isStaged: true, nodes: 0 },
      "True/Accepted understood as written",
      "False/Staged a staged policy is compared (sedge policy diff, sedge trace) and never enforced",
    ],
  ])("%s", (_name, options, accepted, programmed) => {
    const text = conditionsOf(status(options)).map(({ type, status: value, reason, message }) => [type, `${value}/${reason} ${message}`]);
    expect(text).toEqual([
      ["Accepted", accepted],
      ["Programmed", programmed],
    ]);
  });

  it("a message stays small however many nodes lag and however much is wrong", () => {
    const long = lagging(4_000).map((one) => ({ ...one, reason: "x".repeat(5_000) }));
    const [accepted, programmed] = conditionsOf(status({ lagging: long, problems: problems("narrowed", 500) }));
    expect(programmed.message).toMatch(/in force on 1,000 of 5,000 nodes; n0: .*; and 3,990 more$/);
    expect(accepted.message).toContain("and 492 more");
    for (const { message } of [accepted, programmed]) expect(message.length).toBeLessThan(5_000);
  });
});
