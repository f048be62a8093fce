import { describe, expect, it } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import type { RecordChange } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { seedOf } from "../../src/wire/digest.ts";
import { decodeServerMessage } from "../../src/wire/update-codec.ts";
import { View } from "../../src/wire/view.ts";
import { MemoryAgent } from "../../test/fakes/memory-stream.ts";
import { Table } from "../table/table.ts";
import { PackedShared } from "./packed-shared.ts";
import { Sessions } from "./sessions.ts";

const SEED = seedOf("u");
const pool = (i: number, blockSize = 26): RecordChange => ({
  key: `pool/p${i}`,
  value: { kind: "pool", name: `p${i}`, cidr: parseCidr(`10.${i >> 8}.${i & 255}.0/24`), natOutgoing: true, disabled: false, blockSize },
  isRemoved: false,
  entered: [],
  left: [],
});
const own = (id: string, node: string): RecordChange => ({
  key: `stack/${id}`,
  value: { kind: "stack", id, tiers: [], noMatchAction: "allow" },
  isRemoved: false,
  entered: [node as NodeName],
  left: [],
});

function serverWith(
  records: number,
  maxAnswers = 64,
): { readonly clock: ManualClock; readonly table: Table; readonly sessions: Sessions; readonly answerBytes: () => number } {
  const clock = new ManualClock();
  const table = new Table({ seed: SEED });
  let answerBytes = 0;
  const sessions = new Sessions({
    table,
    serverName: "s",
    epoch: "e",
    clock,
    observer: {
      sent: (kind, bytes) => {
        if (kind === "answer") answerBytes += bytes;
      },
      delivered: () => undefined,
      received: () => undefined,
      programmed: () => undefined,
      ended: () => undefined,
    },
    heartbeatIntervalMs: 1000,
    helloTimeoutMs: 500,
    answerStallMs: 2000,
    admission: { maxAnswers, maxWaiting: 100_000, defer: (run) => run() },
    upstream: () => ({ ageMs: 0, isStale: false }),
    report: () => undefined,
  });
  table.commit(
    Array.from({ length: records }, (_, i) => pool(i)),
    1n,
  );
  sessions.serve();
  return { clock, table, sessions, answerBytes: () => answerBytes };
}

describe("packed shared records", () => {
  it("S13 a first start of 40 agents with 10,000 shared records: each chunk is made once, few bytes are in flight at any time", () => {
    const { table, sessions, answerBytes } = serverWith(10_000, 4);
    table.commit([own("a", "n7")], 1n);
    const agents = Array.from({ length: 40 }, (_, i) => new MemoryAgent({ node: `n${i}`, view: new View(), accept: (stream) => sessions.accept(stream) }));
    for (const agent of agents) agent.connect();
    let most = 0;
    for (let isAny = true; isAny; ) {
      isAny = false;
      for (const agent of agents) isAny = agent.read(1) || isAny;
      most = Math.max(most, sessions.bytesInFlight);
    }
    for (const agent of agents) expect([agent.session?.state, agent.view.digest]).toEqual(["live", table.viewDigest(table.nodes.idOf(agent.node as NodeName))]);
    const chunks = 2 ** sessions.packed.chunkBits(8);
    expect(sessions.packed.counts).toEqual({ made: chunks, shared: 39 * chunks });
    // 4 answers, each at most the bound of a stream and one message; the last few kB of those that have just ended.
    expect(most).toBeLessThan(4 * (128 + 64) * 1024 + 40 * 4600);
    expect(answerBytes() / 40).toBeLessThan(table.sharedBytes / 2);
    expect(sessions.packed.bytes).toBeLessThan(table.sharedBytes);
  });

  it("S13 one changed record makes one chunk anew", () => {
    const table = new Table({ seed: SEED });
    table.commit(
      Array.from({ length: 5_000 }, (_, i) => pool(i)),
      1n,
    );
    const shared = new PackedShared({ table });
    const chunkBits = shared.chunkBits(8);
    expect(chunkBits).toBeGreaterThan(1);
    const all = (): (Uint8Array | undefined)[] =>
      Array.from({ length: 2 ** chunkBits }, (_, index) => shared.chunk({ index, bits: 8, chunkBits, packing: "gzip" }));
    const before = all();
    table.commit([pool(17, 27)], 2n);
    const after = all();
    expect(after.filter((frame, i) => frame !== before[i])).toHaveLength(1);
    expect(shared.counts.made).toBe(2 ** chunkBits + 1);
  });

  it("S6 a view of 10,000 records: 8 KB bring an unchanged one back, 64 KB one in which a record changed", () => {
    const { table, sessions, answerBytes } = serverWith(10_000);
    const view = new View();
    const agent = new MemoryAgent({ node: "n", view, accept: (stream) => sessions.accept(stream) });
    agent.connect();
    while (agent.read());
    agent.disconnect();
    const cost = (): number => {
      const before = answerBytes();
      let sent = 0;
      const counted = new MemoryAgent({
        node: "n",
        view,
        accept: (stream) => {
          const handler = sessions.accept(stream);
          return {
            onMessage: (bytes) => {
              sent += bytes.length;
              handler.onMessage(bytes);
            },
            onDrain: () => handler.onDrain(),
            onClosed: () => handler.onClosed(),
          };
        },
      });
      counted.connect();
      while (counted.read());
      expect([counted.session?.state, view.digest]).toEqual(["live", table.viewDigest(table.nodes.idOf("n" as NodeName))]);
      counted.disconnect();
      return sent + answerBytes() - before;
    };
    expect(cost()).toBeLessThan(8 * 1024);
    table.commit([pool(17, 27)], 2n);
    const changed = cost();
    expect(changed).toBeLessThan(64 * 1024);
    expect(changed).toBeGreaterThan(4 * 1024);
  });

  it("the frames kept are bounded; what does not fit is made again", () => {
    const table = new Table({ seed: SEED });
    table.commit(
      Array.from({ length: 5_000 }, (_, i) => pool(i)),
      1n,
    );
    const shared = new PackedShared({ table, maxBytes: 150_000 });
    const chunkBits = shared.chunkBits(8);
    for (let round = 0; round < 3; round++) {
      for (let index = 0; index < 2 ** chunkBits; index++) {
        const frame = shared.chunk({ index, bits: 8, chunkBits, packing: "none" });
        expect(decodeServerMessage(frame ?? new Uint8Array())).toMatchObject({ $case: "update", value: { commit: false } });
        expect(shared.bytes).toBeLessThanOrEqual(150_000);
      }
    }
    expect(shared.counts.made).toBe(3 * 2 ** chunkBits);
  });

  it("few records: one plain frame; packing that nobody named is not used", () => {
    const { table, sessions } = serverWith(3);
    const shared = new PackedShared({ table });
    expect(shared.chunkBits(8)).toBe(0);
    expect(decodeServerMessage(shared.chunk({ index: 0, bits: 8, chunkBits: 0, packing: "gzip" }) ?? new Uint8Array())?.$case).toBe("update");
    expect(sessions.packed.counts.made).toBe(0);
  });
});
