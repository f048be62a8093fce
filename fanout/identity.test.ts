import { describe, expect, it } from "vitest";
import type { NodeName } from "../src/model/names.ts";
import { type Identity, identityOfCertificate, requireNode, requireOperator, requireReader } from "./identity.ts";
import { CALL_PROBLEMS, CallError, statusOf } from "./status.ts";

const certificate = (CN: string, subjectaltname = ""): Parameters<typeof identityOfCertificate>[0] => ({ subject: { CN }, subjectaltname });
const node: Identity = { kind: "node", node: "n1" as NodeName };

describe("identity", () => {
  it.each([
    ["URI of a node", certificate("x", "DNS:a, URI:spiffe://sedge/node/n1"), node],
    ["common name", certificate("n1"), node],
    ["URI wins over common name", certificate("sedge-operator", "URI:spiffe://sedge/node/n1"), node],
    ["operator by URI", certificate("x", "URI:spiffe://sedge/operator"), { kind: "operator", name: "sedge-operator" }],
    ["operator by common name", certificate("sedge-operator"), { kind: "operator", name: "sedge-operator" }],
    ["another server by URI", certificate("n1", "URI:spiffe://sedge/fanout"), { kind: "server" }],
    ["foreign URIs do not matter", certificate("n1", "URI:https://example.org/spiffe://sedge/operator"), node],
  ] as const)("%s", (_, given, expected) => {
    expect(identityOfCertificate(given)).toEqual(expected);
  });

  it.each([
    ["no certificate", undefined],
    ["no name", certificate("")],
    ["two identities", certificate("n1", "URI:spiffe://sedge/node/n1, URI:spiffe://sedge/operator")],
    ["a path of another kind", certificate("n1", "URI:spiffe://sedge/cluster/n1")],
    ["a name that is no node name", certificate("n1/../n2")],
    ["a quoted name that holds a separator", certificate("", 'URI:"spiffe://x, URI:spiffe://sedge/operator"')],
  ])("%s → unidentified", (_, given) => {
    expect(() => identityOfCertificate(given)).toThrow(expect.objectContaining({ problem: "unidentified" }));
  });

  it("a node acts for itself only and does not look in; an operator looks in and acts for none", () => {
    const operator: Identity = { kind: "operator", name: "o" };
    expect(() => requireNode(node, "n1")).not.toThrow();
    expect(() => requireNode({ kind: "local" }, "n9")).not.toThrow();
    const server: Identity = { kind: "server" };
    for (const identity of [node, operator, server]) expect(() => requireNode(identity, "n2")).toThrow(CallError);
    for (const require of [requireOperator, requireReader]) {
      expect(() => require(node)).toThrow(CallError);
      expect(() => require(operator)).not.toThrow();
    }
    // Another server reads, and makes this one do nothing.
    expect(() => requireReader(server)).not.toThrow();
    expect(() => requireOperator(server)).toThrow(CallError);
  });

  it("a node's identity knows when its certificate ends", () => {
    expect(identityOfCertificate({ subject: { CN: "n1" }, subjectaltname: "", valid_to: "Jan  1 00:00:00 2030 GMT" })).toEqual({
      ...node,
      endsAtUnixMs: Date.UTC(2030, 0, 1),
    });
  });

  it("every problem has a status, and those that pass say when", () => {
    for (const problem of CALL_PROBLEMS) expect(statusOf(new CallError(problem, "m", { retryAfterMs: 7 })).details).toBe("m");
    expect(statusOf(new CallError("not-admitted", "m", { retryAfterMs: 6.5 })).metadata.get("retry-after-ms")).toEqual(["7"]);
    expect(statusOf(new Error("secret")).details).not.toContain("secret");
  });
});
