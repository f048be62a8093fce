/** A feed and a relay's end in memory, with a stream that moves when the test says so. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import { type RecordChange, type RecordKey, recordKey } from "../../src/model/record.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { bucketBitsFor, seedOf } from "../../src/wire/digest.ts";
import { RelayServerMessage, type SubscribedNode } from "../../src/wire/gen/sedge/sync/v1/relay.ts";
import { encodeRelayMessage, type RelayMessageValue, UpstreamSession } from "../../src/wire/relay-protocol.ts";
import { MemoryStream } from "../../test/fakes/memory-stream.ts";
import { recordValue } from "../../test/fakes/record-arbitrary.ts";
import type { NodeId } from "../table/node-ids.ts";
import { Table } from "../table/table.ts";
import type { FeedLimits } from "./feed.ts";
import { Feeds } from "./feeds.ts";

const NODES = ["n1", "n2", "n3", "n4"].map((name) => name as NodeName);
const SEED = seedOf("u");
const isShared = (key: RecordKey): boolean => key.startsWith("node/") || key.startsWith("pool/");

class World {
  readonly root = new Table({ seed: SEED });
  relay = new Table({ seed: SEED });
  stream = new MemoryStream();
  session: UpstreamSession | undefined;
  /** Slots of the relay, and whether the parent has said that they are held. */
  readonly slots = new Map<NodeId, boolean>();
  readonly dropping = new Set<NodeId>();
  readonly problems: string[] = [];
  readonly feeds: Feeds;

  constructor(limits: Partial<FeedLimits> = {}) {
    this.feeds = new Feeds({
      id: "root",
      table: this.root,
      serverName: "root",
      clock: new ManualClock(),
      heartbeatIntervalMs: 1_000,
      helloTimeoutMs: 1_000,
      limits,
      path: () => ["root"],
      epoch: () => "e",
      refusal: () => undefined,
      versions: undefined,
      upstream: () => ({ ageMs: 0, isStale: false }),
      syncStatus: () => "in-sync",
      hold: (_, onHeld) => {
        onHeld();
        return () => undefined;
      },
      report: () => undefined,
      sent: () => undefined,
      ended: (_, reason, error) => {
        if (reason !== "closed") this.problems.push(`${reason}: ${error?.message}`);
      },
    });
    // So that the two never number nodes alike.
    for (const name of ["x", "y", "z"]) this.relay.nodes.hold(this.relay.nodes.idOf(name as NodeName));
  }

  commit(changes: readonly RecordChange[]): void {
    const commit = this.root.commit(changes, 1n);
    if (commit !== undefined) this.feeds.publish(commit);
  }

  connect(): void {
    this.stream.close();
    this.stream = new MemoryStream();
    for (const slot of this.dropping) this.#drop(slot);
    this.stream.handler = this.feeds.accept(this.stream);
    const sharedBits = bucketBitsFor(this.relay.sharedSize);
    const nodes: SubscribedNode[] = [...this.slots].map(([slot, isHeld]) => {
      const bucketBits = isHeld ? bucketBitsFor(this.relay.ownSize(slot)) : 0;
      return { slot, node: this.#nameOf(slot), bucketBits, digests: isHeld ? [...this.relay.ownBucketDigests(slot, bucketBits)] : [] };
    });
    const shared = { hashSeed: SEED, bucketBits: sharedBits, digests: [...this.relay.sharedBucketDigests(sharedBits)] };
    const { revision } = this.relay;
    this.session = new UpstreamSession({
      hello: { name: "r", version: "", features: [], id: "r", below: [], epoch: "e", revision, shared, upstream: [], nodes: nodes.length },
      subscribes: nodes.map((node) => ({ nodes: [node] })),
    });
    this.#carryOut(this.session.open());
  }

  subscribe(name: NodeName): void {
    const known = this.relay.nodes.findId(name);
    if (this.session?.state !== "live" || (known !== undefined && this.slots.has(known))) return;
    const slot = this.relay.nodes.idOf(name);
    this.relay.nodes.hold(slot);
    this.slots.set(slot, false);
    this.#say({ $case: "subscribe", value: { nodes: [{ slot, node: name, bucketBits: 0, digests: [] }] } });
  }

  unsubscribe(name: NodeName): void {
    const slot = this.relay.nodes.findId(name);
    if (this.session?.state !== "live" || slot === undefined || this.slots.get(slot) !== true || this.dropping.has(slot)) return;
    this.dropping.add(slot);
    this.#say({ $case: "unsubscribe", value: { slots: [slot] } });
  }

  read(count: number): void {
    for (let i = 0; i < count; i++) {
      const message = this.stream.take();
      if (message === undefined) return;
      this.#carryOut(this.session?.receive(message) ?? []);
    }
  }

  /** The relay has what the root has, cut to its nodes. */
  expectEqual(): void {
    if (this.session?.state !== "live") this.connect();
    for (let round = 0; round < 20; round++) {
      this.feeds.flush();
      this.read(Number.POSITIVE_INFINITY);
    }
    expect(this.problems).toEqual([]);
    for (const feed of this.feeds.feeds) feed.heartbeat();
    this.read(Number.POSITIVE_INFINITY);
    expect(this.relay.revision).toBe(this.root.revision);
    for (const [slot, isHeld] of this.slots) {
      const name = this.#nameOf(slot);
      expect(isHeld).toBe(true);
      expect(this.relay.viewDigest(slot)).toBe(this.root.viewDigest(this.root.nodes.idOf(name as NodeName)));
      expect([...this.relay.view(slot)].map(({ key }) => key).toSorted()).toEqual(
        [...this.root.view(this.root.nodes.idOf(name as NodeName))].map(({ key }) => key).toSorted(),
      );
    }
    const wanted = new Set([...this.slots.keys()].flatMap((slot) => [...this.relay.view(slot)].map(({ key }) => key)));
    expect([...this.relay.entries()].filter((entry) => !entry.isShared && !wanted.has(entry.key))).toEqual([]);
  }

  #nameOf(slot: NodeId): string {
    return this.relay.nodes.findName(slot) ?? "";
  }

  #drop(slot: NodeId): void {
    this.relay.forgetNode(slot);
    this.slots.delete(slot);
    this.dropping.delete(slot);
    this.relay.nodes.release(slot);
  }

  #say(message: Parameters<typeof encodeRelayMessage>[0]): void {
    this.stream.handler?.onMessage(encodeRelayMessage(message));
  }

  #carryOut(outputs: ReturnType<UpstreamSession["open"]>): void {
    for (const output of outputs) {
      if (output.kind === "send") this.stream.handler?.onMessage(output.bytes);
      else if (output.kind === "end" && output.reason !== "closed") this.problems.push(output.detail);
      else if (output.kind === "commit") {
        const { commit } = output;
        this.relay.mirror(commit, (node) => this.slots.has(node));
        for (const slot of commit.held) if (this.slots.has(slot as NodeId)) this.slots.set(slot as NodeId, true);
        for (const slot of commit.dropped) this.#drop(slot as NodeId);
        const held = [...this.slots].filter(([, isHeld]) => isHeld).map(([slot]) => slot);
        if (commit.digest !== undefined && commit.digest !== this.relay.unionDigest(held)) this.problems.push("digest of the answer");
      } else if (output.kind === "heartbeat" && output.heartbeat.digest !== undefined && output.isLive) {
        if (output.heartbeat.digest !== this.relay.unionDigest(this.slots.keys())) this.problems.push("digest of a heartbeat");
        this.relay.advance(output.heartbeat.revision);
      }
    }
  }
}

type Step = (world: World) => void;
const node = fc.constantFrom(...NODES);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.array(fc.tuple(recordValue, fc.subarray(NODES), fc.subarray(NODES)), { minLength: 1, maxLength: 4 }).map(
      (changes): Step =>
        (world) => {
          world.commit(
            changes.map(([value, entered, left]): RecordChange => {
              const key = recordKey(value);
              return { key, value, isRemoved: false, entered: isShared(key) ? [] : entered, left: isShared(key) ? [] : left };
            }),
          );
        },
    ),
  },
  {
    weight: 2,
    arbitrary: fc.nat(30).map(
      (n): Step =>
        (world) => {
          const key = [...world.root.entries()].map((entry) => entry.key)[n];
          if (key !== undefined) world.commit([{ key, value: undefined, isRemoved: true, entered: [], left: [] }]);
        },
    ),
  },
  {
    weight: 3,
    arbitrary: node.map(
      (name): Step =>
        (world) =>
          world.subscribe(name),
    ),
  },
  {
    weight: 1,
    arbitrary: node.map(
      (name): Step =>
        (world) =>
          world.unsubscribe(name),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.nat(4).map(
      (count): Step =>
        (world) =>
          world.read(count),
    ),
  },
  { weight: 3, arbitrary: fc.constant<Step>((world) => world.feeds.flush()) },
  { weight: 1, arbitrary: fc.constant<Step>((world) => world.connect()) },
  { weight: 1, arbitrary: fc.constant<Step>((world) => world.expectEqual()) },
);

describe("a feed and its relay", () => {
  it("R10 at every quiet point the relay's table is the root's, cut to its nodes, whatever came and went, was cut or waited", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 10, maxLength: 60, size: "max" }), (steps) => {
        const world = new World({ maxBytesInFlight: 300, partBytes: 120 });
        world.connect();
        for (const run of steps) run(world);
        world.expectEqual();
      }),
      { numRuns: 300 },
    );
  });

  it.each([
    ["Unsubscribe of a slot that is none", { $case: "unsubscribe", value: { slots: [77] } }, "slot 77 is not subscribed"],
    [
      "Subscribe with a slot that is taken",
      {
        $case: "subscribe",
        value: {
          nodes: [
            { slot: 5, node: "a", bucketBits: 0, digests: [] },
            { slot: 5, node: "b", bucketBits: 0, digests: [] },
          ],
        },
      },
      "slot 5 is taken",
    ],
    [
      "Subscribe of a node twice",
      {
        $case: "subscribe",
        value: {
          nodes: [
            { slot: 5, node: "a", bucketBits: 0, digests: [] },
            { slot: 6, node: "a", bucketBits: 0, digests: [] },
          ],
        },
      },
      "subscribed twice",
    ],
    ["Subscribe without a name", { $case: "subscribe", value: { nodes: [{ slot: 5, node: "", bucketBits: 0, digests: [] }] } }, "names no node"],
    ["RelayAck ahead of the table", { $case: "ack", value: { levelRevision: 99n, nodes: [] } }, "RelayAck names revision 99"],
    [
      "digests that fit no bucket count",
      { $case: "subscribe", value: { nodes: [{ slot: 5, node: "a", bucketBits: 3, digests: [1n] }] } },
      "1 digests for 3 bucket bits",
    ],
    ["a report of a node without the report", { $case: "report", value: { slot: 5, report: undefined } }, "without a report"],
  ] as const)("R8 %s → INVALID_ARGUMENT, and nothing is left behind", (_what, message, says) => {
    const world = new World();
    world.connect();
    world.read(10);
    const nodes = world.root.nodes.size;
    world.stream.handler?.onMessage(encodeRelayMessage(message as unknown as Parameters<typeof encodeRelayMessage>[0]));
    expect(world.problems).toEqual([expect.stringContaining(`broken-message: `)]);
    expect(world.problems[0]).toContain(says);
    expect(world.stream.isOver).toBe(true);
    expect(world.feeds.feeds.size).toBe(0);
    expect(world.root.nodes.size).toBe(nodes);
  });

  it("what changed is remembered until the node that is furthest behind has it", () => {
    const world = new World();
    world.connect();
    world.read(10);
    for (const name of NODES) world.subscribe(name);
    world.expectEqual();
    world.commit([{ key: "stack/s", value: { kind: "stack", id: "s", tiers: [], noMatchAction: "allow" }, isRemoved: false, entered: NODES, left: [] }]);
    world.expectEqual();
    const [feed] = world.feeds.feeds;
    const [slot = 0] = world.slots.keys();
    const ack = (programmedRevision: bigint, level: boolean): void => {
      const state = {
        slot,
        connected: true,
        session: 1n,
        address: "",
        version: "",
        level,
        receivedRevision: programmedRevision,
        programmedRevision,
        failed: [],
      };
      const rest = { dirtyKeys: 0, bytesSent: 0n, connectedMs: 0n, via: [], certificateEndsAtUnixMs: 0n };
      world.stream.handler?.onMessage(encodeRelayMessage({ $case: "ack", value: { levelRevision: world.root.revision, nodes: [{ ...state, ...rest }] } }));
    };
    ack(0n, false);
    expect(feed?.changedKeys.after(0n)).toContain("stack/s");
    ack(world.root.revision, true);
    expect(feed?.changedKeys.after(0n)).toEqual([]);
  });

  it("a node that is given up before a commit told that it is held is told as dropped alone", () => {
    const world = new World();
    world.connect();
    world.read(10);
    for (const name of ["n1", "n2"] as const) world.subscribe(name as NodeName);
    world.expectEqual();
    const [first, second] = ["n3", "n4"].map((name, i) => ({ slot: 70 + i, node: name, bucketBits: 0, digests: [] }));
    if (first === undefined || second === undefined) throw new Error("two nodes");
    const [feed] = world.feeds.feeds;
    // Nothing goes out while the stream is full, so both are still to be told.
    world.stream.inFlight.push(new Uint8Array(2 * 1024 * 1024));
    const said: readonly RelayMessageValue[] = [
      { $case: "subscribe", value: { nodes: [first, second] } },
      { $case: "unsubscribe", value: { slots: [first.slot] } },
    ];
    for (const message of said) world.stream.handler?.onMessage(encodeRelayMessage(message));
    world.stream.inFlight.pop();
    feed?.flush();
    const updates = world.stream.inFlight
      .map((bytes) => RelayServerMessage.decode(bytes).message)
      .flatMap((one) => (one?.$case === "update" ? [one.value] : []));
    expect(updates.map(({ held, dropped, commit }) => ({ held, dropped, commit }))).toEqual([{ held: [second.slot], dropped: [first.slot], commit: true }]);
  });

  it("of what a node failed to program 100 objects are kept, as of a node's own session", () => {
    const world = new World();
    world.connect();
    world.read(10);
    world.subscribe("n1" as NodeName);
    world.expectEqual();
    const [slot = 0] = world.slots.keys();
    const failed = Array.from({ length: 101 }, (_, i) => ({ key: `stack/s${i}`, reason: "no memory" }));
    const state = { slot, connected: true, session: 1n, address: "", version: "", level: false, receivedRevision: 0n, programmedRevision: 0n, failed };
    const rest = { dirtyKeys: 0, bytesSent: 0n, connectedMs: 0n, via: [], certificateEndsAtUnixMs: 0n };
    world.stream.handler?.onMessage(encodeRelayMessage({ $case: "ack", value: { levelRevision: 0n, nodes: [{ ...state, ...rest }] } }));
    const [feed] = world.feeds.feeds;
    const kept = feed?.relayedOf(world.root.nodes.idOf("n1" as NodeName))?.acknowledged.failed;
    expect(kept).toEqual(failed.slice(0, 100));
  });

  it("R11 a relay that reads nothing for 20,000 commits costs a mark for each record, and gets the newest value of each once", () => {
    const world = new World();
    world.connect();
    world.read(10);
    for (const name of NODES) world.subscribe(name);
    world.expectEqual();
    const [feed] = world.feeds.feeds;
    if (feed === undefined) throw new Error("there is a feed");
    const before = world.relay.revision;
    for (let i = 0; i < 20_000; i++) {
      const id = `s${i % 50}`;
      world.commit([
        {
          key: `stack/${id}`,
          value: { kind: "stack", id, tiers: [], noMatchAction: i % 2 === 0 ? "allow" : "deny", ...(i % 3 === 0 ? { logDenied: true as const } : {}) },
          isRemoved: false,
          entered: NODES,
          left: [],
        },
      ]);
      if (i % 7 === 0) feed.flush();
    }
    expect(feed.dirtyKeys).toBeLessThanOrEqual(50);
    expect(world.stream.bytesInFlight).toBeLessThanOrEqual(1024 * 1024 + 128 * 1024);
    expect(world.relay.revision).toBe(before);
    world.expectEqual();
  });
});
