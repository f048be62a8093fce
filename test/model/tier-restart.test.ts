/**
 * Three replicas and some hundred agents on a clock of the test's own: the servers' sessions, lists, drain and rebalancing, the agents' own sync client and
 * server book, and connections in memory. Judged by what the agents count: how long they were without a server, and what a resume cost.
 */
import { describe, expect, it } from "vitest";
import { Acknowledgements } from "../../agent/sync/acknowledgements.ts";
import { DialError, type Dialed, type SyncStream } from "../../agent/sync/dial.ts";
import { Freshness } from "../../agent/sync/freshness.ts";
import { ReportQueue } from "../../agent/sync/report-queue.ts";
import { type Candidate, ServerBook } from "../../agent/sync/server-book.ts";
import { SyncClient } from "../../agent/sync/sync-client.ts";
import type { PeerStream, StreamHandler } from "../../fanout/delivery/delivery.ts";
import { Sessions } from "../../fanout/session/sessions.ts";
import { Table } from "../../fanout/table/table.ts";
import { Choices } from "../../fanout/tier/choices.ts";
import { Members } from "../../fanout/tier/members.ts";
import { Rebalancer } from "../../fanout/tier/rebalancer.ts";
import type { RecordChange } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { seedOf } from "../../src/wire/digest.ts";
import { View } from "../../src/wire/view.ts";
import { serverSlice } from "../fakes/fanout-fixture.ts";

const AGENTS = 300;
const RECORDS = 60;
const SERVICE = { namespace: "sedge-system", name: "sedge-fanout" };
const HANDSHAKE_MS = 5;
const DRAIN_MS = 10_000;
/** From a pod's condition to the servers' watches. */
const SLICE_MS = 1_000;
/** Of a whole view's bytes; a resume after a change of one record is a fiftieth. */
const FULL_VIEW_SHARE = 0.5;

function records(step: number): RecordChange[] {
  return Array.from({ length: step === 0 ? RECORDS : 1 }, (_, i) => ({
    key: `pool/p${(step + i) % RECORDS}` as const,
    value: {
      kind: "pool",
      name: `p${(step + i) % RECORDS}`,
      cidr: parseCidr(`10.${step % 250}.${i}.0/24`),
      natOutgoing: true,
      disabled: false,
      blockSize: 26,
    } as const,
    isRemoved: false,
    entered: [],
    left: [],
  }));
}

/** A process of the server. */
class Replica {
  readonly address: string;
  readonly pod: string;
  readonly sessions: Sessions;
  readonly members: Members;
  readonly #table = new Table({ seed: seedOf("u") });
  readonly #stop = new AbortController();
  readonly #links = new Set<Link>();
  isUp = true;
  isReady = true;

  constructor({ address, pod, world }: { readonly address: string; readonly pod: string; readonly world: World }) {
    this.address = address;
    this.pod = pod;
    const { clock } = world;
    this.members = new Members({ serverName: pod, service: SERVICE, peers: [] });
    const choices = new Choices(this.members);
    this.sessions = new Sessions({
      table: this.#table,
      serverName: pod,
      epoch: `${pod}-${clock.now()}`,
      clock,
      observer: { sent: () => undefined, delivered: () => undefined, received: () => undefined, programmed: () => undefined, ended: () => undefined },
      heartbeatIntervalMs: 10_000,
      helloTimeoutMs: 10_000,
      answerStallMs: 60_000,
      admission: { maxAnswers: 64, maxWaiting: 10_000, defer: (run) => run() },
      targetsOf: (node) => choices.targetsOf(node),
      serversFor: (node) => choices.listFor(node),
      upstream: () => ({ ageMs: 0, isStale: false }),
      report: () => undefined,
    });
    this.sessions.serve();
    for (let step = 0; step <= world.step; step++) this.commit(step);
    const rebalancer = new Rebalancer({ members: this.members, choices, sessions: this.sessions, clock, log: silentLogger(), movesPerSecond: 200 });
    void this.sessions.run(this.#stop.signal);
    void rebalancer.run(this.#stop.signal);
  }

  commit(step: number): void {
    const commit = this.#table.commit(records(step), BigInt(step + 1));
    if (commit !== undefined) this.sessions.publish(commit);
  }

  accept(link: Link): StreamHandler {
    this.#links.add(link);
    return this.sessions.accept(link.peer);
  }

  /** SIGTERM: readiness off, drain, exit. */
  async stop(): Promise<number> {
    this.isReady = false;
    const overdue = await this.sessions.drain(DRAIN_MS);
    this.kill();
    return overdue;
  }

  kill(): void {
    this.isUp = false;
    this.isReady = false;
    this.#stop.abort();
    for (const link of this.#links) link.cut();
    this.#links.clear();
  }
}

/** A connection in memory. What is sent arrives in a later turn, never within the call. */
class Link {
  readonly peer: PeerStream;
  readonly stream: SyncStream;
  readonly bytes = { received: 0 };
  readonly #handler: StreamHandler;
  readonly #inbox: Uint8Array[] = [];
  #isOver = false;
  #error: unknown;
  #wake: () => void = () => undefined;

  constructor(replica: Replica) {
    this.peer = {
      identity: { kind: "local" },
      address: "memory",
      bytesInFlight: 0,
      lane: undefined,
      send: (message) => {
        if (this.#isOver) return;
        this.#inbox.push(message);
        this.bytes.received += message.length;
        this.#wake();
      },
      beat: (message) => this.peer.send(message),
      end: (error) => this.#close(error),
    };
    this.#handler = replica.accept(this);
    const isOver = (): boolean => this.#isOver;
    this.stream = {
      get writable() {
        return !isOver();
      },
      write: (bytes) => queueMicrotask(() => (this.#isOver ? undefined : this.#handler.onMessage(bytes))),
      cancel: () => this.#close(new Error("cancelled")),
      on: () => undefined,
      [Symbol.asyncIterator]: () => this.#messages(),
    };
  }

  cut(): void {
    this.#close(new Error("connection reset"));
  }

  async *#messages(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const message = this.#inbox.shift();
      if (message !== undefined) yield message;
      else if (this.#isOver) {
        if (this.#error !== undefined) throw this.#error;
        return;
      } else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }

  #close(error: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#error = error;
    this.#handler.onClosed();
    this.#wake();
  }
}

class World {
  readonly clock = new ManualClock();
  readonly replicas = new Map<string, Replica>();
  readonly gapsMs: number[] = [];
  /** Bytes up to live, of each session after the first. */
  readonly resumes: number[] = [];
  readonly agents: { readonly node: string; readonly view: View; at: string; sessions: number }[] = [];
  /** Of a first start. */
  fullViewBytes = 0;
  step = 0;
  #version = 0;
  readonly #stop = new AbortController();
  /** Hosts from which nothing comes back. */
  readonly silent = new Set<string>();
  #seed = 1;

  start(address: string, pod: string): Replica {
    const replica = new Replica({ address, pod, world: this });
    this.replicas.set(address, replica);
    this.tellSlices();
    return replica;
  }

  /** What the Service says, after a while, to all. */
  tellSlices(): void {
    const version = ++this.#version;
    void this.clock.sleep(SLICE_MS, this.#stop.signal).then(() => {
      if (version !== this.#version || this.#stop.signal.aborted) return;
      const endpoints = [...this.replicas.values()].map(({ address, pod, isReady }) => ({ address, pod, isReady }));
      for (const { members } of this.replicas.values()) members.apply({ kind: "upsert", resource: serverSlice("s", endpoints, String(version)) });
    });
  }

  change(): void {
    this.step++;
    for (const replica of this.replicas.values()) if (replica.isUp) replica.commit(this.step);
  }

  addAgent(node: string, given: readonly string[]): void {
    const { clock } = this;
    const view = new View();
    const agent = { node, view, at: "", sessions: 0 };
    this.agents.push(agent);
    const acknowledgements = new Acknowledgements({ coalesceMs: 1, clock });
    let link: Link | undefined;
    const dial = async ({ address }: Candidate, signal: AbortSignal): Promise<Dialed> => {
      await clock.sleep(this.silent.has(address) ? 10_000 : HANDSHAKE_MS, signal);
      const replica = this.replicas.get(address);
      const failure = { code: "UNAVAILABLE", detail: "no server there", retryAfterMs: 0, isLasting: false };
      if (signal.aborted || replica?.isUp !== true || this.silent.has(address)) throw new DialError(failure, { isRefused: !this.silent.has(address) });
      return {
        address,
        open: () => {
          link = new Link(replica);
          agent.at = address;
          return link.stream;
        },
        calls: undefined,
        close: () => undefined,
      };
    };
    const sync = new SyncClient({
      node,
      version: "model",
      book: new ServerBook({ node, given, order: "spread", random: () => this.random() }),
      dial,
      view,
      acknowledgements,
      reports: new ReportQueue({ clock, log: silentLogger() }),
      freshness: new Freshness({ clock, staleAfterMs: 60_000 }),
      clock,
      log: silentLogger(),
      random: () => this.random(),
      onCommit: (delta) => {
        acknowledgements.programmed(delta.revision, []);
        return Promise.resolve();
      },
      onConfirmed: () => undefined,
      onRepair: () => undefined,
      onSessionEnd: () => undefined,
      onLive: () => {
        const received = link?.bytes.received ?? 0;
        if (agent.sessions++ === 0) this.fullViewBytes = Math.max(this.fullViewBytes, received);
        else this.resumes.push(received);
      },
      onReconnected: (seconds) => this.gapsMs.push(seconds * 1_000),
    });
    void sync.run(this.#stop.signal);
  }

  /** Reproducible: a failure must come again. */
  random(): number {
    this.#seed = (this.#seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return this.#seed / 2 ** 31;
  }

  /** How many agents are at each server that is up. */
  shares(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.replicas.values()].filter(({ isUp }) => isUp).map(({ address, sessions }) => [address, sessions.clients.size]));
  }

  expectLevel(): void {
    const [first] = [...this.replicas.values()].filter(({ isUp }) => isUp);
    const digests = new Set([...(first?.sessions.clients ?? [])].map((session) => session.isLevel));
    expect([...digests]).toEqual([true]);
    expect(Object.values(this.shares()).reduce((sum, count) => sum + count, 0)).toBe(AGENTS);
  }

  expectGentle(): void {
    expect(Math.max(0, ...this.gapsMs)).toBeLessThan(2_000);
    const whole = this.resumes.filter((bytes) => bytes > FULL_VIEW_SHARE * this.fullViewBytes).length;
    expect(whole / Math.max(1, this.resumes.length)).toBeLessThan(0.01);
  }

  end(): void {
    this.#stop.abort();
    for (const replica of this.replicas.values()) replica.kill();
  }
}

async function startWorld(): Promise<World> {
  const world = new World();
  const addresses = [1, 2, 3].map((i) => `10.0.0.${i}:5473`);
  for (const [i, address] of addresses.entries()) world.start(address, `pod-${i}`);
  for (let i = 0; i < AGENTS; i++) world.addAgent(`node-${i}`, addresses.slice(0, 1));
  await world.clock.advance(60_000);
  return world;
}

describe("three replicas and their agents", () => {
  it("S21 agents that were given one address spread over all, each to its first choice, and stay there", async () => {
    const world = await startWorld();
    for (const share of Object.values(world.shares())) expect(Math.abs(share - AGENTS / 3)).toBeLessThan(AGENTS / 8);
    world.expectLevel();
    world.expectGentle();
    const sessions = world.agents.map((agent) => agent.sessions);
    expect(Math.max(...sessions)).toBe(2);
    await world.clock.advance(200_000);
    expect(world.agents.map((agent) => agent.sessions)).toEqual(sessions);
    world.end();
  });

  it.each(["at the same address", "at another address, before the old one goes"])(
    "S22 a rolling restart, the new process %s: nobody is long without a server, nobody is sent everything again, and all end level and spread",
    async (how) => {
      const world = await startWorld();
      const before = [...world.replicas.values()];
      for (const [i, old] of before.entries()) {
        const isSurge = how !== "at the same address";
        if (isSurge) {
          world.start(`10.0.1.${i}:5473`, `new-${i}`);
          await world.clock.advance(3_000);
        }
        world.change();
        old.isReady = false;
        world.tellSlices();
        const stopped = old.stop();
        await world.clock.advance(DRAIN_MS + 100);
        expect(await stopped).toBe(0);
        world.replicas.delete(old.address);
        world.tellSlices();
        world.change();
        if (!isSurge) {
          await world.clock.advance(2_000);
          world.start(old.address, `again-${i}`);
        }
        await world.clock.advance(10_000);
        world.expectLevel();
      }
      await world.clock.advance(120_000);
      world.expectGentle();
      world.expectLevel();
      for (const share of Object.values(world.shares())) expect(Math.abs(share - AGENTS / 3)).toBeLessThan(AGENTS / 8);
      expect(world.resumes.length).toBeGreaterThan(AGENTS);
      world.end();
    },
  );

  it("S23 a replica that is killed, and a host that falls silent: the others have its agents within 2 s, and give them back when it is there again", async () => {
    const world = await startWorld();
    const [first] = world.replicas.values();
    if (first === undefined) throw new Error("three were started");
    const had = first.sessions.clients.size;
    // Nothing says that it is gone before the kubelet notices; its host does not even answer.
    world.silent.add(first.address);
    first.kill();
    await world.clock.advance(2_000);
    world.expectLevel();
    world.expectGentle();
    expect(world.gapsMs.length).toBeGreaterThanOrEqual(had);
    world.replicas.delete(first.address);
    world.tellSlices();
    await world.clock.advance(20_000);
    world.silent.clear();
    world.start(first.address, "again");
    await world.clock.advance(90_000);
    expect(world.shares()[first.address]).toBe(had);
    world.expectLevel();
    world.expectGentle();
    world.end();
  });

  it("S23 all replicas are away for a while: agents are back within 2 s of the first that returns", async () => {
    const world = await startWorld();
    for (const replica of world.replicas.values()) replica.kill();
    await world.clock.advance(20_000);
    world.start("10.0.0.2:5473", "again");
    await world.clock.advance(2_000);
    expect(world.shares()).toEqual({ "10.0.0.2:5473": AGENTS });
    world.end();
  });
});
