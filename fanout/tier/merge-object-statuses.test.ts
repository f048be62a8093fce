import { describe, expect, it } from "vitest";
import type { GetObjectStatusResponse } from "../../src/wire/gen/sedge/sync/v1/introspection.ts";
import { mergeObjectStatuses } from "./merge-object-statuses.ts";

const status = (fields: Partial<GetObjectStatusResponse>): GetObjectStatusResponse => ({
  resourceVersion: "7",
  revision: 1n,
  nodes: 5,
  nodesProgrammed: 0,
  lagging: [],
  committedAtUnixUs: 100n,
  programmedAtUnixUs: 0n,
  nodesConnected: 0,
  unheard: [],
  lastProgrammedAtUnixUs: 0n,
  ...fields,
});
const lag = (node: string, connected: boolean) => ({ node, reason: connected ? "not yet sent" : "not connected", connected });

describe("mergeObjectStatuses", () => {
  it("adds up what each has of its own nodes; who is connected nowhere is named once", () => {
    const own = status({ nodesConnected: 2, nodesProgrammed: 2, lastProgrammedAtUnixUs: 300n, lagging: [lag("n5", false)] });
    const other = status({
      nodesConnected: 2,
      nodesProgrammed: 1,
      lastProgrammedAtUnixUs: 200n,
      lagging: [lag("n4", true), lag("n1", false), lag("n5", false)],
    });
    expect(mergeObjectStatuses(own, [other], [])).toMatchObject({
      nodes: 5,
      nodesProgrammed: 3,
      nodesConnected: 4,
      lagging: [lag("n4", true), lag("n5", false)],
      programmedAtUnixUs: 0n,
    });
  });

  it("in force everywhere: when the last acknowledged; not claimed while a server has not answered", () => {
    const own = status({ nodes: 2, nodesConnected: 1, nodesProgrammed: 1, lastProgrammedAtUnixUs: 300n });
    const other = status({ nodes: 2, nodesConnected: 1, nodesProgrammed: 1, lastProgrammedAtUnixUs: 400n });
    expect(mergeObjectStatuses(own, [other], []).programmedAtUnixUs).toBe(400n);
    expect(mergeObjectStatuses(own, [other], ["b"])).toMatchObject({ programmedAtUnixUs: 0n, unheard: ["b"] });
  });

  it("a server with an older version of the object: none of its nodes counts", () => {
    const own = status({ resourceVersion: "9", nodesConnected: 1, nodesProgrammed: 0, lagging: [lag("n1", true)] });
    const newer = status({ resourceVersion: "10", nodesConnected: 2, nodesProgrammed: 2 });
    const merged = mergeObjectStatuses(own, [newer], []);
    expect(merged).toMatchObject({ resourceVersion: "10", nodesProgrammed: 2, lagging: [{ node: "n1", reason: "its server has version 9 of the object" }] });
  });

  it("an object that one server does not know yet, and one that all nodes have", () => {
    expect(mergeObjectStatuses(status({ resourceVersion: "", nodes: 0 }), [status({ nodesConnected: 3, nodesProgrammed: 3, nodes: 3 })], [])).toMatchObject({
      resourceVersion: "7",
      nodes: 3,
      nodesProgrammed: 3,
    });
    // Of a record that all have each server counts those that it has.
    expect(
      mergeObjectStatuses(status({ nodes: 2, nodesConnected: 2, nodesProgrammed: 2 }), [status({ nodes: 1, nodesConnected: 1, nodesProgrammed: 1 })], []),
    ).toMatchObject({ nodes: 3, nodesProgrammed: 3 });
  });
});
