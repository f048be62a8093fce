/**
 * A worker of `sedge fanout --workers` that hangs: alive and silent, as a process that is stopped (SIGSTOP) or loops without end is to the main process.
 * The processes are real, the main process's clock is the test's: none of its deadlines is waited for.
 */
import { readFileSync } from "node:fs";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { createLogger } from "../../src/runtime/log.ts";
import { type FanoutFixture, GrpcAgent, namespace, node, pod, pool, startFanout, startWorkers, upsert, type WorkersFixture } from "../fakes/fanout-fixture.ts";

const NODES = ["n0", "n1", "n2"];
const DRAIN_MS = 1_000;
const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 30_000, interval: 10 });
/** What has come is read, and what follows from it is done. */
const settled = async (): Promise<void> => {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
};

interface LogLine {
  readonly msg: string;
  readonly pid?: number;
  readonly signal?: string;
  readonly delayMs?: number;
}

/** One worker below the root. */
class OneWorker {
  readonly clock = new ManualClock();
  readonly lines: LogLine[] = [];
  readonly served: WorkersFixture;
  #reports = 0;

  constructor(root: FanoutFixture) {
    this.served = startWorkers({
      parent: root.address,
      settings: { drainMs: DRAIN_MS },
      clock: this.clock,
      log: createLogger({ level: "info", program: "test", destination: { write: (line) => this.lines.push(JSON.parse(line) as LogLine) } }),
      onReport: () => this.#reports++,
    });
    onTestFinished(() => {
      const pid = this.pids.get(1);
      const stopped = this.served.stop();
      if (pid !== undefined) process.kill(pid, "SIGKILL");
      return stopped;
    });
  }

  get pids(): ReadonlyMap<number, number | undefined> {
    return this.served.workers.pids;
  }

  get pid(): number {
    return this.pids.get(1) ?? expect.fail("no worker");
  }

  /** Of the ends that were seen. */
  get delays(): number[] {
    return this.lines.flatMap(({ delayMs }) => delayMs ?? []);
  }

  /** The worker says at the present time that it lives. */
  async heard(): Promise<void> {
    const before = this.#reports;
    await until(() => expect(this.#reports).toBeGreaterThan(before));
  }

  /** Stopped by the kernel, and what it had said before has been read. */
  async hang(): Promise<void> {
    const { pid } = this;
    process.kill(pid, "SIGSTOP");
    await until(() => expect(readFileSync(`/proc/${pid}/stat`, "utf8")).toContain(") T "));
    await settled();
  }

  /** Hangs, is found and killed; its back-off passes and the next one serves. */
  async hangUntilReplaced(): Promise<void> {
    const { pid } = this;
    const ends = this.delays.length;
    await this.hang();
    await this.clock.advance(31_000);
    await until(() => expect(this.delays).toHaveLength(ends + 1));
    await this.clock.advance(this.delays.at(-1) ?? 0);
    await this.clock.advance(1);
    await until(() => expect([undefined, pid]).not.toContain(this.pids.get(1)));
    await this.served.ready();
  }
}

describe("a worker that hangs", () => {
  it("is left alone for less than 30 s, then killed and replaced; its agents come back and are sent no record", async () => {
    const pods = NODES.flatMap((name) => Array.from({ length: 50 }, (_, i) => pod("shop", `${name}-${i}-${"x".repeat(150)}`, { node: name as NodeName })));
    await using root = await startFanout({ events: upsert(...NODES.map((name, i) => node(name, i + 1)), namespace("shop"), pool(), ...pods) });
    const one = new OneWorker(root);
    await one.served.ready();
    const agents = NODES.map((name) => new GrpcAgent({ address: one.served.address, node: name }));
    onTestFinished(() => agents.forEach((agent) => agent[Symbol.dispose]()));
    await until(() => expect(agents.map(({ isLive }) => isLive)).toEqual([true, true, true]));

    const hung = one.pid;
    await one.heard();
    await one.hang();
    await one.clock.advance(28_000);
    expect(readFileSync(`/proc/${hung}/stat`, "utf8")).toContain(") T ");
    expect(one.lines.filter(({ msg }) => msg.startsWith("a worker hangs"))).toEqual([]);
    await one.clock.advance(3_000);
    await until(() => expect(one.delays).toHaveLength(1));
    expect(one.lines.find(({ msg }) => msg.startsWith("a worker hangs"))).toMatchObject({ pid: hung, worker: 1 });
    expect(one.lines.find(({ delayMs }) => delayMs !== undefined)).toMatchObject({ signal: "SIGKILL" });
    await until(() => expect(agents.every(({ status }) => status !== undefined)).toBe(true));

    await one.clock.advance(200);
    await until(() => expect([undefined, hung]).not.toContain(one.pids.get(1)));
    await one.served.ready();
    const again = agents.map(({ node: name, view }) => new GrpcAgent({ address: one.served.address, node: name, view }));
    onTestFinished(() => again.forEach((agent) => agent[Symbol.dispose]()));
    await until(() => expect(again.map(({ isLive }) => isLive)).toEqual([true, true, true]));
    for (const [i, { outputs, bytesReceived }] of again.entries()) {
      expect(outputs.flatMap((output) => (output.kind === "commit" ? [output.delta.changes.size] : []))).toEqual([0]);
      // Digests, no bucket.
      expect(bytesReceived).toBeLessThan((agents[i]?.bytesReceived ?? 0) / 4);
    }
  }, 60_000);

  it("one that hangs again and again, from its start, is started later each time; one that has lived is started again soon", async () => {
    await using root = await startFanout({ events: upsert(node("n0", 1), pool()) });
    const one = new OneWorker(root);
    await one.served.ready();
    await one.hangUntilReplaced();
    await one.hangUntilReplaced();
    // 29 s, and then beyond 30 s, after its start it still speaks.
    for (const ms of [29_000, 2_000]) {
      await one.clock.advance(ms);
      await one.heard();
    }
    await one.hangUntilReplaced();
    expect(one.delays.map((ms) => (ms < 100 ? "none" : ms <= 200 ? "first" : ms <= 400 ? "second" : "later"))).toEqual(["first", "second", "first"]);
  }, 60_000);

  it("while the server stops: it is killed when drain and grace are over, and the end waits for no more than that", async () => {
    await using root = await startFanout({ events: upsert(node("n0", 1), pool()) });
    const one = new OneWorker(root);
    await one.served.ready();
    const { pid } = one;
    await one.hang();
    const stopped = one.served.stop();
    await settled();
    await one.clock.advance(DRAIN_MS + 4_000);
    expect(readFileSync(`/proc/${pid}/stat`, "utf8")).toContain(") T ");
    await one.clock.advance(1_000);
    await stopped;
    expect(() => readFileSync(`/proc/${pid}/stat`)).toThrow("ENOENT");
  }, 60_000);
});
