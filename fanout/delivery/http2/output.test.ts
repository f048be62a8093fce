import { Socket } from "node:net";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Output } from "./output.ts";

/** Takes bytes for the stream when the test says so; everything that reached "the system" is in `taken`, in order. */
class FakeSocket extends Socket {
  readonly taken: number[];
  #waiting: (() => void)[] = [];

  constructor(taken: number[]) {
    super({ highWaterMark: 64 } as never);
    this.taken = taken;
  }

  override _write(bytes: Uint8Array, _encoding: string, done: () => void): void {
    this.#waiting.push(() => {
      this.taken.push(...bytes);
      done();
    });
  }

  override _writev(chunks: { chunk: Uint8Array }[], done: () => void): void {
    this.#waiting.push(() => {
      for (const { chunk } of chunks) this.taken.push(...chunk);
      done();
    });
  }

  takeOne(): void {
    this.#waiting.shift()?.();
  }
}

function fixture({ isDirect }: { readonly isDirect: boolean }) {
  const taken: number[] = [];
  const socket = new FakeSocket(taken);
  const state = { accepts: Number.POSITIVE_INFINITY, flushes: 0, told: 0, direct: 0 };
  const output = new Output(socket, {
    direct: isDirect
      ? (_, bytes) => {
          const sent = Math.min(state.accepts, bytes.length);
          state.direct += sent;
          taken.push(...bytes.subarray(0, sent));
          return sent;
        }
      : undefined,
    flushSoon: () => void state.flushes++,
    onTaken: () => void state.told++,
  });
  return { taken, socket, state, output };
}

describe("Output", () => {
  it("all bytes leave in order, whatever goes straight, in part, or through the stream, and however slow that is", async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constantFrom("write", "writeNow"), size: fc.integer({ min: 1, max: 20_000 }) }),
      fc.record({ kind: fc.constant("accepts"), size: fc.integer({ min: 0, max: 50 }) }),
      fc.record({ kind: fc.constantFrom("flush", "take"), size: fc.constant(0) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.boolean(), fc.array(step, { maxLength: 25 }), async (isDirect, steps) => {
        const { taken, socket, state, output } = fixture({ isDirect });
        const given: number[] = [];
        for (const { kind, size } of steps) {
          if (kind === "accepts") state.accepts = size;
          else if (kind === "flush") output.flush();
          else if (kind === "take") {
            socket.takeOne();
            await new Promise((resolve) => process.nextTick(resolve));
          } else {
            const bytes = Uint8Array.from({ length: size }, (_, i) => (given.length + i) % 251);
            given.push(...bytes);
            if (kind === "write") output.write(bytes);
            else output.writeNow(bytes);
          }
          expect(taken.length + output.bytes).toBe(given.length);
        }
        output.flush();
        for (let i = 0; i < 100 && taken.length < given.length; i++) {
          socket.takeOne();
          await new Promise((resolve) => process.nextTick(resolve));
        }
        expect(Buffer.from(taken).equals(Buffer.from(given))).toBe(true);
        expect(output.bytes).toBe(0);
      }),
      { numRuns: 200 },
    );
  });

  it("straight again once the stream is empty; never while it holds bytes or is ended", async () => {
    const { socket, state, output } = fixture({ isDirect: true });
    const bytes = new Uint8Array(10);
    output.writeNow(bytes);
    expect(state).toMatchObject({ direct: 10, flushes: 0 });
    state.accepts = 4;
    output.writeNow(bytes);
    expect([state.direct, output.bytes]).toEqual([14, 6]);
    state.accepts = 100;
    output.writeNow(bytes);
    expect([state.direct, output.bytes]).toEqual([14, 16]);
    for (let i = 0; i < 3; i++) {
      socket.takeOne();
      await new Promise((resolve) => process.nextTick(resolve));
    }
    expect(output.bytes).toBe(0);
    output.writeNow(bytes);
    expect(state.direct).toBe(24);
    output.close();
    output.writeNow(bytes);
    output.write(bytes);
    expect([state.direct, output.flush()]).toEqual([24, false]);
  });
});
