import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ManualClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import type { CniAnswer } from "./cni-request.ts";
import { DeleteQueue } from "./delete-queue.ts";

interface World extends Disposable {
  readonly directory: string;
  readonly clock: ManualClock;
  readonly queue: DeleteQueue;
  readonly deleted: unknown[];
}

function world(del: (request: unknown) => Promise<CniAnswer> = () => Promise.resolve({ ok: true })): World {
  const directory = mkdtempSync(join(tmpdir(), "sedge-queue-"));
  const clock = new ManualClock();
  const deleted: unknown[] = [];
  const queue = new DeleteQueue({
    directory,
    clock,
    log: silentLogger(),
    del(request) {
      deleted.push(request);
      return del(request);
    },
  });
  return { directory, clock, queue, deleted, [Symbol.dispose]: () => rmSync(directory, { recursive: true }) };
}

const KEY = { network: "net", containerId: "a", ifname: "eth0" };

describe("DeleteQueue", () => {
  it("an ADD comes after the DEL of the same container that waits, and after one that a pass has read and not done", async () => {
    let answer: (value: CniAnswer) => void = () => undefined;
    const answered = new Promise<CniAnswer>((resolve) => (answer = resolve));
    using it = world(() => answered);
    writeFileSync(join(it.directory, "net.a.eth0.json"), '{"containerId":"a"}');
    const passing = it.queue.replay();
    await expect.poll(() => it.deleted).toHaveLength(1);
    let isSettled = false;
    const settling = it.queue.settle(KEY).finally(() => (isSettled = true));
    await new Promise((resolve) => setImmediate(resolve));
    expect(isSettled).toBe(false);
    answer({ ok: true });
    expect(await settling).toBe(undefined);
    expect(await passing).toBe(1);
    expect(it.deleted).toHaveLength(1);
    writeFileSync(join(it.directory, "net.a.eth0.json"), '{"containerId":"a"}');
    expect(await it.queue.settle(KEY)).toEqual({ ok: true });
    expect(it.deleted).toHaveLength(2);
    expect(readdirSync(it.directory)).toEqual([]);
  });

  it("a DEL that fails is told to the ADD, and stays", async () => {
    const refusal: CniAnswer = { ok: false, error: { code: 5, msg: "no", details: "the disk" } };
    using it = world(() => Promise.resolve(refusal));
    writeFileSync(join(it.directory, "net.a.eth0.json"), "{}");
    expect(await it.queue.settle(KEY)).toEqual(refusal);
    expect(readdirSync(it.directory)).toEqual(["net.a.eth0.json"]);
  });

  it("what a killed executable began to write is removed when it is a minute old by the agent's own clock; one that is new is not", async () => {
    using it = world();
    writeFileSync(join(it.directory, "net.a.eth0.json.7.tmp"), '{"conta');
    await it.queue.replay();
    await it.clock.advance(59_000);
    writeFileSync(join(it.directory, "net.b.eth0.json.8.tmp"), "");
    await it.queue.replay();
    expect(readdirSync(it.directory)).toHaveLength(2);
    await it.clock.advance(1_000);
    await it.queue.replay();
    expect(readdirSync(it.directory)).toEqual(["net.b.eth0.json.8.tmp"]);
    expect(it.deleted).toEqual([]);
  });

  it("a file that cannot be removed is carried out once, and again only when it is another", async () => {
    using it = world();
    const path = join(it.directory, "net.a.eth0.json");
    writeFileSync(path, '{"n":1}');
    // A directory in its place is what cannot be removed while the DEL is done.
    const stuck = new DeleteQueue({
      directory: it.directory,
      clock: it.clock,
      log: silentLogger(),
      del(request) {
        it.deleted.push(request);
        renameSync(path, join(it.directory, "kept"));
        mkdirSync(path);
        return Promise.resolve({ ok: true });
      },
    });
    expect(await stuck.replay()).toBe(1);
    rmSync(path, { recursive: true });
    renameSync(join(it.directory, "kept"), path);
    expect(await stuck.replay()).toBe(0);
    expect(it.deleted).toEqual([{ n: 1 }]);
    expect(readdirSync(it.directory)).toEqual([]);
    writeFileSync(path, '{"n":1}');
    expect(await stuck.replay()).toBe(1);
    expect(it.deleted).toHaveLength(2);
  });
});
