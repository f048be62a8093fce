import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { recordValue } from "../../test/fakes/record-arbitrary.ts";
import { AGENT_TRANSITIONS, type AgentOutput, AgentSession, type Unpack } from "./agent-protocol.ts";
import { addDigest, bucketOf, seedOf } from "./digest.ts";
import { AgentMessage, Compression, type PackedUpdate } from "./gen/sedge/sync/v1/sync.ts";
import { type EncodedRecord, encodeRecord } from "./record-codec.ts";
import { encodeBareUpdate, encodeServerMessage, encodeUpdate, type RawUpdate } from "./update-codec.ts";
import { View } from "./view.ts";

const SEED = seedOf("u");
const EMPTY: RawUpdate = { buckets: [], upserts: [], removed: [], commit: false, revision: 0n, digest: undefined, committedAtUnixUs: 0n };
const stack = (id: string, noMatchAction: "allow" | "deny" = "allow"): EncodedRecord => encodeRecord({ kind: "stack", id, tiers: [], noMatchAction }, SEED);
const digestOf = (records: readonly EncodedRecord[]): bigint => records.reduce((sum, { hash }) => addDigest(sum, hash), 0n);
const welcome = (bucketBits = 8, hashSeed = SEED): Uint8Array =>
  encodeServerMessage({
    $case: "welcome",
    value: {
      server: "s",
      epoch: "e",
      hashSeed,
      revision: 1n,
      features: [],
      heartbeatIntervalMs: 1000,
      bucketBits,
      upstreamKinds: [],
      servers: undefined,
      ackIntervalMs: 0,
    },
  });
const update = (fields: Partial<RawUpdate>): Uint8Array => encodeUpdate({ ...EMPTY, ...fields });
const heartbeat = (revision: bigint, digest: bigint | undefined): Uint8Array =>
  encodeServerMessage({ $case: "heartbeat", value: { revision, digest, upstreamAgeMs: 0n, stale: false, ackIntervalMs: 0 } });
const kinds = (outputs: readonly AgentOutput[]): string[] => outputs.map((output) => (output.kind === "end" ? `end:${output.reason}` : output.kind));

function live(records: readonly EncodedRecord[], view = new View()): { session: AgentSession; view: View } {
  const session = new AgentSession({ identity: { node: "n1", version: "t", features: [] }, view });
  const bits = view.viewState().bucketBits;
  session.open();
  session.receive(welcome(bits));
  const outputs = session.receive(update({ upserts: records.map(({ bytes }) => bytes), commit: true, revision: 1n, digest: digestOf(records) }));
  expect(kinds(outputs)).toEqual(["commit"]);
  return { session, view };
}

describe("agent session", () => {
  it("A1 Hello is the first message and states what the view has", () => {
    const { view } = live([stack("a"), stack("b")]);
    const session = new AgentSession({ identity: { node: "n1", version: "t", features: ["f"] }, view });
    const [first] = session.open();
    const message = first?.kind === "send" ? AgentMessage.decode(first.bytes).message : undefined;
    expect(message).toMatchObject({
      $case: "hello",
      value: { node: "n1", epoch: "e", revision: 1n, view: { hashSeed: SEED, bucketBits: 0, digests: [view.digest] } },
    });
  });

  it("A2 nothing changes before the commit, then everything at once", () => {
    const { session, view } = live([stack("a"), stack("b")]);
    expect(session.receive(update({ removed: ["stack/a"], upserts: [stack("c").bytes] }))).toEqual([]);
    expect([...view.records.keys()]).toEqual(["stack/a", "stack/b"]);
    const [output] = session.receive(update({ upserts: [stack("b", "deny").bytes], commit: true, revision: 2n }));
    expect(output?.kind === "commit" ? [...output.delta.changes.keys()].toSorted() : []).toEqual(["stack/a", "stack/b", "stack/c"]);
    expect(view.digest).toBe(digestOf([stack("b", "deny"), stack("c")]));
    expect(view.revision).toBe(2n);
  });

  it("A3 a bucket replaces what the view has in it, over several updates", () => {
    const all = Array.from({ length: 100 }, (_, i) => stack(`s${i}`));
    const { view } = live(all);
    const session = new AgentSession({ identity: { node: "n1", version: "t", features: [] }, view });
    session.open();
    session.receive(welcome(2));
    const kept = all.filter(({ key }) => bucketOf(key, SEED, 2) !== 1);
    const fresh = Array.from({ length: 100 }, (_, i) => stack(`t${i}`)).filter(({ key }) => bucketOf(key, SEED, 2) === 1);
    session.receive(update({ buckets: [{ index: 1, records: fresh.slice(0, 3).map(({ bytes }) => bytes) }] }));
    const outputs = session.receive(
      update({ upserts: fresh.slice(3).map(({ bytes }) => bytes), commit: true, revision: 9n, digest: digestOf([...kept, ...fresh]) }),
    );
    expect(kinds(outputs)).toEqual(["commit"]);
    expect(session.state).toBe("live");
    expect([...view.records.keys()].toSorted()).toEqual([...kept, ...fresh].map(({ key }) => key).toSorted());
  });

  it("A4 another seed: the old records stay until the first commit, which replaces them all", () => {
    const { view } = live([stack("a"), stack("b")]);
    const seed = seedOf("other");
    const session = new AgentSession({ identity: { node: "n1", version: "t", features: [] }, view });
    session.open();
    session.receive(welcome(0, seed));
    expect(view.size).toBe(2);
    const other = encodeRecord({ kind: "stack", id: "z", tiers: [], noMatchAction: "deny" }, seed);
    session.receive(update({ buckets: [{ index: 0, records: [other.bytes] }], commit: true, revision: 1n, digest: other.hash }));
    expect([...view.records.keys()]).toEqual(["stack/z"]);
    expect(view.seed).toBe(seed);
  });

  it("A5 a heartbeat with another digest asks one repair; an answer that never fits ends the session", () => {
    const { session } = live([stack("a")]);
    expect(kinds(session.receive(heartbeat(1n, undefined)))).toEqual(["heartbeat"]);
    expect(kinds(session.receive(heartbeat(1n, stack("a").hash)))).toEqual(["heartbeat"]);
    expect(kinds(session.receive(heartbeat(2n, 5n)))).toEqual(["heartbeat", "repair", "send"]);
    expect(kinds(session.receive(heartbeat(2n, 5n)))).toEqual(["heartbeat"]);
    expect(kinds(session.receive(update({ commit: true, revision: 2n, digest: 5n })))).toEqual(["commit", "repair", "send"]);
    expect(kinds(session.receive(update({ commit: true, revision: 2n, digest: 5n })))).toEqual(["commit", "end:digest"]);
  });

  it("A6 a record that fails its hash changes nothing and ends the session", () => {
    const { session, view } = live([stack("a")]);
    const bad = Uint8Array.from(stack("b").bytes);
    bad[2] = 0x78;
    expect(kinds(session.receive(update({ upserts: [bad], removed: ["stack/a"], commit: true, revision: 2n })))).toEqual(["end:violation"]);
    expect([...view.records.keys()]).toEqual(["stack/a"]);
  });

  it("A7 what was staged when the stream ends is forgotten", () => {
    const { session, view } = live([stack("a")]);
    session.receive(update({ removed: ["stack/a"] }));
    expect(kinds(session.closed("reset"))).toEqual(["end:closed"]);
    expect(view.size).toBe(1);
    expect(view.hasStaged).toBe(false);
  });

  it("A8 any update can be applied twice with the same result", () => {
    fc.assert(
      fc.property(fc.array(recordValue), fc.array(recordValue), fc.array(recordValue), (before, upserts, removed) => {
        const unique = new Map(before.map((value) => [encodeRecord(value, SEED).key, encodeRecord(value, SEED)]));
        const { session, view } = live([...unique.values()]);
        const bytes = update({
          upserts: upserts.map((value) => encodeRecord(value, SEED).bytes),
          removed: removed.map((value) => encodeRecord(value, SEED).key),
          commit: true,
          revision: 2n,
        });
        session.receive(bytes);
        const once = [...view.records].map(([key, { hash }]) => [key, hash]);
        const [second] = session.receive(bytes);
        expect(second?.kind === "commit" ? second.delta.changes.size : -1).toBe(0);
        expect([...view.records].map(([key, { hash }]) => [key, hash])).toEqual(once);
        expect(view.digest).toBe([...view.records.values()].reduce((sum, { hash }) => addDigest(sum, hash), 0n));
      }),
    );
  });

  it("A11 a packed Update is the Update that it holds; one that was not named, is damaged, too large or a commit ends the session", () => {
    const packed = (value: Partial<PackedUpdate>): Uint8Array =>
      encodeServerMessage({ $case: "packed", value: { compression: Compression.GZIP, size: 0, data: Buffer.alloc(0), ...value } });
    const bare = Buffer.from(encodeBareUpdate({ ...EMPTY, upserts: [stack("a").bytes] }));
    const open = (features: readonly string[], unpack: Unpack = ({ data }) => data): { session: AgentSession; view: View } => {
      const view = new View();
      const session = new AgentSession({ identity: { node: "n1", version: "t", features, unpack }, view });
      session.open();
      session.receive(welcome());
      return { session, view };
    };
    const good = open(["gzip"]);
    expect(good.session.receive(packed({ size: bare.length, data: bare }))).toEqual([]);
    expect(kinds(good.session.receive(update({ commit: true, revision: 1n, digest: stack("a").hash })))).toEqual(["commit"]);
    expect([...good.view.records.keys()]).toEqual(["stack/a"]);
    const commit = Buffer.from(encodeBareUpdate({ ...EMPTY, commit: true }));
    const bad: readonly [readonly string[], Partial<PackedUpdate>][] = [
      [[], { size: bare.length, data: bare }],
      [["gzip"], { compression: Compression.ZSTD, size: bare.length, data: bare }],
      [["gzip"], { size: bare.length + 1, data: bare }],
      [["gzip"], { size: 2 ** 31, data: bare }],
      [["gzip"], { size: commit.length, data: commit }],
      [["gzip"], { size: 3, data: Buffer.from([0xff, 0xff, 0xff]) }],
    ];
    for (const [features, value] of bad) expect(kinds(open(features).session.receive(packed(value)))).toEqual(["end:violation"]);
    const throwing = open(["gzip"], () => {
      throw new Error("damaged");
    });
    expect(kinds(throwing.session.receive(packed({ size: 1 })))).toEqual(["end:violation"]);
  });

  it("A12 the place in the API's history: deltas add to it, an answer replaces it, a stored view keeps it, Hello states it", () => {
    const view = new View();
    const open = (kinds: readonly string[]): AgentSession => {
      const session = new AgentSession({ identity: { node: "n1", version: "t", features: [] }, view });
      const [hello] = session.open();
      const bits = hello?.kind === "send" ? view.viewState().bucketBits : 0;
      session.receive(
        encodeServerMessage({
          $case: "welcome",
          value: {
            server: "s",
            epoch: "e",
            hashSeed: SEED,
            revision: 1n,
            features: [],
            heartbeatIntervalMs: 1000,
            bucketBits: bits,
            upstreamKinds: [...kinds],
            servers: undefined,
            ackIntervalMs: 0,
          },
        }),
      );
      return session;
    };
    const first = open(["Pod", "Node"]);
    first.receive(update({ commit: true, revision: 1n, digest: 0n, upstream: [5n, 7n] }));
    first.receive(update({ commit: true, revision: 2n, upstream: [9n, 0n] }));
    expect([...view.upstream]).toEqual([
      ["Pod", 9n],
      ["Node", 7n],
    ]);
    const restored = View.restore({ seed: view.seed, epoch: view.epoch, revision: view.revision, upstream: view.upstream, records: [] });
    const [hello] = new AgentSession({ identity: { node: "n1", version: "t", features: [] }, view: restored }).open();
    const message = hello?.kind === "send" ? AgentMessage.decode(hello.bytes).message : undefined;
    expect(message).toMatchObject({
      value: {
        upstream: [
          { kind: "Pod", resourceVersion: 9n },
          { kind: "Node", resourceVersion: 7n },
        ],
      },
    });
    open(["Pod"]).receive(update({ commit: true, revision: 3n, digest: 0n, upstream: [8n] }));
    expect([...view.upstream]).toEqual([["Pod", 8n]]);
    // A server that tells nothing takes nothing away.
    open([]).receive(update({ commit: true, revision: 3n, digest: 0n }));
    expect([...view.upstream]).toEqual([["Pod", 8n]]);
  });

  it("garbage, and every message that is not due, ends the session; an unknown one is ignored", () => {
    const fresh = (): AgentSession => new AgentSession({ identity: { node: "n1", version: "t", features: [] }, view: new View() });
    const messages = {
      welcome: welcome(),
      part: update({}),
      delta: update({ commit: true }),
      answer: update({ commit: true, digest: 0n }),
      heartbeat: heartbeat(1n, 0n),
    };
    for (const bytes of [...Object.values(messages), Buffer.from([0xff])]) expect(kinds(fresh().receive(bytes))).toEqual(["end:violation"]);
    const greeted = fresh();
    greeted.open();
    expect(greeted.receive(Buffer.from([0x7a, 1, 0]))).toEqual([]);
    expect(kinds(greeted.silence())).toEqual(["end:silence"]);
    expect(greeted.receive(welcome())).toEqual([]);
  });

  it("the table: over is final, and only live and repairing apply deltas", () => {
    for (const transition of Object.values(AGENT_TRANSITIONS.over)) expect(transition).toEqual({ next: "over", effect: "ignore" });
    const applying = Object.entries(AGENT_TRANSITIONS)
      .filter(([, row]) => row.delta.effect === "apply")
      .map(([state]) => state);
    expect(applying).toEqual(["live", "repairing"]);
  });
});
