import { EventEmitter } from "node:events";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { HandshakePace } from "./handshakes.ts";

class FakeSocket extends EventEmitter {
  readonly name: string;
  isDestroyed = false;

  constructor(name: string) {
    super();
    this.name = name;
  }

  destroy(): void {
    if (this.isDestroyed) return;
    this.isDestroyed = true;
    this.emit("close");
  }
}

function world(atOnce: number) {
  const state = { now: 0, begun: [] as string[], timeouts: 0 };
  const pace = new HandshakePace<FakeSocket>(
    { atOnce, placeMs: 100, timeoutMs: 1_000, now: () => state.now },
    { begin: (socket) => state.begun.push(socket.name), nameOf: ({ name }) => name, onTimeout: () => state.timeouts++ },
  );
  const open = (name: string): FakeSocket => {
    const socket = new FakeSocket(name);
    pace.add(socket);
    return socket;
  };
  return { state, pace, open };
}

describe("handshake pace", () => {
  it("no more at once than there are places; the next begins when one ends, in the order of the first bytes", () => {
    const { state, pace, open } = world(2);
    const sockets = ["a", "b", "c", "d"].map(open);
    for (const socket of sockets.toReversed()) socket.emit("readable");
    expect(state.begun).toEqual(["d", "c"]);
    pace.finished("c");
    expect(state.begun).toEqual(["d", "c", "b"]);
    sockets.at(-1)?.destroy();
    expect(state.begun).toEqual(["d", "c", "b", "a"]);
    expect([pace.begun, pace.waiting]).toEqual([2, 0]);
  });

  it("a silent peer takes no place, and is ended in time", () => {
    const { state, pace, open } = world(1);
    const silent = open("silent");
    open("well").emit("readable");
    expect(state.begun).toEqual(["well"]);
    state.now = 999;
    pace.sweep();
    expect(silent.isDestroyed).toBe(false);
    state.now = 1_000;
    pace.sweep();
    expect([silent.isDestroyed, state.timeouts]).toEqual([true, 1]);
  });

  it("a handshake that goes no further gives its place on; its end then frees nobody else's", () => {
    const { state, pace, open } = world(1);
    const [stuck, second, third] = ["stuck", "second", "third"].map(open);
    for (const socket of [stuck, second, third]) socket?.emit("readable");
    state.now = 100;
    pace.sweep();
    expect(state.begun).toEqual(["stuck", "second"]);
    stuck?.destroy();
    expect(state.begun).toEqual(["stuck", "second"]);
    second?.destroy();
    expect(state.begun).toEqual(["stuck", "second", "third"]);
  });

  it("who waits for its turn too long is ended: its client has given up", () => {
    const { state, pace, open } = world(0);
    const never = open("never");
    never.emit("readable");
    state.now = 999;
    pace.sweep();
    expect([never.isDestroyed, pace.waiting]).toEqual([false, 1]);
    state.now = 1_000;
    pace.sweep();
    expect([never.isDestroyed, state.timeouts, pace.waiting]).toEqual([true, 1, 0]);
  });

  it("any order of events: never more places than allowed, and everybody begins or is ended", () => {
    const step = fc.record({ kind: fc.constantFrom("open", "bytes", "finish", "close", "wait"), which: fc.nat(19) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.integer({ min: 1, max: 4 }), (steps, atOnce) => {
        const { state, pace, open } = world(atOnce);
        const sockets = new Map<number, FakeSocket>();
        for (const { kind, which } of steps) {
          const socket = sockets.get(which);
          if (kind === "open" && socket === undefined) sockets.set(which, open(`${which}`));
          if (kind === "bytes" && socket?.isDestroyed === false) socket.emit("readable");
          if (kind === "finish") pace.finished(`${which}`);
          if (kind === "close") socket?.destroy();
          if (kind === "wait") {
            state.now += 60;
            pace.sweep();
          }
          expect(pace.begun).toBeLessThanOrEqual(atOnce);
        }
        for (let i = 0; i < 40; i++) {
          state.now += 1_000;
          pace.sweep();
        }
        for (const socket of sockets.values()) expect(socket.isDestroyed || state.begun.includes(socket.name)).toBe(true);
        expect(pace.waiting).toBe(0);
        expect(new Set(state.begun).size).toBe(state.begun.length);
      }),
    );
  });
});
