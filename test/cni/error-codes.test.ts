/** The agent makes codes, the executable's table documents them: they are in two boxes that may not import each other. */
import { describe, expect, it } from "vitest";
import { AddressError, type AddressProblem } from "../../agent/addresses/address-error.ts";
import { EndpointNotProgrammedError } from "../../agent/apply/local-endpoints.ts";
import { PodError, type PodProblem } from "../../agent/pods/pod-error.ts";
import { PodLinkError, type PodLinkProblem } from "../../agent/pods/pod-link.ts";
import { gcIncomplete, LIMITED, NOT_AVAILABLE, problemOf, TRY_AGAIN } from "../../agent/socket/cni-problem.ts";
import { ERROR_CODES, type ErrorName } from "../../cni/errors.ts";
import { podKey } from "../../src/model/names.ts";

const ADDRESS: Readonly<Record<AddressProblem, ErrorName>> = {
  "bad-request": "unsatisfiable",
  "pool-full": "poolFull",
  cooling: "tryAgainLater",
  "no-pool": "noPool",
  "unknown-node": "unknownNode",
  unavailable: "tryAgainLater",
  journal: "ioFailure",
};
const LINK: Readonly<Record<PodLinkProblem, ErrorName>> = {
  "netns-gone": "invalidEnvironment",
  "host-netns": "invalidEnvironment",
  "name-taken": "invalidEnvironment",
  kernel: "kernel",
};
const POD: Readonly<Record<PodProblem, ErrorName>> = { "unknown-attachment": "unknownContainer", broken: "broken", "no-policy": "tryAgainLater" };

const rows: readonly (readonly [error: Error, name: ErrorName])[] = [
  ...Object.entries(ADDRESS).map(([code, name]) => [new AddressError(code as AddressProblem, "why"), name] as const),
  ...Object.entries(LINK).map(([code, name]) => [new PodLinkError(code as PodLinkProblem, "why"), name] as const),
  ...Object.entries(POD).map(([code, name]) => [new PodError(code as PodProblem, "why"), name] as const),
  [new EndpointNotProgrammedError(podKey("a", "b"), "why"), "policyNotProgrammed"],
  [new Error("why"), "internal"],
];

describe("CNI error codes", () => {
  it.each(rows)("%s → %s", (error, name) => {
    const problem = problemOf(error);
    expect(problem.code).toBe(ERROR_CODES[name]);
    expect(problem.details).toContain("why");
    expect(problem.msg).not.toBe("");
  });

  it("the specification's, and GC's", () => {
    expect([TRY_AGAIN, NOT_AVAILABLE, LIMITED, gcIncomplete(["a"]).code]).toEqual([
      ERROR_CODES.tryAgainLater,
      ERROR_CODES.notAvailable,
      ERROR_CODES.limitedConnectivity,
      ERROR_CODES.gcIncomplete,
    ]);
  });

  it("only what a retry can help says try again", () => {
    for (const [error] of rows) if (error instanceof AddressError && problemOf(error).code === 11) expect(error.isTransient).toBe(true);
    expect(new Set(Object.values(ERROR_CODES)).size).toBe(Object.keys(ERROR_CODES).length);
  });
});
