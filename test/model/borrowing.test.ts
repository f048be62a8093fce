/**
 * Borrowed addresses, released blocks and everything that can break off in between: with every part real but the wire, no address is ever two pods', and when all
 * is at rest none is lost.
 * Above 500 lines, because the named situations and the random histories share one start and one set of steps, and are judged by the same invariants.
 */
import * as fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import type { AddressError } from "../../agent/addresses/address-error.ts";
import type { IpamConfiguration, IpPool } from "../../src/model/resource.ts";
import { cidrContains, parseCidr } from "../../src/net/cidr.ts";
import { type IpAddress, parseIp } from "../../src/net/ip.ts";
import { AddressesWorld, COOLDOWN_MS, IDLE_MS, SPARE_IDLE_MS, type WorldNode } from "./addresses-world.ts";

const pool = (name: string, cidr: string, blockSize: number, more: Partial<IpPool> = {}): IpPool => ({
  kind: "IPPool",
  name,
  resourceVersion: "1",
  cidr: parseCidr(cidr),
  blockSize,
  natOutgoing: false,
  disabled: false,
  nodeSelector: "all()",
  ...more,
});
const STRICT: IpamConfiguration = {
  kind: "IPAMConfiguration",
  name: "default",
  resourceVersion: "1",
  strictAffinity: true,
  maxBlocksPerHost: 20,
  autoAllocateBlocks: true,
  ipCooldownSeconds: undefined,
};
const first = (): number => 0;
let world: AddressesWorld | undefined;

afterEach(async () => {
  await Promise.all(world?.nodes.map((node) => node.stop()) ?? []);
  world = undefined;
});

async function start(pools: readonly IpPool[], options: { readonly nodes?: number; readonly configuration?: IpamConfiguration } = {}): Promise<AddressesWorld> {
  world = new AddressesWorld({ pools, nodes: options.nodes ?? 3, ...(options.configuration === undefined ? {} : { configuration: options.configuration }) });
  const [server] = world.servers;
  for (const node of world.nodes) {
    await node.start();
    if (server !== undefined) node.connect(server);
  }
  await world.settle(first);
  return world;
}

function node(of: AddressesWorld, index: number): WorldNode {
  const found = of.nodes[index];
  if (found === undefined) throw new Error(`there is no node ${index}`);
  return found;
}

/** What came of the pods of one round: addresses, and codes of those that got none. */
async function attachAll(
  of: AddressesWorld,
  pods: readonly (readonly [WorldNode, string])[],
): Promise<{ readonly addresses: IpAddress[]; readonly codes: string[] }> {
  const all = Promise.allSettled(pods.map(([at, name]) => at.attach(name)));
  await of.settle(first, all);
  const results = await all;
  return {
    addresses: results.flatMap((result) => (result.status === "fulfilled" ? result.value.addresses : [])),
    codes: results.flatMap((result) => (result.status === "rejected" ? (result.reason as AddressError).code : [])),
  };
}

function expectNoDuplicate(of: AddressesWorld): void {
  const addresses = of.connected().map(({ address }) => address);
  expect(new Set(addresses).size).toBe(addresses.length);
}

/** Loans of the API, as "address by borrower". */
const loans = (of: AddressesWorld): readonly string[] =>
  of.blocks.flatMap(({ allocations }) => allocations.flatMap(({ address, loan, node: borrower }) => (loan === undefined ? [] : `${address} by ${borrower}`)));

async function pass(of: AddressesWorld, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 500) {
    await of.clock.advance(500);
    await of.settle(first);
  }
}

describe("borrowing", () => {
  it.each([
    ["one block for all", "10.65.0.0/28", 28],
    ["fewer blocks than nodes", "10.65.0.0/28", 29],
    ["as many blocks as addresses", "10.65.0.0/28", 32],
    ["of IPv6", "fd00:65::/124", 124],
  ])("a pool of 16 addresses and 40 pods over 3 nodes, %s: 16 are connected, wherever they are", async (_what, cidr, blockSize) => {
    const w = await start([pool("p", cidr, blockSize)]);
    const pods = Array.from({ length: 40 }, (_, i) => [node(w, i % 3), `c${i}`] as const);
    for (let round = 0; round < 6 && w.connected().length < 16; round++) {
      await attachAll(
        w,
        pods.filter(([at, name]) => ![...at.kernel.values()].some(({ containerId }) => containerId === name)),
      );
      await pass(w, 31_000);
    }
    expect(w.connected()).toHaveLength(16);
    expect(new Set(w.connected().map(({ address }) => address)).size).toBe(16);
    const { codes } = await attachAll(w, [[node(w, 0), "more"]]);
    expect(codes).toEqual(["pool-full"]);
    await w.settle(first);
    // The API says the same, with the node that has each.
    const allocated = w.blocks.flatMap(({ allocations }) => allocations.flatMap(({ address, node: at, pod }) => (pod === undefined ? [] : `${at} ${address}`)));
    expect(allocated.sort()).toEqual(
      w
        .connected()
        .map(({ address, node: at }) => `${at} ${address}`)
        .sort(),
    );
  });

  it("many that wait share one call, and what nobody uses any more goes back to where it is of, after its cooldown", async () => {
    const w = await start([pool("p", "10.65.0.0/28", 28)], { nodes: 2 });
    await attachAll(w, [[node(w, 0), "a"]]);
    const before = w.api.calls.length;
    const { addresses } = await attachAll(
      w,
      Array.from({ length: 5 }, (_, i) => [node(w, 1), `b${i}`] as const),
    );
    expect(addresses).toHaveLength(5);
    expect(w.api.calls.slice(before).filter(({ verb, kind }) => verb === "update" && kind === "IPAMBlock").length).toBeLessThanOrEqual(7);
    expect(loans(w)).toHaveLength(5);
    for (let i = 0; i < 5; i++) await node(w, 1).detach(`b${i}`);
    await pass(w, IDLE_MS + 2_000);
    expect([loans(w), node(w, 1).journal?.state.blocks.size, node(w, 0).journal?.state.lent.size]).toEqual([[], 0, 0]);
    await pass(w, COOLDOWN_MS);
    const all = await attachAll(
      w,
      Array.from({ length: 15 }, (_, i) => [node(w, 0), `a${i}`] as const),
    );
    expect(all.addresses).toHaveLength(15);
  });

  it("not under strictAffinity", async () => {
    const w = await start([pool("p", "10.65.0.0/28", 28)], { nodes: 2, configuration: STRICT });
    await attachAll(w, [[node(w, 0), "a"]]);
    expect((await attachAll(w, [[node(w, 1), "b"]])).codes).toEqual(["pool-full"]);
    expect(loans(w)).toEqual([]);
  });

  it("a node that does not answer lends nothing, and is asked no more when the question is withdrawn", async () => {
    const w = await start([pool("p", "10.65.0.0/28", 28)], { nodes: 2 });
    await attachAll(w, [[node(w, 0), "a"]]);
    node(w, 0).disconnect();
    expect((await attachAll(w, [[node(w, 1), "b"]])).codes).toEqual(["unavailable"]);
    expect(loans(w)).toEqual([]);
    const [server] = w.servers;
    if (server !== undefined) node(w, 0).connect(server);
    expect((await attachAll(w, [[node(w, 1), "b"]])).addresses).toHaveLength(1);
  });

  it("an address that a pod asks for: in the own block, in another's, in one that nobody has", async () => {
    const w = await start([pool("p", "10.65.0.0/27", 29)], { nodes: 2 });
    await attachAll(w, [
      [node(w, 0), "a"],
      [node(w, 1), "b"],
    ]);
    const ask = async (at: WorldNode, name: string, address: IpAddress): Promise<readonly string[]> => {
      const wish = { pools: [], addresses: [address], ipVersions: [], mac: "", problem: "" };
      const attaching = at.attach(name, { wish });
      await w.settle(first, attaching);
      return attaching.then(
        ({ addresses }) => addresses,
        (error: unknown) => [(error as AddressError).code],
      );
    };
    const owners = new Map(w.blocks.map(({ cidr, node: owner }) => [cidr, owner]));
    const free = (owner: string | undefined): IpAddress => {
      const used = new Set(w.blocks.flatMap(({ allocations }) => allocations.map(({ address }) => address)));
      for (let i = 31; i >= 0; i--) {
        const address = parseIp(`10.65.0.${i}`);
        const holder = [...owners].find(([cidr]) => cidrContains(cidr, address));
        if (holder?.[1] === owner && !used.has(address)) return address;
      }
      throw new Error("no such address");
    };
    const [own, others, nobodys] = [free(node(w, 0).name), free(node(w, 1).name), free(undefined)];
    expect(await ask(node(w, 0), "own", own)).toEqual([own]);
    expect(await ask(node(w, 0), "others", others)).toEqual([others]);
    expect(loans(w)).toEqual([`${others} by ${node(w, 0).name}`]);
    expect(await ask(node(w, 0), "nobodys", nobodys)).toEqual([nobodys]);
    expect(await ask(node(w, 1), "taken", own)).toEqual(["bad-request"]);
    expect(await ask(node(w, 1), "outside", parseIp("10.66.0.1"))).toEqual(["bad-request"]);
  });
});

describe("blocks that are given back", () => {
  it("what a pod had and gave back with its block is the next node's, and no more the pod's", async () => {
    const w = await start([pool("p", "10.65.0.0/30", 30)], { nodes: 2 });
    const [one, two] = [node(w, 0), node(w, 1)];
    await attachAll(w, [[one, "a"]]);
    await one.crash({ reboot: true });
    await w.settle(first);
    // While the block is there still: the same address, in its cooldown.
    const [before] = w.blocks.flatMap(({ allocations }) => allocations);
    expect([before, one.journal?.state.remembered.size]).toEqual([undefined, 1]);
    const remembered = one.journal?.state.remembered.entries().map(([address]) => address);
    expect((await attachAll(w, [[one, "a"]])).addresses).toEqual(remembered);
    await one.detach("a");
    w.pools[0] = pool("p", "10.65.0.0/30", 30, { disabled: true });
    await until(w, () => w.blocks.length === 0 && one.journal?.state.releasing.size === 0);
    await w.settle(first);
    expect(one.journal?.state.remembered.size).toBe(0);
    w.pools[0] = pool("p", "10.65.0.0/30", 30);
    const others = Array.from({ length: 4 }, (_, i) => [two, `b${i}`] as const);
    expect(await attachAll(w, others)).toEqual({ addresses: expect.arrayContaining([...(remembered ?? [])]) as unknown, codes: [] });
    expect((await attachAll(w, [[one, "a"]])).codes).toEqual(["pool-full"]);
    expectNoDuplicate(w);
  });

  it("beyond what is needed, after a while; the last one stays", async () => {
    const w = await start([pool("p", "10.65.0.0/26", 28)], { nodes: 1 });
    await attachAll(
      w,
      Array.from({ length: 40 }, (_, i) => [node(w, 0), `a${i}`] as const),
    );
    await w.settle(first);
    expect(w.blocks.length).toBe(4);
    for (let i = 0; i < 40; i++) await node(w, 0).detach(`a${i}`);
    await pass(w, SPARE_IDLE_MS + 3_000);
    expect([w.blocks.length, w.affinities.map(({ state }) => state)]).toEqual([1, ["confirmed"]]);
    expect((await attachAll(w, [[node(w, 0), "again"]])).addresses).toHaveLength(1);
  });

  it("of a pool that is closed: all, soon; running pods keep theirs", async () => {
    const w = await start([pool("p", "10.65.0.0/26", 28)], { nodes: 2 });
    await attachAll(w, [
      [node(w, 0), "a"],
      [node(w, 1), "b"],
    ]);
    w.pools[0] = pool("p", "10.65.0.0/26", 28, { disabled: true });
    for (const server of w.servers) for (const resource of w.pools) server.life.apply({ kind: "upsert", resource });
    await node(w, 0).detach("a");
    await pass(w, IDLE_MS + 3_000);
    expect(w.blocks.map((block) => block.node)).toEqual([node(w, 1).name]);
    expect(w.connected()).toHaveLength(1);
  });
});

describe("pools that change under running pods", () => {
  const [OLD, NEW] = [pool("old", "10.65.0.0/26", 28), pool("new", "10.66.0.0/26", 28)];
  const isNew = ({ address }: { readonly address: string }): boolean => address.startsWith("10.66.");
  function change(w: AddressesWorld, pools: readonly IpPool[]): void {
    const gone = w.pools.filter(({ name }) => !pools.some((other) => other.name === name));
    w.pools.splice(0, w.pools.length, ...pools);
    for (const { life } of w.servers) {
      for (const resource of pools) life.apply({ kind: "upsert", resource });
      for (const { name } of gone) life.apply({ kind: "delete", key: { kind: "IPPool", namespace: "", name } });
    }
  }

  it("two pools swapped live, and back: running pods keep their addresses, new ones have the other pool's, blocks follow", async () => {
    const w = await start([OLD, { ...NEW, disabled: true }], { nodes: 2 });
    const names = (round: string): (readonly [WorldNode, string])[] => [0, 1].map((i) => [node(w, i), `${round}${i}`] as const);
    await attachAll(w, names("a"));
    change(w, [{ ...OLD, disabled: true }, NEW]);
    const before = w.connected();
    expect((await attachAll(w, names("b"))).codes).toEqual([]);
    expect(w.connected().filter((one) => !isNew(one))).toEqual(before);
    expect(w.connected().filter(isNew)).toHaveLength(2);
    for (const [at, name] of names("a")) await at.detach(name);
    await pass(w, IDLE_MS + 3_000);
    expect(w.blocks.filter(({ cidr }) => cidr.startsWith("10.65."))).toEqual([]);
    change(w, [OLD, { ...NEW, disabled: true }]);
    expect((await attachAll(w, names("c"))).codes).toEqual([]);
    for (const [at, name] of names("b")) await at.detach(name);
    await pass(w, IDLE_MS + 3_000);
    expect([w.connected().some(isNew), w.blocks.some(({ cidr }) => cidr.startsWith("10.66."))]).toEqual([false, false]);
  });

  it("a pool deleted under running pods, with the agents restarted: they keep their addresses, and its blocks go with the last of them", async () => {
    const w = await start([OLD, NEW], { nodes: 1 });
    await attachAll(w, [[node(w, 0), "a"]]);
    const before = w.connected();
    const isOld = !before.some(isNew);
    change(w, isOld ? [NEW] : [OLD]);
    await node(w, 0).crash({});
    await w.settle(first);
    expect(w.connected()).toEqual(before);
    const { addresses } = await attachAll(w, [[node(w, 0), "b"]]);
    expect(addresses.every((address) => isNew({ address }) === isOld)).toBe(true);
    await node(w, 0).detach("a");
    await pass(w, IDLE_MS + 3_000);
    expect(w.blocks.some(({ cidr }) => cidr.startsWith("10.66.") !== isOld)).toBe(false);
  });
});

/** What waits at the servers is put away; calling the result lets it go on. */
function hold(w: AddressesWorld): () => void {
  const held = w.gates.splice(0);
  return () => w.gates.push(...held);
}

/** Moves time in small steps until the condition holds. */
async function until(w: AddressesWorld, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 20_000 && !holds(); i++) {
    if (!(await w.step(first))) await w.clock.advance(50);
  }
  expect(holds()).toBe(true);
}

describe("what an earlier life of a node has under way", () => {
  it("a block's release, while the next life takes the block over and gives its addresses: it does nothing", async () => {
    const w = await start([pool("p", "10.65.0.0/29", 29)], { nodes: 2 });
    const [one, two] = [node(w, 0), node(w, 1)];
    await attachAll(w, [[one, "a"]]);
    await one.detach("a");
    w.pools[0] = pool("p", "10.65.0.0/29", 29, { disabled: true });
    await until(w, () => (one.journal?.state.releasing.size ?? 0) > 0 && w.gates.length > 0);
    const release = hold(w);
    w.pools[0] = pool("p", "10.65.0.0/29", 29);
    await one.crash({ losesDisk: true });
    const [, other] = w.servers;
    if (other !== undefined) one.connect(other);
    await until(w, () => one.manager?.isTrusted() === true);
    release();
    await w.settle(first);
    expect((await attachAll(w, [[one, "b"]])).addresses).toHaveLength(1);
    expect(w.blocks.map((block) => [block.node, block.isDeleted])).toEqual([[one.name, false]]);
    await attachAll(
      w,
      Array.from({ length: 7 }, (_, i) => [two, `c${i}`] as const),
    );
    expectNoDuplicate(w);
    expect(w.connected()).toHaveLength(8);
  });

  it("a borrowed address given back, while the next life takes it over and gives it to a pod: it stays on loan", async () => {
    const w = await start([pool("p", "10.65.0.0/30", 30)], { nodes: 2 });
    const [one, two] = [node(w, 0), node(w, 1)];
    await attachAll(w, [
      [one, "a"],
      [two, "b"],
    ]);
    const [borrower, owner] = w.blocks[0]?.node === one.name ? ([two, one] as const) : ([one, two] as const);
    await borrower.detach(borrower === one ? "a" : "b");
    await until(w, () => (borrower.journal?.state.releasing.size ?? 0) > 0 && w.gates.length > 0);
    const giveBack = hold(w);
    await borrower.crash({ losesDisk: true });
    const [, other] = w.servers;
    if (other !== undefined) borrower.connect(other);
    const { addresses } = await attachAll(w, [[borrower, "again"]]);
    expect(addresses).toHaveLength(1);
    giveBack();
    await w.settle(first);
    await pass(w, 3_000);
    expect(loans(w)).toContain(`${addresses[0]} by ${borrower.name}`);
    await attachAll(
      w,
      Array.from({ length: 3 }, (_, i) => [owner, `c${i}`] as const),
    );
    expectNoDuplicate(w);
  });

  it("a list that lags shows a block that was given back and is another node's: it is not used", async () => {
    const w = await start([pool("p", "10.65.0.0/30", 30)], { nodes: 2 });
    const [one, two] = [node(w, 0), node(w, 1)];
    await attachAll(w, [[one, "a"]]);
    const [, late] = w.servers;
    if (late === undefined) throw new Error("there are two servers");
    late.isHeld = true;
    await one.detach("a");
    w.pools[0] = pool("p", "10.65.0.0/30", 30, { disabled: true });
    await until(w, () => w.blocks.length === 0 && one.journal?.state.releasing.size === 0);
    one.disconnect();
    await w.settle(first);
    w.pools[0] = pool("p", "10.65.0.0/30", 30);
    expect((await attachAll(w, [[two, "b"]])).addresses).toHaveLength(1);
    one.connect(late);
    await pass(w, 400_000);
    expect(one.manager?.blocks()).toEqual([]);
    await attachAll(w, [...Array.from({ length: 3 }, (_, i) => [two, `c${i}`] as const), [one, "d"]]);
    expectNoDuplicate(w);
  });
});

/** One life of a block and of a loan, from claim to end; resolves when all is at rest. What breaks off is tried again, as a runtime does. */
async function lifeOfABlock(w: AddressesWorld): Promise<void> {
  const until = async (work: () => Promise<unknown>): Promise<void> => {
    for (let tries = 0; tries < 12; tries++) {
      const working = work();
      await w.settle(first, working);
      const isDone = await working.then(
        () => true,
        () => false,
      );
      expectNoDuplicate(w);
      if (isDone) return;
      await pass(w, 1_500);
    }
    throw new Error("it does not come to an end");
  };
  await until(() => node(w, 0).attach("a"));
  await until(() => node(w, 1).attach("b"));
  await until(() => node(w, 1).detach("b"));
  await pass(w, IDLE_MS + 2_500);
  await until(() => node(w, 0).detach("a"));
  w.pools[0] = pool("p", "10.65.0.0/30", 30, { disabled: true });
  for (const server of w.servers) for (const resource of w.pools) server.life.apply({ kind: "upsert", resource });
  // A server that died is waited for as long as a call may take.
  await pass(w, IDLE_MS + 40_000);
}

describe("a crash after each write", () => {
  const POOLS = [pool("p", "10.65.0.0/30", 30)];
  const END = [[], [], []];
  const endOf = (w: AddressesWorld): readonly unknown[] => [w.blocks, w.affinities, w.nodes.flatMap((one) => [...(one.journal?.state.blocks.keys() ?? [])])];

  it("of the servers, to the API: the block and the loan come to their end, and nothing is left", async () => {
    let writes = 0;
    const quiet = await start(POOLS, { nodes: 2 });
    quiet.wrote = () => writes++;
    await lifeOfABlock(quiet);
    expect(endOf(quiet)).toEqual(END);
    expect(writes).toBeGreaterThan(10);
    for (let at = 1; at <= writes; at++) {
      await Promise.all(quiet.nodes.map((one) => one.stop()));
      const w = await start(POOLS, { nodes: 2 });
      let count = 0;
      w.wrote = (life) => {
        if (++count !== at) return;
        const server = w.servers.find((one) => one.life === life);
        server?.stop();
        // Agents go to another server.
        const [other] = w.servers.filter((one) => one !== server);
        if (other !== undefined) for (const one of w.nodes) one.connect(other);
      };
      await lifeOfABlock(w);
      expect([at, ...endOf(w)]).toEqual([at, ...END]);
      await Promise.all(w.nodes.map((one) => one.stop()));
    }
  });

  it.each([0, 1])("of the agent of node %i, to its disk, with the write there, torn or lost, and with the disk lost", async (which) => {
    const quiet = await start(POOLS, { nodes: 2 });
    const before = node(quiet, which).files.writes;
    await lifeOfABlock(quiet);
    const writes = node(quiet, which).files.writes - before;
    expect(writes).toBeGreaterThan(4);
    await Promise.all(quiet.nodes.map((one) => one.stop()));
    for (let at = 1; at <= writes; at++) {
      for (const how of ["all", "part", "nothing"] as const) {
        for (const losesDisk of how === "nothing" ? [false, true] : [false]) {
          const w = await start(POOLS, { nodes: 2 });
          const one = node(w, which);
          one.failWrite(at, how);
          one.onFault = () => one.crash({ losesDisk });
          await lifeOfABlock(w);
          expect([at, how, losesDisk, ...endOf(w)]).toEqual([at, how, losesDisk, ...END]);
          await Promise.all(w.nodes.map((each) => each.stop()));
        }
      }
    }
  });
});

/** Fault points are picked at random, so that a crash comes after each write of each party in some run. */
describe("any history", () => {
  const who = fc.nat(2);
  const action = fc.oneof(
    { weight: 10, arbitrary: fc.record({ kind: fc.constant("attach" as const), node: who, pod: fc.nat(7) }) },
    { weight: 7, arbitrary: fc.record({ kind: fc.constant("detach" as const), node: who, pod: fc.nat(7) }) },
    { weight: 8, arbitrary: fc.record({ kind: fc.constant("steps" as const), count: fc.integer({ min: 1, max: 12 }) }) },
    { weight: 5, arbitrary: fc.record({ kind: fc.constant("advance" as const), ms: fc.constantFrom(100, 600, 2_500, 5_500, 11_000, 31_000, 330_000) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("move" as const), node: who, server: fc.integer({ min: -1, max: 1 }) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("crash-server" as const), server: fc.nat(1) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("collect" as const) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("vanish" as const), node: who }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("appear" as const), node: who, server: fc.nat(1) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("crash" as const), node: who, losesDisk: fc.boolean(), reboot: fc.boolean() }) },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant("fail-write" as const),
        node: who,
        at: fc.integer({ min: 1, max: 3 }),
        how: fc.constantFrom("nothing" as const, "part" as const, "all" as const),
        losesDisk: fc.boolean(),
      }),
    },
  );

  it("no address is two pods', and at the end every address of the pool can be given", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(action, { minLength: 5, maxLength: 60 }),
        fc.infiniteStream(fc.nat(1_000)),
        fc.constantFrom(28, 30, 31),
        async (history, stream, blockSize) => {
          const pick = (count: number): number => (stream.next().value as number) % count;
          const w = await start([pool("p", "10.65.0.0/29", Math.max(29, blockSize))]);
          const crashing = new Map<WorldNode, boolean>();
          for (const step of history) {
            const at = "node" in step ? node(w, step.node) : undefined;
            if (at?.isGone === true && step.kind !== "appear") continue;
            if (step.kind === "attach" && at !== undefined) {
              // A pod is on one node.
              at.attach(`${at.name}-${step.pod}`).then(
                () => expectNoDuplicate(w),
                () => undefined,
              );
            } else if (step.kind === "collect") w.collect().catch(() => undefined);
            else if (step.kind === "vanish" && at !== undefined) at.vanish();
            else if (step.kind === "appear" && at?.isGone === true) await at.appear(w.servers[step.server]);
            else if (step.kind === "detach" && at !== undefined) at.detach(`${at.name}-${step.pod}`).catch(() => undefined);
            else if (step.kind === "steps") for (let i = 0; i < step.count; i++) await w.step(pick);
            else if (step.kind === "advance") await w.clock.advance(step.ms);
            else if (step.kind === "move" && at !== undefined) {
              const server = w.servers[step.server];
              if (server === undefined) at.disconnect();
              else at.connect(server);
            } else if (step.kind === "crash-server") w.servers[step.server]?.stop();
            else if (step.kind === "crash" && at !== undefined) await at.crash(step);
            else if (step.kind === "fail-write" && at !== undefined) {
              at.failWrite(step.at, step.how);
              crashing.set(at, step.losesDisk);
            }
            await new Promise((resolve) => setImmediate(resolve));
            // A journal that refused ends the process, as a failed disk does here.
            for (const [failed, losesDisk] of crashing) {
              if (failed.isGone) crashing.delete(failed);
              if (failed.isGone || (failed.files.fault !== undefined && failed.files.writes < failed.files.fault.at)) continue;
              crashing.delete(failed);
              await failed.crash({ losesDisk });
            }
            expectNoDuplicate(w);
            for (const { journal } of w.nodes)
              for (const [address] of journal?.state.remembered.entries() ?? []) expect(journal?.state.released.has(address)).toBe(true);
          }
          // Everything comes back and rests.
          for (const [i, one] of w.nodes.entries()) {
            one.files.fault = undefined;
            const server = w.servers[i % 2];
            if (one.isGone) await one.appear(server);
            else await one.crash({});
            if (server !== undefined) one.connect(server);
          }
          await w.settle(pick);
          for (const one of w.nodes) for (const { containerId } of one.kernel.values()) await one.detach(containerId);
          for (let i = 0; i < 12; i++) await pass(w, 30_500);
          expectNoDuplicate(w);
          expect([loans(w), w.nodes.map((one) => one.journal?.state.lent.size)]).toEqual([[], [0, 0, 0]]);
          // All of them, on one node: its own blocks, and what it borrows of the others.
          for (let round = 0; round < 8 && w.connected().length < 8; round++) {
            await attachAll(
              w,
              Array.from({ length: 8 }, (_, i) => [node(w, 0), `end${i}`] as const),
            );
            await pass(w, 31_000);
          }
          expect(w.connected()).toHaveLength(8);
          await Promise.all(w.nodes.map((one) => one.stop()));
        },
      ),
      { numRuns: Number(process.env["SEDGE_MODEL_RUNS"] ?? 60) },
    );
  }, 120_000);
});
