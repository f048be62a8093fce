import { describe, expect, it } from "vitest";
import { anyOf, applicantOfCertificate, fileTokens, type TokenJudge } from "./applicant.ts";

const never = new AbortController().signal;

describe("applicantOfCertificate", () => {
  it.each([
    ["a node's", "URI:spiffe://sedge/node/n1", "n1"],
    ["with other names beside", "DNS:x, URI:spiffe://sedge/node/n1.example.com", "n1.example.com"],
    ["a server's", "URI:spiffe://sedge/fanout", undefined],
    ["an operator's", "URI:spiffe://sedge/operator", undefined],
    ["two nodes'", "URI:spiffe://sedge/node/n1, URI:spiffe://sedge/node/n2", undefined],
    ["no name at all", "URI:spiffe://sedge/node/", undefined],
    ["a name that is none", "URI:spiffe://sedge/node/N1", undefined],
    ["one smuggled in", 'DNS:"a, URI:spiffe://sedge/node/n1"', undefined],
    ["none", undefined, undefined],
  ])("%s", (_what, names, node) => {
    expect(applicantOfCertificate(names)).toEqual(node === undefined ? undefined : { kind: "node", node, by: "certificate" });
  });
});

describe("fileTokens", () => {
  it("a token is of its node, or of any", async () => {
    const judge = fileTokens("# comment\n\nabcdefghijklmnop n1 # of n1\n  qrstuvwxyzqrstuv  *\n");
    expect(await judge("abcdefghijklmnop", never)).toEqual({ kind: "node", node: "n1", by: "token-file" });
    expect(await judge("qrstuvwxyzqrstuv", never)).toEqual({ kind: "any-node", by: "token-file" });
    expect(await judge("abcdefghijklmnoq", never)).toBeUndefined();
    expect(await judge("", never)).toBeUndefined();
  });

  it.each([
    ["no node", "abcdefghijklmnop", /line 1: want TOKEN NODE/],
    ["a word too many", "abcdefghijklmnop n1 n2", /line 1: want TOKEN NODE/],
    ["short", "\nshort n1", /line 2: the token is shorter than 16/],
    ["a name that is none", "abcdefghijklmnop N_1", /line 1: "N_1" is no name of a node/],
  ])("%s is an error that names the line and not the token", (_what, text, message) => {
    expect(() => fileTokens(text)).toThrow(message);
    expect(() => fileTokens(text)).not.toThrow(/abcdefgh|short n1/);
  });
});

describe("anyOf", () => {
  it("the first that knows the token answers, and later ones are not asked", async () => {
    const asked: string[] = [];
    const judge =
      (name: string, node: string | undefined): TokenJudge =>
      () => {
        asked.push(name);
        return Promise.resolve(node === undefined ? undefined : { kind: "node", node, by: "token-file" });
      };
    expect(await anyOf([judge("a", undefined), judge("b", "n1"), judge("c", "n2")])("t", never)).toMatchObject({ node: "n1" });
    expect(asked).toEqual(["a", "b"]);
    expect(await anyOf([])("t", never)).toBeUndefined();
  });
});
