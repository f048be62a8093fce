import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DataDirectoryError, Journal } from "./journal.ts";
import { Store } from "./store.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "sedge-journal-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function open(initialRevision = 1000, snapshotAfterBytes?: number): { readonly store: Store; readonly journal: Journal } {
  const store = new Store({ initialRevision, publishesAtOnce: false });
  return { store, journal: Journal.open({ directory, store, ...(snapshotAfterBytes === undefined ? {} : { snapshotAfterBytes }) }) };
}

function write(store: Store, count: number, value: string): void {
  for (let index = 0; index < count; index++) store.put({ resource: "pods", namespace: "a", name: `p${index}` }, { metadata: { name: `p${index}` }, value });
}

const logFile = (): string => join(directory, readdirSync(directory).find((name) => name.startsWith("log-")) ?? "");

describe("Journal", () => {
  it("what is settled is there again, with its history and its revisions", async () => {
    const { store, journal } = open();
    write(store, 3, "one");
    const { revision } = store;
    write(store, 2, "two");
    store.remove({ resource: "pods", namespace: "a", name: "p2" });
    await journal.settled();
    expect(store.publishedRevision).toBe(store.revision);
    await journal.close();
    const again = open(999_999);
    expect(again.store.snapshot()).toEqual(store.snapshot());
    expect(again.store.changesAfter("pods", revision)).toEqual(store.changesAfter("pods", revision));
    expect(again.store.publishedRevision).toBe(store.revision);
    await again.journal.close();
  });

  it("snapshots keep the log short and lose nothing", async () => {
    const { store, journal } = open(1000, 2000);
    for (let round = 0; round < 20; round++) {
      write(store, 5, `round ${round}`);
      await journal.settled();
    }
    await journal.close();
    expect(readdirSync(directory).filter((name) => name.startsWith("log-"))).toHaveLength(1);
    expect(readdirSync(directory).filter((name) => name.startsWith("snapshot-"))).toHaveLength(1);
    const again = open(1000, 2000);
    expect(again.store.snapshot()).toEqual(store.snapshot());
    await again.journal.close();
  });

  it("every cut of the log gives the state after a whole number of changes", async () => {
    const { store, journal } = open();
    const states = [store.snapshot().entries.map((entry) => entry.text)];
    for (let index = 0; index < 4; index++) {
      store.put({ resource: "pods", namespace: "a", name: `p${index % 2}` }, { metadata: {}, index });
      states.push(store.snapshot().entries.map((entry) => entry.text));
    }
    await journal.close();
    const whole = readFileSync(logFile());
    const lines = whole.toString().split("\n").length - 1;
    expect(lines).toBe(4);
    for (let length = whole.length; length >= 0; length -= 7) {
      writeFileSync(logFile(), whole.subarray(0, length));
      const again = open(1000);
      const kept = whole.subarray(0, length).toString().split("\n").length - 1;
      expect(again.store.snapshot().entries.map((entry) => entry.text)).toEqual(states[kept]);
      await again.journal.close();
    }
  });

  it("after a torn end has been cut, writing goes on behind it", async () => {
    const first = open();
    write(first.store, 3, "one");
    await first.journal.close();
    truncateSync(logFile(), readFileSync(logFile()).length - 5);
    const second = open();
    expect(second.journal.problems[0]).toContain(`${logFile()}: its end is not whole`);
    expect(second.store.list("pods")).toHaveLength(2);
    write(second.store, 4, "two");
    await second.journal.close();
    const third = open();
    expect(third.journal.problems).toEqual([]);
    expect(third.store.list("pods")).toHaveLength(4);
    await third.journal.close();
  });

  it("damage in the middle is an error that names file and place, and nothing is changed", async () => {
    const { store, journal } = open();
    write(store, 3, "one");
    await journal.close();
    const path = logFile();
    const damaged = Buffer.from(readFileSync(path));
    damaged[20] = (damaged[20] ?? 0) ^ 1;
    writeFileSync(path, damaged);
    expect(() => open()).toThrow(new RegExp(`${path.replaceAll(".", "\\.")}: damaged at byte 0, .*Nothing was changed`));
    expect(readFileSync(path)).toEqual(damaged);
  });

  it("a stranger's file is an error that names it, and it stays", () => {
    writeFileSync(join(directory, "holiday.jpg"), "x");
    expect(() => open()).toThrow(DataDirectoryError);
    expect(() => open()).toThrow(/holiday\.jpg is not a file of the embedded API/);
    expect(existsSync(join(directory, "holiday.jpg"))).toBe(true);
  });

  it("a broken snapshot is an error, and so is a missing one, wherever the log begins", async () => {
    const { store, journal } = open(1000, 500);
    write(store, 10, "one");
    await journal.settled();
    await journal.close();
    const snapshot = join(directory, readdirSync(directory).find((name) => name.startsWith("snapshot-")) ?? "");
    const whole = readFileSync(snapshot);
    appendFileSync(snapshot, "rubbish");
    expect(() => open()).toThrow(/the snapshot is not whole/);
    writeFileSync(snapshot, whole);
    rmSync(snapshot);
    expect(() => open(1)).toThrow(/snapshot-\d+\.jsonl is missing/);
  });
});
