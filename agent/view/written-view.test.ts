import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DecodedView } from "./decoded-view.ts";
import { ViewStore } from "./store.ts";
import { WrittenView } from "./written-view.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "sedge-written-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe("WrittenView", () => {
  it("a first commit is on its way to the disk → not complete, until its values are there too", async () => {
    const store = await ViewStore.open({ directory, node: "n1" });
    const decoded = new DecodedView();
    const written = new WrittenView(store, decoded);
    const delta = { changes: new Map(), revision: 7n, committedAtUnixUs: 0n, isDigestRight: true };
    const writing = store.append({ delta, isComplete: true });
    expect({ store: store.isComplete, written: written.isComplete, revision: written.revision }).toEqual({ store: true, written: false, revision: 0n });
    await writing;
    expect(written.isComplete).toBe(false);
    decoded.apply(decoded.decode(delta));
    written.advance();
    expect(written.isComplete).toBe(true);
    await store.close();
  });
});
