/** Following is a shortcut: what it does to a session's account, and what the agent gets, is what would be without it. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import type { RecordChange } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { encodeAck } from "../../src/wire/agent-protocol.ts";
import { seedOf } from "../../src/wire/digest.ts";
import { View } from "../../src/wire/view.ts";
import { MemoryAgent } from "../../test/fakes/memory-stream.ts";
import { Table } from "../table/table.ts";
import { Sessions } from "./sessions.ts";

const NODES = ["n0", "n1", "n2"];

/** A server, and an agent on each node that acknowledges when the test says so. */
class Side {
  readonly table = new Table({ seed: seedOf("u") });
  readonly sessions: Sessions;
  readonly agents: MemoryAgent[];
  readonly received: string[][] = NODES.map(() => []);
  delivered = 0;
  updates = 0;
  programmed = 0;

  constructor(laneRoom: number) {
    const clock = new ManualClock();
    this.sessions = new Sessions({
      table: this.table,
      serverName: "s",
      epoch: "e",
      clock,
      observer: {
        sent: (kind, _bytes, messages = 1) => {
          if (kind === "update") this.updates += messages;
        },
        delivered: (_, count) => {
          this.delivered += count;
        },
        received: () => undefined,
        programmed: () => {
          this.programmed++;
        },
        ended: () => undefined,
      },
      heartbeatIntervalMs: 1000,
      helloTimeoutMs: 500,
      answerStallMs: 2000,
      admission: { maxAnswers: 10, maxWaiting: 10, defer: (run) => run() },
      upstream: () => ({ ageMs: 0, isStale: false }),
      report: () => undefined,
    });
    this.sessions.serve();
    this.agents = NODES.map((node) => new MemoryAgent({ node, view: new View(), accept: (stream) => this.sessions.accept(stream), laneRoom }));
  }

  commit(change: RecordChange): void {
    const commit = this.table.commit([change], 1n);
    if (commit !== undefined) this.sessions.publish(commit);
  }

  /** Takes all that has come. Flushes before: a stream without a lane that has room again is sent what is dirty at once, one with a lane with the others. */
  read(at: number): void {
    this.sessions.flush();
    const agent = this.agents[at];
    for (let message = agent?.stream?.take(); message !== undefined; message = agent?.stream?.take()) {
      this.received[at]?.push(Buffer.from(message).toString("hex"));
      agent?.session?.receive(message);
    }
  }

  acknowledge(at: number): void {
    const agent = this.agents[at];
    if (agent?.session?.state !== "live") return;
    const { revision } = agent.view;
    agent.stream?.handler?.onMessage(encodeAck({ receivedRevision: revision, programmedRevision: revision, failed: [] }));
  }

  /** All that is known of each session. */
  get account(): unknown {
    return [...this.sessions.clients].map((session) => {
      const { node, state, acknowledged, isLevel, dirtyKeys, bytesSent, sentCommits } = session;
      const open = session.openKeys();
      const commits = { oldest: sentCommits.oldestOpenAtUnixUs, programmed: [1n, 5n, 20n].map((revision) => sentCommits.programmedAt(revision) !== undefined) };
      return { node: node?.name, state, acknowledged, isLevel, dirtyKeys, bytesSent, open: open === undefined ? "all" : [...open].sort(), commits };
    });
  }
}

const shared = (n: number, turn: number): RecordChange => ({
  key: `pool/p${n}`,
  value: { kind: "pool", name: `p${n}`, cidr: parseCidr(`10.${n}.${turn}.0/24`), natOutgoing: true, disabled: false, blockSize: 26 },
  isRemoved: false,
  entered: [],
  left: [],
});

const own = (n: number, node: number, turn: number): RecordChange => ({
  key: `stack/s${n}`,
  value: { kind: "stack", id: `s${n}`, tiers: [], noMatchAction: turn % 2 === 0 ? "allow" : "deny" },
  isRemoved: false,
  entered: [`n${node}` as NodeName],
  left: [],
});

const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("shared" as const), n: fc.nat(3), at: fc.nat(2) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("flush" as const), n: fc.constant(0), at: fc.constant(0) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("own" as const), n: fc.nat(2), at: fc.nat(2) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom("read" as const, "acknowledge" as const), n: fc.constant(0), at: fc.nat(2) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom("connect" as const, "disconnect" as const, "heartbeat" as const), n: fc.constant(0), at: fc.nat(2) }),
  },
);

describe("Followers", () => {
  it("an account with lanes is the account without, and so is what each agent gets", () => {
    let followed = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 5, maxLength: 80, size: "max" }), fc.boolean(), (steps, isLookedAt) => {
        const sides = [new Side(0), new Side(1_000)] as const;
        let turn = 0;
        for (const side of sides)
          for (const [at, agent] of side.agents.entries()) {
            agent.connect();
            side.read(at);
          }
        for (const { kind, n, at } of steps) {
          turn++;
          for (const side of sides) {
            if (kind === "shared") side.commit(shared(n, turn));
            else if (kind === "own") side.commit(own(n, at, turn));
            else if (kind === "flush") side.sessions.flush();
            else if (kind === "read") side.read(at);
            else if (kind === "acknowledge") side.acknowledge(at);
            else if (kind === "heartbeat") [...side.sessions.clients][at]?.heartbeat();
            else if (kind === "disconnect") side.agents[at]?.disconnect();
            else if (side.agents[at]?.isConnected === false) side.agents[at]?.connect();
          }
          if (isLookedAt) expect(sides[1].account).toEqual(sides[0].account);
        }
        for (const side of sides) {
          side.sessions.flush();
          for (const at of NODES.keys()) side.read(at);
        }
        expect(sides[1].account).toEqual(sides[0].account);
        expect(sides[1].received).toEqual(sides[0].received);
        expect([sides[1].delivered, sides[1].updates, sides[1].programmed]).toEqual([sides[0].delivered, sides[0].updates, sides[0].programmed]);
        followed += sides[1].sessions.following;
      }),
      { numRuns: 200 },
    );
    expect(followed).toBeGreaterThan(0);
  });

  it("of more messages than are kept, none is missing in the account", () => {
    const side = new Side(1_000);
    for (const [at, agent] of side.agents.entries()) {
      agent.connect();
      side.read(at);
      side.acknowledge(at);
    }
    for (let i = 0; i < 150; i++) {
      side.commit(shared(i % 4, i));
      side.sessions.flush();
    }
    expect(side.sessions.following).toBe(3);
    const [client] = side.sessions.clients;
    expect([...(client?.openKeys() ?? [])].sort()).toEqual(["pool/p0", "pool/p1", "pool/p2", "pool/p3"]);
    side.read(0);
    side.acknowledge(0);
    expect([client?.isLevel, client?.openKeys(), client?.acknowledged.sent]).toEqual([true, [], 150n]);
  });
});
