import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { type Clock, ManualClock } from "../../src/runtime/clock.ts";
import { seedOf } from "../../src/wire/digest.ts";
import { MemoryStream } from "../../test/fakes/memory-stream.ts";
import { Table } from "../table/table.ts";
import { Sessions } from "./sessions.ts";

/** So many waits after the stop are a spin; the clock then ends it, which nothing else could. */
const SPIN = 50;

describe("sessions that are stopped", () => {
  it("wait for nothing any more, though streams are younger than the time that Hello may take", async () => {
    const manual = new ManualClock();
    let waitsAfterStop = 0;
    const clock: Clock = {
      now: () => manual.now(),
      wallTime: () => manual.wallTime(),
      sleep: (ms, signal) => {
        if (signal?.aborted !== true) return manual.sleep(ms, signal);
        return ++waitsAfterStop < SPIN ? Promise.resolve() : new Promise(() => undefined);
      },
    };
    const sessions = new Sessions({
      table: new Table({ seed: seedOf("u") }),
      serverName: "s",
      epoch: "e",
      clock,
      observer: { sent: () => undefined, delivered: () => undefined, received: () => undefined, programmed: () => undefined, ended: () => undefined },
      heartbeatIntervalMs: 1_000,
      helloTimeoutMs: 10_000,
      answerStallMs: 6_000,
      admission: { maxAnswers: 1, maxWaiting: 1 },
      upstream: () => ({ ageMs: 0, isStale: false }),
      report: () => undefined,
    });
    const stop = new AbortController();
    const running = sessions.run(stop.signal);
    const stream = new MemoryStream();
    stream.handler = sessions.accept(stream);
    stop.abort();
    await running;
    await nextTurn();
    expect(waitsAfterStop).toBe(0);
  });
});
