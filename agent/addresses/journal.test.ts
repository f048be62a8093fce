import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Cidr, parseCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";
import { MemoryJournalFiles, type WriteFault } from "../../test/fakes/memory-journal-files.ts";
import { type Attachment, attachmentId } from "./attachment.ts";
import { Journal } from "./journal.ts";
import { DiskJournalFiles } from "./journal-files.ts";
import { applyEntry, emptyState, type JournalEntry, type JournalState, toSnapshot } from "./journal-state.ts";

const BLOCK: Cidr = parseCidr("10.65.0.0/28");

function attachment(containerId: string, last: number, podUid?: string): Attachment {
  return {
    network: "net",
    containerId,
    ifname: "eth0",
    namespace: "shop",
    pod: containerId,
    ...(podUid === undefined ? {} : { podUid }),
    interfaceName: `cali${containerId}`,
    mac: "02:00:00:00:00:01",
    netns: `/run/netns/${containerId}`,
    addresses: [parseIp(`10.65.0.${last}`)],
  };
}

const anEntry: fc.Arbitrary<JournalEntry> = fc.oneof(
  fc.record({ op: fc.constant("block" as const), cidr: fc.constantFrom(BLOCK, parseCidr("10.65.0.16/28")), pool: fc.constant("p"), generation: fc.nat(1000) }),
  fc.record({
    op: fc.constant("attach" as const),
    attachment: fc
      .tuple(fc.constantFrom("a", "b", "c"), fc.nat(31), fc.constantFrom(undefined, "1", "2"))
      .map(([id, last, podUid]) => attachment(id, last, podUid)),
  }),
  fc.record({ op: fc.constant("lend" as const), address: fc.nat(31).map((last) => parseIp(`10.65.0.${last}`)), id: fc.constantFrom("x", "y") }),
  fc.record({ op: fc.constant("unlend" as const), address: fc.nat(31).map((last) => parseIp(`10.65.0.${last}`)), at: fc.nat(1000) }),
  fc.record({ op: fc.constant("detach" as const), id: fc.constantFrom("a", "b", "c").map((id) => attachmentId(attachment(id, 0))), at: fc.nat(1000) }),
  fc.record({ op: fc.constant("drop-block" as const), cidr: fc.constant(BLOCK) }),
  fc.constant({ op: "trust" as const }),
);

function stateAfter(batches: readonly (readonly JournalEntry[])[]): JournalState {
  const state = emptyState();
  for (const entry of batches.flat()) applyEntry(state, entry);
  return state;
}

describe("Journal", () => {
  it("after a crash at any write: exactly the batches that resolved, or one more", async () => {
    const batches = fc.array(fc.array(anEntry, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 8 });
    const how = fc.constantFrom<WriteFault>("nothing", "part", "all");
    await fc.assert(
      fc.asyncProperty(batches, fc.integer({ min: 1, max: 14 }), how, fc.constantFrom(1, 200, 1 << 20), async (history, at, fault, compactAboveBytes) => {
        const files = new MemoryJournalFiles();
        files.fault = { at, how: fault };
        let resolved = 0;
        let hasOpened = false;
        try {
          const journal = await Journal.open({ files, node: "n1", compactAboveBytes });
          hasOpened = true;
          for (const batch of history) {
            await journal.append(batch);
            resolved++;
            expect(toSnapshot(journal.state)).toEqual(toSnapshot(stateAfter(history.slice(0, resolved))));
          }
        } catch (error) {
          expect((error as Error).name).toBe("CrashError");
        }
        const after = new MemoryJournalFiles(files.files);
        const journal = await Journal.open({ files: after, node: "n1" });
        const isTorn = journal.problems.length > 0;
        expect(isTorn ? fault : "part").toBe("part");
        const candidates = [resolved, resolved + 1].map((n) =>
          JSON.stringify({ ...toSnapshot(stateAfter(history.slice(0, n))), ...(isTorn ? { isTrusted: false } : {}) }),
        );
        expect(candidates).toContain(JSON.stringify(toSnapshot(journal.state)));
        const { released, remembered } = journal.state;
        for (const [remains] of remembered.entries()) expect(released.has(remains)).toBe(true);
        if (!hasOpened) expect(resolved).toBe(0);
      }),
      { numRuns: 400 },
    );
  });

  it("appends of one turn share one write", async () => {
    const files = new MemoryJournalFiles();
    const journal = await Journal.open({ files, node: "n1" });
    const before = files.writes;
    await Promise.all(Array.from({ length: 100 }, (_, i) => journal.append([{ op: "attach", attachment: attachment(`c${i}`, i % 16) }])));
    expect(files.writes - before).toBe(1);
    expect(journal.state.attachments.size).toBe(100);
  });

  it("a disk that refuses once: the entry is not in, the next one is", async () => {
    const files = new MemoryJournalFiles();
    const journal = await Journal.open({ files, node: "n1" });
    let refusals = 1;
    const append = files.append.bind(files);
    files.append = (name, bytes) =>
      refusals-- > 0 ? append(name, bytes.subarray(0, 20)).then(() => Promise.reject(new Error("ENOSPC"))) : append(name, bytes);
    await expect(journal.append([{ op: "attach", attachment: attachment("a", 1) }])).rejects.toThrow("ENOSPC");
    await journal.append([{ op: "attach", attachment: attachment("b", 2) }]);
    const reopened = await Journal.open({ files: new MemoryJournalFiles(files.files), node: "n1" });
    expect([...reopened.state.attachments.values()].map(({ containerId }) => containerId)).toEqual(["b"]);
  });

  it.each(["addresses.snapshot", "addresses.log"] as const)("garbage in %s: named, moved aside, not trusted", async (name) => {
    const files = new MemoryJournalFiles();
    const journal = await Journal.open({ files, node: "n1" });
    await journal.append([{ op: "trust" }, { op: "attach", attachment: attachment("a", 1) }]);
    files.files.set(name, Buffer.from("this is not a journal, whatever its length may be ".repeat(4)));
    const again = new MemoryJournalFiles(files.files);
    const reopened = await Journal.open({ files: again, node: "n1" });
    expect(reopened.problems[0]).toContain(`/memory/${name}`);
    expect(reopened.problems[0]).toContain(`${name}.corrupt-1`);
    expect(again.files.get(`${name}.corrupt-1`)?.toString()).toContain("not a journal");
    expect(reopened.state.isTrusted).toBe(false);
  });

  it("a flipped byte anywhere never throws, and never makes a state up", async () => {
    const files = new MemoryJournalFiles();
    const journal = await Journal.open({ files, node: "n1" });
    await journal.append([{ op: "trust" }, { op: "block", cidr: BLOCK, pool: "p", generation: 1 }]);
    for (let i = 0; i < 3; i++) await journal.append([{ op: "attach", attachment: attachment(`c${i}`, i) }]);
    const whole = journal.state.attachments.size;
    for (const name of ["addresses.snapshot", "addresses.log"]) {
      const bytes = files.files.get(name) ?? Buffer.alloc(0);
      for (let at = 0; at < bytes.length; at += 7) {
        const damaged = Buffer.from(bytes);
        damaged[at] = (damaged[at] ?? 0) ^ 0x41;
        const reopened = await Journal.open({ files: new MemoryJournalFiles(new Map(files.files).set(name, damaged)), node: "n1" });
        expect(reopened.state.isTrusted && reopened.state.attachments.size < whole).toBe(false);
        expect(reopened.problems.length > 0).toBe(!reopened.state.isTrusted);
      }
    }
  });

  it("another node's directory is refused, by name", async () => {
    const files = new MemoryJournalFiles();
    await Journal.open({ files, node: "n1" });
    await expect(Journal.open({ files: new MemoryJournalFiles(files.files), node: "n2" })).rejects.toThrow(
      /\/memory\/addresses\.snapshot is of node "n1", this agent is "n2"/,
    );
  });

  it("on a disk: written, closed, read again; damage keeps the damaged file", async () => {
    const directory = await mkdtemp(join(tmpdir(), "sedge-journal-"));
    try {
      const journal = await Journal.open({ files: await DiskJournalFiles.open(directory), node: "n1", compactAboveBytes: 300 });
      for (let i = 0; i < 10; i++) await journal.append([{ op: "attach", attachment: attachment(`c${i}`, i) }, ...(i === 0 ? [{ op: "trust" as const }] : [])]);
      await journal.close();
      const reopened = await Journal.open({ files: await DiskJournalFiles.open(directory), node: "n1" });
      expect(toSnapshot(reopened.state)).toEqual(toSnapshot(journal.state));
      await reopened.close();
      await writeFile(join(directory, "addresses.snapshot"), "garbage garbage garbage");
      const damaged = await Journal.open({ files: await DiskJournalFiles.open(directory), node: "n1" });
      expect(damaged.state.isTrusted).toBe(false);
      await damaged.close();
      expect(await readFile(join(directory, "addresses.snapshot.corrupt-1"), "utf8")).toBe("garbage garbage garbage");
      expect((await readdir(directory)).filter((name) => name.endsWith(".new"))).toEqual([]);
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
