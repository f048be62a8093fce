/** A view store that was damaged or edited by hand: what is wrong is found by digest, and only its buckets are sent again. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { encodeFrame, readFrames } from "../../agent/view/frames.ts";
import { ViewStore } from "../../agent/view/store.ts";
import { Sessions } from "../../fanout/session/sessions.ts";
import { Table } from "../../fanout/table/table.ts";
import type { NodeName } from "../../src/model/names.ts";
import type { RecordChange } from "../../src/model/record.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { seedOf } from "../../src/wire/digest.ts";
import { encodeRecord } from "../../src/wire/record-codec.ts";
import { MemoryAgent } from "../fakes/memory-stream.ts";

const SEED = seedOf("u");
const NODE = "n1" as NodeName;
const RECORDS = 2000;
let directory = "";

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sedge-damaged-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

const stackOf = (i: number, noMatchAction: "allow" | "deny" = "allow"): Extract<RecordChange["value"], { kind: "stack" }> => ({
  kind: "stack",
  id: `s${i}`,
  tiers: [],
  noMatchAction,
});

function server(): { readonly table: Table; readonly sessions: Sessions; readonly answers: () => number } {
  const table = new Table({ seed: SEED });
  let answers = 0;
  const sessions = new Sessions({
    table,
    serverName: "s",
    epoch: "e",
    clock: new ManualClock(),
    observer: {
      sent: (kind, bytes) => {
        if (kind === "answer") answers += bytes;
      },
      delivered: () => undefined,
      received: () => undefined,
      programmed: () => undefined,
      ended: () => undefined,
    },
    heartbeatIntervalMs: 1000,
    helloTimeoutMs: 500,
    answerStallMs: 2000,
    admission: { maxAnswers: 1, maxWaiting: 10, defer: (run) => run() },
    upstream: () => ({ ageMs: 0, isStale: false }),
    report: () => undefined,
  });
  table.commit(
    Array.from({ length: RECORDS }, (_, i) => ({ key: `stack/s${i}` as const, value: stackOf(i), isRemoved: false, entered: [NODE], left: [] })),
    1n,
  );
  sessions.serve();
  return { table, sessions, answers: () => answers };
}

/** Connects with what the store has, and writes down what comes. Returns the bytes of the answer. */
async function session(
  f: ReturnType<typeof server>,
): Promise<{ readonly bytes: number; readonly changed: number; readonly problems: readonly string[]; readonly digest: bigint }> {
  const store = await ViewStore.open({ directory, node: NODE });
  const before = f.answers();
  const agent = new MemoryAgent({ node: NODE, view: store.view, accept: (stream) => f.sessions.accept(stream) });
  agent.connect();
  while (agent.read());
  let changed = 0;
  for (const output of agent.outputs) {
    if (output.kind !== "commit") continue;
    changed += output.delta.changes.size;
    await store.append({ delta: output.delta, isComplete: true });
  }
  expect(agent.session?.state).toBe("live");
  const { digest } = store.view;
  agent.disconnect();
  await store.close();
  return { bytes: f.answers() - before, changed, problems: store.problems, digest };
}

/** Rewrites the snapshot's one commit with checksums that are right, as somebody with a tool would. */
async function edit(change: (blobs: Uint8Array[]) => void): Promise<void> {
  const path = join(directory, "view.snapshot");
  const [head, commit] = readFrames(await readFile(path)).frames;
  if (head === undefined || commit === undefined) throw new Error("no snapshot");
  const blobs = [...commit.blobs];
  change(blobs);
  await writeFile(path, Buffer.concat([encodeFrame(head.head as object, []), encodeFrame({ ...(commit.head as object), upserts: blobs.length }, blobs)]));
}

describe("a view store that is not what it was", () => {
  it("S17 records edited, removed and added by hand → their buckets alone are sent again, and the files are right afterwards", async () => {
    const f = server();
    const digest = f.table.viewDigest(f.table.nodes.idOf(NODE));
    const first = await session(f);
    expect([first.changed, first.digest]).toEqual([RECORDS, digest]);
    // Opening writes a snapshot with all of it.
    await (await ViewStore.open({ directory, node: NODE })).close();
    await edit((blobs) => {
      blobs[5] = encodeRecord(stackOf(5, "deny"), SEED).bytes;
      blobs.splice(100, 1);
      blobs.push(encodeRecord(stackOf(RECORDS + 7), SEED).bytes);
    });
    const second = await session(f);
    expect([second.problems, second.changed, second.digest]).toEqual([[], 3, digest]);
    expect(second.bytes).toBeLessThan(first.bytes / 15);
    const third = await session(f);
    expect([third.changed, third.digest]).toEqual([0, digest]);
    expect(third.bytes).toBeLessThan(64);
  });

  it("S17 a record whose bytes do not fit its own hash → the files are moved aside and everything is sent again", async () => {
    const f = server();
    await session(f);
    await (await ViewStore.open({ directory, node: NODE })).close();
    await edit((blobs) => {
      const bytes = Buffer.from(blobs[5] ?? []);
      bytes[4] = (bytes[4] ?? 0) ^ 1;
      blobs[5] = bytes;
    });
    const again = await session(f);
    expect(again.problems.join("\n")).toContain("moved to");
    expect([again.changed, again.digest]).toEqual([RECORDS, f.table.viewDigest(f.table.nodes.idOf(NODE))]);
  });
});
