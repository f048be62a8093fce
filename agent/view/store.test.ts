import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { RecordValue } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { encodeRecord, seal } from "../../src/wire/record-codec.ts";
import type { RawUpdate } from "../../src/wire/update-codec.ts";
import { DecodedView } from "./decoded-view.ts";
import { StateError, ViewStore } from "./store.ts";
import { replay } from "./stored-view.ts";

const SEED = 77n;
let directory = "";

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sedge-view-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

function pool(name: string, size: number): RecordValue {
  return { kind: "pool", name, cidr: parseCidr(`10.${size}.0.0/16`), natOutgoing: true, disabled: false, blockSize: 26 };
}

function update(revision: bigint, values: readonly RecordValue[], removed: readonly string[] = []): RawUpdate {
  return {
    buckets: [],
    upserts: values.map((value) => encodeRecord(value, SEED).bytes),
    removed,
    commit: true,
    revision,
    digest: undefined,
    committedAtUnixUs: 0n,
  };
}

async function commit(store: ViewStore, revision: bigint, values: readonly RecordValue[], removed: readonly string[] = []): Promise<void> {
  store.view.stage(update(revision, values, removed));
  await store.append({ delta: store.view.commit(), isComplete: true });
}

function content(store: ViewStore): string {
  return JSON.stringify([String(store.view.revision), String(store.view.digest), [...store.view.records.keys()].sort(), store.isComplete]);
}

const open = (options: { compactAboveBytes?: number } = {}): Promise<ViewStore> => ViewStore.open({ directory, node: "n1", ...options });
const begin = (store: ViewStore): void => store.view.begin({ seed: SEED, epoch: "e1", bucketBits: 0 });

describe("ViewStore", () => {
  it("a new directory → empty, not complete, no problems", async () => {
    const store = await open();
    expect([store.view.size, store.isComplete, store.problems]).toEqual([0, false, []]);
    await store.close();
  });

  it("any commits, compacted at any size, closed or not → the next open has the same view", async () => {
    const change = fc.record({
      put: fc.array(fc.tuple(fc.constantFrom("a", "b", "c", "d"), fc.integer({ min: 0, max: 200 })), { maxLength: 3 }),
      remove: fc.array(fc.constantFrom("pool/a", "pool/b"), { maxLength: 2 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 8 }), fc.constantFrom(1, 300, 1 << 20), async (changes, compactAboveBytes) => {
        await rm(directory, { recursive: true });
        const store = await open({ compactAboveBytes });
        begin(store);
        for (const [i, { put, remove }] of changes.entries())
          await commit(
            store,
            BigInt(i + 1),
            put.map(([name, size]) => pool(name, size)),
            remove,
          );
        const again = await open();
        expect(content(again)).toBe(content(store));
        expect(again.problems).toEqual([]);
        await store.close();
        await again.close();
      }),
      { numRuns: 40 },
    );
  });

  for (const file of ["view.snapshot", "view.log"]) {
    it(`${file} cut or changed at every byte → the view after a whole number of commits, or empty; never an error, never a mixture`, async () => {
      const store = await open();
      begin(store);
      const valid = new Set([content(store)]);
      for (let i = 1; i <= 3; i++) {
        await commit(store, BigInt(i), [pool("a", i), pool("b", 100 + i)], i === 3 ? ["pool/c"] : []);
        valid.add(content(store));
      }
      const complete = content(store);
      await store.close();
      // A snapshot with content, and a log on it.
      const compacted = await open();
      await commit(compacted, 4n, [pool("d", 4)]);
      valid.add(content(compacted));
      await compacted.close();
      const empty = JSON.stringify(["0", "0", [], false]);
      const saved = { snapshot: await readFile(join(directory, "view.snapshot")), log: await readFile(join(directory, "view.log")) };
      const target = file === "view.snapshot" ? saved.snapshot : saved.log;
      for (let at = 0; at < target.length; at++) {
        for (const damage of ["cut", "flip"]) {
          await rm(directory, { recursive: true });
          await mkdir(directory);
          await writeFile(join(directory, "view.snapshot"), saved.snapshot);
          await writeFile(join(directory, "view.log"), saved.log);
          const damaged = damage === "cut" ? target.subarray(0, at) : Buffer.from(target);
          if (damage === "flip") damaged[at] = (damaged[at] ?? 0) ^ 0xff;
          await writeFile(join(directory, file), damaged);
          const opened = await open();
          const found = content(opened);
          const isWholeLog = file === "view.log" && found === complete;
          expect([...valid, empty].includes(found) || isWholeLog, `${damage} at ${at}: ${found}`).toBe(true);
          // A log cut exactly between its head and its only commit is a log without commits.
          const isCutBetween = damage === "cut" && opened.problems.length === 0;
          if (!isCutBetween) expect(opened.problems.join("\n")).toContain(file);
          if (file === "view.snapshot") expect(await readdir(directory)).toContain("view.snapshot.corrupt-1");
          await opened.close();
          if (at % 8 !== 0) continue;
          const repaired = await open();
          expect([content(repaired), repaired.problems]).toEqual([found, []]);
          await repaired.close();
        }
      }
    }, 60_000);
  }

  it("garbage in both files → moved aside with numbers, named, and the store works", async () => {
    for (const n of [1, 2]) {
      await writeFile(join(directory, "view.snapshot"), "garbage");
      await writeFile(join(directory, "view.log"), Buffer.alloc(100, 0xfe));
      const store = await open();
      expect(store.problems.join("\n")).toContain(`view.snapshot.corrupt-${n}`);
      expect(store.problems.join("\n")).toContain(`view.log.corrupt-${n}`);
      begin(store);
      await commit(store, 1n, [pool("a", 1)]);
      await store.close();
    }
  });

  it("another node's directory → StateError that names the file and both nodes", async () => {
    await (await open()).close();
    await expect(ViewStore.open({ directory, node: "n2" })).rejects.toThrow(StateError);
    await expect(ViewStore.open({ directory, node: "n2" })).rejects.toThrow(/view\.snapshot.*"n1".*"n2"/);
  });

  it("an older log beside a newer snapshot, as after a crash in a compaction → ignored", async () => {
    const store = await open({ compactAboveBytes: 1 << 20 });
    begin(store);
    await commit(store, 1n, [pool("a", 1)]);
    const olderLog = await readFile(join(directory, "view.log"));
    await store.close();
    const next = await open();
    await commit(next, 2n, [], ["pool/a"]);
    await next.close();
    const last = await open();
    await last.close();
    await writeFile(join(directory, "view.log"), olderLog);
    const found = await open();
    expect([found.view.size, found.view.revision, found.problems]).toEqual([0, 2n, []]);
    await found.close();
  });
});

describe("DecodedView", () => {
  function unknownAction(): Uint8Array {
    // A stack whose no-match action (field 3 of Stack) is a number of a later version.
    const good = encodeRecord({ kind: "stack", id: "s", tiers: [], noMatchAction: "allow" }, SEED).bytes;
    const bytes = Buffer.from(good);
    const at = bytes.indexOf(Buffer.from([0x18, 0x01]));
    bytes[at + 1] = 99;
    return sealed(bytes);
  }

  it("a value that is not understood after one that was → the good one stays, is reported, survives a restart; a removal removes", async () => {
    const store = await open();
    begin(store);
    const decoded = new DecodedView();
    const stage = async (upserts: readonly Uint8Array[], removed: readonly string[] = []): Promise<void> => {
      store.view.stage({ ...update(1n, [], removed), upserts });
      const delta = store.view.commit();
      const change = decoded.decode(delta);
      await store.append({ delta, isComplete: true, ...change });
      decoded.apply(change);
    };
    const good: RecordValue = { kind: "stack", id: "s", tiers: [], noMatchAction: "allow" };
    await stage([encodeRecord(good, SEED).bytes]);
    await stage([unknownAction()]);
    expect(decoded.records.get("stack/s")).toEqual(good);
    expect([...decoded.outdated.keys()]).toEqual(["stack/s"]);
    const reopened = await open();
    const restored = DecodedView.restore(reopened.view, reopened.kept);
    expect(restored.records.get("stack/s")).toEqual(good);
    expect([...restored.outdated.keys()]).toEqual(["stack/s"]);
    await reopened.close();
    await stage([], ["stack/s"]);
    expect([decoded.records.size, decoded.outdated.size, decoded.undecodable.size]).toEqual([0, 0, 0]);
    await store.close();
  });

  it("a value that is not understood and never was → undecodable, with no value", () => {
    const decoded = new DecodedView();
    const bytes = unknownAction();
    const after = { key: "stack/s", bytes, hash: 0n, keyHash: 0 };
    decoded.apply(decoded.decode({ changes: new Map([["stack/s", { before: undefined, after }]]), revision: 1n, committedAtUnixUs: 0n, isDigestRight: true }));
    expect([decoded.records.size, [...decoded.undecodable.keys()]]).toEqual([0, ["stack/s"]]);
  });
});

function sealed(bytes: Buffer): Uint8Array {
  return seal("stack/s", bytes.subarray(0, bytes.length - 9), SEED).bytes;
}

describe("the place in the API's history", () => {
  it("A12 is kept with the view, in the log and in the snapshot; files from before have none", async () => {
    const store = await open();
    store.view.begin({ seed: SEED, epoch: "e1", bucketBits: 0, upstreamKinds: ["Pod", "Node"] });
    store.view.stage({ ...update(1n, [pool("a", 1)]), upstream: [12n, 18_446_744_073_709_551_615n] });
    await store.append({ delta: store.view.commit(), isComplete: true });
    await store.close();
    for (let starts = 0; starts < 2; starts++) {
      const again = await open();
      expect([...again.view.upstream]).toEqual([
        ["Pod", 12n],
        ["Node", 18_446_744_073_709_551_615n],
      ]);
      await again.close();
    }
    expect(
      replay([{ head: { epoch: "e", revision: "1", seed: "1", isComplete: true, upserts: 0, removed: [], unkept: [] }, blobs: [] }]).view.upstream.size,
    ).toBe(0);
  });
});
