/** The embedded API's data directory on a disk that gets full: what was answered is there again, what could not be written was not answered. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Journal } from "../../src/datastore/embedded/journal.ts";
import { Store } from "../../src/datastore/embedded/store.ts";
import { whyNoKernel } from "./netns.ts";
import { SmallDisk } from "./small-disk.ts";

const noKernel = whyNoKernel();
const DISK_BYTES = 256 * 1024;
const OBJECTS = 40;

describe.skipIf(noKernel !== undefined)(`the embedded API's directory on a full disk [${noKernel ?? "root"}]`, () => {
  let directory = "";
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "sedge-api-disk-"));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  function open(snapshotAfterBytes: number): { readonly store: Store; readonly journal: Journal } {
    const store = new Store({ initialRevision: 1_000, publishesAtOnce: false });
    return { store, journal: Journal.open({ directory, store, snapshotAfterBytes }) };
  }

  // Sizes of objects differ, so that the disk is full at another place of the log or of a snapshot each time.
  it.each([512, 700, 901, 1_500, 2_222, 4_000])("objects of %i bytes, with snapshots", async (size) => {
    await using _disk = await SmallDisk.mount(directory, DISK_BYTES);
    const { store, journal } = open(20_000);
    let answered = store.snapshot();
    for (let i = 0; ; i++) {
      store.put({ resource: "pods", namespace: "a", name: `p${i % OBJECTS}` }, { metadata: {}, i, filler: "x".repeat(size + (i % 13)) });
      try {
        await journal.settled();
      } catch (error) {
        expect(String(error)).toContain(`${directory} cannot be written`);
        break;
      }
      answered = store.snapshot();
      // Snapshots keep the log short: with few objects the disk only gets full when there is less room than for log and snapshot.
      if (i % 10 === 0) store.put({ resource: "secrets", namespace: "a", name: `s${i}` }, { metadata: {}, filler: "y".repeat(size) });
      expect(i).toBeLessThan(20_000);
    }
    const again = open(1 << 30);
    const { entries } = again.store.snapshot();
    const texts = new Map(entries.map(({ key, text }) => [JSON.stringify(key), text]));
    // The write that failed may be there in part of its batch: it was not answered. All that was answered is.
    const missing = answered.entries.filter(({ key }) => !texts.has(JSON.stringify(key)));
    expect(missing).toEqual([]);
    expect(again.store.revision).toBeGreaterThanOrEqual(answered.revision);
  });
});
