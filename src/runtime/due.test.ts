import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { Due } from "./due.ts";

/** Whether it has resolved by the end of this turn. */
async function isResolved(promise: Promise<void>): Promise<boolean> {
  let resolved = false;
  void promise.then(() => {
    resolved = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  return resolved;
}

describe("Due", () => {
  it("does not wait for what was marked before", async () => {
    const due = new Due();
    due.mark();
    due.mark();
    expect(await isResolved(due.wait(new AbortController().signal))).toBe(true);
    expect(due.isDue).toBe(true);
  });

  it("waits until a mark, again after each clear", async () => {
    const due = new Due(true);
    for (let round = 0; round < 3; round += 1) {
      due.clear();
      const waiting = due.wait(new AbortController().signal);
      expect(await isResolved(waiting)).toBe(false);
      due.mark();
      expect(await isResolved(waiting)).toBe(true);
    }
  });

  it("ends with the signal, aborted before or during the wait", async () => {
    const due = new Due();
    const stop = new AbortController();
    const waiting = due.wait(stop.signal);
    expect(await isResolved(waiting)).toBe(false);
    stop.abort();
    expect(await isResolved(waiting)).toBe(true);
    expect(await isResolved(due.wait(stop.signal))).toBe(true);
    expect(due.isDue).toBe(false);
  });

  it("leaves no listener on a signal that lives long", async () => {
    const due = new Due();
    const { signal } = new AbortController();
    for (let round = 0; round < 20; round += 1) {
      due.clear();
      const waiting = due.wait(signal);
      due.mark();
      await waiting;
    }
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });
});
