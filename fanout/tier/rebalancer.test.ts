/** When agents are asked to move to their first choice, and when they are left alone. */
import { describe, expect, it } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { serverSlice } from "../../test/fakes/fanout-fixture.ts";
import type { Session } from "../session/session.ts";
import { Choices } from "./choices.ts";
import { Members } from "./members.ts";
import { Rebalancer } from "./rebalancer.ts";

const SELF = { pod: "pod-a", address: "10.0.0.1:5473" };
const OTHERS = ["2", "3"].map((n) => ({ pod: `pod-${n}`, address: `10.0.0.${n}:5473` }));
const NODES = Array.from({ length: 60 }, (_, i) => `n${i}` as NodeName);

interface Client {
  readonly node: { readonly name: NodeName };
  readonly state: string;
  readonly connectedAt: number;
  movedAt: number | undefined;
}

async function start() {
  const clock = new ManualClock();
  const members = new Members({ serverName: "pod-a", service: { namespace: "sedge-system", name: "sedge-fanout" }, peers: [] });
  const tell = (servers: Parameters<typeof serverSlice>[1]): void => members.apply({ kind: "upsert", resource: serverSlice("s", servers) });
  tell([SELF]);
  const clients = new Set<Client>(NODES.map((name) => ({ node: { name }, state: "live", connectedAt: 0, movedAt: undefined })));
  const moves: { readonly node: NodeName; readonly to: string }[] = [];
  const choices = new Choices(members);
  const rebalancer = new Rebalancer({
    members,
    choices,
    clock,
    log: silentLogger(),
    movesPerSecond: 1_000,
    sessions: {
      clients: clients as unknown as Set<Session>,
      tellServers: () => undefined,
      move: (plan) => {
        for (const { session, targets } of plan) {
          const client = session as unknown as Client;
          client.movedAt = clock.now();
          moves.push({ node: client.node.name, to: targets[0] ?? "" });
        }
        return 0;
      },
    },
  });
  const stop = new AbortController();
  const running = rebalancer.run(stop.signal);
  await clock.advance(60_000);
  return {
    clients,
    clock,
    moves,
    rebalancer,
    tell,
    wantedAt: (address: string) => NODES.filter((name) => choices.ranked(name)[0]?.identity === address),
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
    },
  };
}

describe("Rebalancer", () => {
  it("a new server: nobody before it has been ready for 10 s, then those whose first choice it is, once; each server's time is its own", async () => {
    await using world = await start();
    const [second = SELF, third = SELF] = OTHERS;
    world.tell([SELF, second]);
    await world.clock.advance(7_000);
    // The third's coming must not send anybody to it when the second's time is over.
    world.tell([SELF, second, third]);
    await world.clock.advance(2_500);
    expect(world.moves).toEqual([]);
    await world.clock.advance(1_000);
    expect(world.moves.map(({ node }) => node)).toEqual(world.wantedAt(second.address));
    expect(new Set(world.moves.map(({ to }) => to))).toEqual(new Set([second.address]));
    world.moves.length = 0;
    await world.clock.advance(7_500);
    expect(world.moves.map(({ node }) => node)).toEqual(world.wantedAt(third.address));
  });

  it("one that was asked and stays is asked again after five minutes, not before; an operator may ask at once", async () => {
    await using world = await start();
    const [second = SELF] = OTHERS;
    world.tell([SELF, second]);
    await world.clock.advance(11_000);
    const wanted = world.wantedAt(second.address);
    expect(world.moves).toHaveLength(wanted.length);
    await world.clock.advance(285_000);
    expect(world.moves).toHaveLength(wanted.length);
    expect(world.rebalancer.rebalance({ movesPerSecond: undefined, isDryRun: true })).toMatchObject({
      moving: wanted.length,
      staying: NODES.length - wanted.length,
    });
    expect(world.moves).toHaveLength(wanted.length);
    await world.clock.advance(80_000);
    expect(world.moves).toHaveLength(2 * wanted.length);
    world.rebalancer.rebalance({ movesPerSecond: undefined, isDryRun: false });
    expect(world.moves).toHaveLength(3 * wanted.length);
  });
});
