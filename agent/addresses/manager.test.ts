import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Pool } from "../../src/model/record.ts";
import { cidrContains, cidrVersion, parseCidr } from "../../src/net/cidr.ts";
import { type IpAddress, ipVersion } from "../../src/net/ip.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { startAddresses as start } from "../../test/fakes/address-manager.ts";
import { FakeBlockApi } from "../../test/fakes/fake-block-api.ts";
import { MemoryJournalFiles, type WriteFault } from "../../test/fakes/memory-journal-files.ts";
import type { AddressError } from "./address-error.ts";
import type { Attachment, AttachmentRequest } from "./attachment.ts";
import { Journal } from "./journal.ts";
import type { UsedAddress } from "./recovery.ts";

const pool = (cidr: string, blockSize: number, disabled = false): Pool => ({
  kind: "pool",
  name: `pool-${cidr}`,
  cidr: parseCidr(cidr),
  natOutgoing: false,
  disabled,
  blockSize,
});
const V4 = pool("10.65.0.0/28", 30);
const V6 = pool("fd00:65::/124", 126);

function request(containerId: string): AttachmentRequest {
  return { network: "net", containerId, ifname: "eth0", namespace: "shop", pod: containerId, netns: `/run/netns/${containerId}` };
}

/** Its wall clock is set, by a person or by NTP, while it runs. */
class SetClock extends ManualClock {
  setMs = 0;

  override wallTime(): number {
    return super.wallTime() + this.setMs;
  }
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

async function problem(attaching: Promise<Attachment>): Promise<AddressError> {
  return attaching.then(
    () => Promise.reject(new Error("it should have been refused")),
    (error: unknown) => error as AddressError,
  );
}

describe("AddressManager", () => {
  it("gives one address of each family that has a pool, the same for the same container, and reports it with its owner", async () => {
    const { manager, api } = await start([V4, V6]);
    const first = await manager.attach(request("a"));
    expect(first.addresses.map(ipVersion)).toEqual([4, 6]);
    expect(await manager.attach(request("a"))).toEqual(first);
    const second = await manager.attach(request("b"));
    expect(second.addresses.some((address) => first.addresses.includes(address))).toBe(false);
    await settle();
    const reported = api.blocks.flatMap(({ allocations }) => allocations);
    expect(reported.map(({ address, handle, namespace, pod }) => [address, handle, namespace, pod])).toEqual(
      expect.arrayContaining([
        ...first.addresses.map((address) => [address, "net.a", "shop", "a"]),
        ...second.addresses.map((address) => [address, "net.b", "shop", "b"]),
      ]),
    );
    expect(reported).toHaveLength(4);
  });

  it("a full pool of 16 addresses and 40 pods: 16 have one, 24 are told which pool; one that ends makes room after its cooldown", async () => {
    const { manager, clock } = await start([V4]);
    const results = await Promise.allSettled(Array.from({ length: 40 }, (_, i) => manager.attach(request(`c${i}`))));
    const given = results.filter((result) => result.status === "fulfilled").map(({ value }) => value);
    expect(new Set(given.flatMap(({ addresses }) => addresses)).size).toBe(16);
    expect(given).toHaveLength(16);
    const refused = await problem(manager.attach(request("c99")));
    expect([refused.code, refused.isTransient]).toEqual(["pool-full", false]);
    expect(refused.message).toContain("pool-10.65.0.0/28 (10.65.0.0/28)");
    const [gone] = given;
    if (gone === undefined) throw new Error("none was given");
    await manager.detach(gone);
    const cooling = await problem(manager.attach(request("c99")));
    expect([cooling.code, cooling.isTransient]).toEqual(["cooling", true]);
    await clock.advance(1_000);
    expect((await manager.attach(request("c99"))).addresses).toEqual(gone.addresses);
  });

  it("both families or none: a full IPv6 pool gives the IPv4 address back", async () => {
    const { manager } = await start([V4, pool("fd00:65::/127", 127)]);
    await Promise.all([manager.attach(request("a")), manager.attach(request("b"))]);
    expect((await problem(manager.attach(request("c")))).message).toContain("IPv6");
    expect(manager.attachments()).toHaveLength(2);
    expect(manager.blocks().reduce((sum, { used }) => sum + used, 0)).toBe(4);
  });

  it("one claim serves all that wait; the next block is claimed before it is needed", async () => {
    const { manager, api } = await start([pool("10.65.0.0/24", 28)]);
    await Promise.all(Array.from({ length: 10 }, (_, i) => manager.attach(request(`c${i}`))));
    expect(api.claimCalls).toBe(1);
    for (let i = 10; i < 14; i++) await manager.attach(request(`c${i}`));
    await settle();
    expect([api.claimCalls, manager.blocks().length]).toEqual([2, 2]);
    api.isAway = true;
    // Nobody waits for the server that is away: addresses are here.
    for (let i = 14; i < 32; i++) await manager.attach(request(`c${i}`));
    expect((await problem(manager.attach(request("c99")))).code).toBe("unavailable");
  });

  it("what to do is in the error: server away, no pool, only disabled pools, view not there", async () => {
    const away = await start([V4]);
    away.api.isAway = true;
    expect(await problem(away.manager.attach(request("a")))).toMatchObject({ code: "unavailable", isTransient: true });
    expect(away.manager.obstacle()).toMatchObject({ code: "unavailable" });
    const none = await start([]);
    expect((await problem(none.manager.attach(request("a")))).code).toBe("no-pool");
    const disabled = await start([{ ...V4, disabled: true }]);
    expect((await problem(disabled.manager.attach(request("a")))).code).toBe("no-pool");
    const unknown = await start([V4], { pools: () => undefined });
    expect((await problem(unknown.manager.attach(request("a")))).code).toBe("unavailable");
  });

  it("a pool that is disabled or deleted under running pods: they keep their addresses, none is given from it", async () => {
    let pools: readonly Pool[] = [V4];
    const other = pool("10.66.0.0/28", 30);
    const api = new FakeBlockApi({ node: "n1", pools: [V4, other] });
    const { manager } = await start([], { api, pools: () => pools });
    const before = await manager.attach(request("a"));
    pools = [other];
    Object.assign(api.pools[0] ?? {}, { disabled: true });
    const after = await manager.attach(request("b"));
    expect(after.addresses.every((address) => cidrContains(other.cidr, address))).toBe(true);
    expect(manager.find(request("a"))).toEqual(before);
    Object.assign(V4, { disabled: false });
  });

  it("a restart: same attachments, released addresses last in the queue, generations grow", async () => {
    const files = new MemoryJournalFiles();
    const clock = new ManualClock();
    const api = new FakeBlockApi({ node: "n1", pools: [pool("10.65.0.0/30", 30)] });
    const before = await start([], { files, clock, api });
    const [a, b] = [await before.manager.attach(request("a")), await before.manager.attach(request("b"))];
    await before.manager.detach(a);
    const generation = [...before.journal.state.blocks.values()][0]?.generation ?? 0;
    const after = await start([], { files: new MemoryJournalFiles(files.files), clock, api });
    expect(after.manager.attachments()).toEqual([b]);
    const next = await Promise.all(["c", "d"].map((id) => after.manager.attach(request(id))));
    expect(next.flatMap(({ addresses }) => addresses)).not.toContain(a.addresses[0]);
    expect((await problem(after.manager.attach(request("e")))).code).toBe("cooling");
    expect([...after.journal.state.blocks.values()][0]?.generation).toBeGreaterThan(generation);
  });

  it.each([-5, 5].flatMap((hours) => [false, true].map((isRestarted) => ({ hours, isRestarted }))))(
    "the wall clock set by $hours h while an address cools (restart: $isRestarted): not given before its time, and then given",
    async ({ hours, isRestarted }) => {
      let files = new MemoryJournalFiles();
      const clock = new SetClock();
      const api = new FakeBlockApi({ node: "n1", pools: [pool("10.65.0.0/32", 32)] });
      let { manager } = await start([], { files, clock, api });
      const given = await manager.attach(request("a"));
      // Twice: a release that was restored keeps its time.
      for (let round = 0; round < 2; round++) {
        await manager.detach(manager.find(request("a")) ?? given);
        for (let step = 0; step < 2; step++) {
          clock.setMs += hours * 3_600_000;
          await clock.advance(400);
          if (isRestarted) {
            files = new MemoryJournalFiles(files.files);
            ({ manager } = await start([], { files, clock, api }));
          }
          expect((await problem(manager.attach(request("a")))).code).toBe("cooling");
        }
        await clock.advance(200);
        expect((await manager.attach(request("a"))).addresses).toEqual(given.addresses);
      }
    },
  );

  it("another boot: the wall clock says how long ago a release was, and one set back keeps nothing for longer than the cooldown", async () => {
    for (const [setMs, isFree] of [
      [5_000, true],
      [-3_600_000, false],
    ] as const) {
      const files = new MemoryJournalFiles();
      const api = new FakeBlockApi({ node: "n1", pools: [pool("10.65.0.0/32", 32)] });
      const before = await start([], { files, api });
      await before.manager.detach(await before.manager.attach(request("a")));
      const clock = new SetClock();
      clock.setMs = setMs;
      const { manager } = await start([], { files, api, clock, bootId: "another" });
      if (!isFree) expect((await problem(manager.attach(request("a")))).code).toBe("cooling");
      if (!isFree) await clock.advance(1_000);
      expect((await manager.attach(request("a"))).addresses).toHaveLength(1);
    }
  });

  it("a slow disk: no ADD is answered before its record is there, those that wait share a sync; a DEL frees nothing before", async () => {
    const files = new MemoryJournalFiles();
    const { manager } = await start([pool("10.65.0.0/24", 24)], { files });
    const first = await manager.attach(request("first"));
    const append = files.append.bind(files);
    const syncs: (() => void)[] = [];
    files.append = async (name, bytes) => {
      await new Promise<void>((resolve) => syncs.push(resolve));
      await append(name, bytes);
    };
    let answered = 0;
    const adds = Array.from({ length: 50 }, (_, i) => manager.attach(request(`slow${i}`)).finally(() => answered++));
    const deleting = manager.detach(first).finally(() => answered++);
    await settle();
    expect([answered, syncs.length, manager.attachments().length]).toEqual([0, 1, 1]);
    const more = Array.from({ length: 50 }, (_, i) => manager.attach(request(`late${i}`)).finally(() => answered++));
    await settle();
    expect([answered, syncs.length]).toEqual([0, 1]);
    syncs[0]?.();
    await Promise.all([...adds, deleting]);
    await settle();
    expect([answered, syncs.length]).toEqual([51, 2]);
    syncs[1]?.();
    const given = (await Promise.all([...adds, ...more])).flatMap(({ addresses }) => addresses);
    expect([given.length, new Set(given).size, syncs.length]).toEqual([100, 100, 2]);
    const onDisk = await Journal.open({ files: new MemoryJournalFiles(files.files), node: "n1" });
    expect(onDisk.state.attachments.size).toBe(100);
  });

  it("a state directory that cannot be written: the error names it, nothing is held, and it goes on once it can be", async () => {
    const files = new MemoryJournalFiles();
    const { manager } = await start([pool("10.65.0.0/30", 30)], { files });
    const kept = await manager.attach(request("kept"));
    const { append, replace } = files;
    const refuse = (): Promise<void> => Promise.reject(new Error("EROFS: read-only file system, write"));
    Object.assign(files, { append: refuse, replace: refuse });
    for (let i = 0; i < 6; i++) {
      const refused = await problem(manager.attach(request(`c${i}`)));
      expect(refused.code).toBe("journal");
      expect(refused.message).toMatch(/\/memory.*EROFS/);
    }
    await expect(manager.detach(kept)).rejects.toThrow("/memory");
    expect(manager.attachments()).toEqual([kept]);
    Object.assign(files, { append, replace });
    expect(await Promise.all(["x", "y", "z"].map((id) => manager.attach(request(id))))).toHaveLength(3);
    await manager.detach(kept);
    expect(manager.attachments()).toHaveLength(3);
  });

  it("a container of which the API knows one of two addresses, with journal and interface gone, gets both; one that is connected keeps what it has", async () => {
    for (const isConnected of [false, true]) {
      const api = new FakeBlockApi({ node: "n1", pools: [V4, V6] });
      const before = await start([], { api });
      const { addresses, interfaceName } = await before.manager.attach(request("a"));
      await settle();
      for (const { allocations, cidr } of api.blocks)
        api.report({
          block: cidr,
          generation: Number.MAX_SAFE_INTEGER,
          allocations: cidrVersion(cidr) === 6 ? allocations : [],
          claim: "",
          lent: [],
          declined: [],
        });
      const used = isConnected ? addresses.filter((address) => ipVersion(address) === 6).map((address) => ({ address, interfaceName })) : [];
      const after = await start([], { api, usedAddresses: () => used });
      const again = await after.manager.attach(request("a"));
      expect(again.addresses.map(ipVersion)).toEqual(isConnected ? [6] : [4, 6]);
    }
  });

  it("no address twice, none lost: any history, a crash at any write, the disk lost with it", async () => {
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ kind: fc.constant("attach" as const), id: fc.nat(9) }) },
      { weight: 4, arbitrary: fc.record({ kind: fc.constant("detach" as const), id: fc.nat(9) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant("advance" as const), ms: fc.constantFrom(10, 600, 1_500) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant("away" as const), isAway: fc.boolean() }) },
      {
        weight: 2,
        arbitrary: fc.record({
          kind: fc.constant("crash" as const),
          at: fc.integer({ min: 1, max: 3 }),
          how: fc.constantFrom<WriteFault>("nothing", "part", "all"),
          losesDisk: fc.boolean(),
        }),
      },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (history) => {
        const clock = new ManualClock();
        const api = new FakeBlockApi({ node: "n1", pools: [V4, V6] });
        /** Interfaces of pods whose ADD returned: what the kernel routes. */
        const kernel = new Map<string, Attachment>();
        const usedAddresses = (): UsedAddress[] =>
          [...kernel.values()].flatMap(({ addresses, interfaceName }) => addresses.map((address) => ({ address, interfaceName })));
        let files = new MemoryJournalFiles();
        let losesDisk = false;
        let { manager } = await start([], { files, clock, api, usedAddresses });
        /** As the pod manager does at its start: what has no interface is released. */
        const audit = async (): Promise<void> => {
          if (!manager.isTrusted()) return;
          for (const attachment of manager.attachments()) if (!kernel.has(attachment.interfaceName)) await manager.detach(attachment);
        };
        const reboot = async (): Promise<void> => {
          // No process restarts within one tick of the clock.
          await clock.advance(1);
          files = new MemoryJournalFiles(losesDisk ? new Map() : files.files);
          losesDisk = false;
          ({ manager } = await start([], { files, clock, api, usedAddresses }));
          await audit();
        };
        const check = (): void => {
          const held = [...kernel.values()].flatMap(({ addresses }) => addresses);
          expect(new Set(held).size).toBe(held.length);
        };
        for (const action of history) {
          const id = "id" in action ? request(`c${action.id}`) : request("none");
          const connected = [...kernel.values()].find(({ containerId }) => containerId === id.containerId);
          try {
            if (action.kind === "attach") {
              const attachment = await manager.attach(id);
              expect(attachment.addresses.map(ipVersion)).toEqual([4, 6]);
              if (connected !== undefined) expect(attachment.addresses).toEqual(connected.addresses);
              kernel.set(attachment.interfaceName, attachment);
            } else if (action.kind === "detach") {
              const attachment = manager.find(id);
              if (attachment !== undefined) {
                kernel.delete(attachment.interfaceName);
                await manager.detach(attachment);
              }
            } else if (action.kind === "advance") await clock.advance(action.ms);
            else if (action.kind === "away") api.isAway = action.isAway;
            else {
              files.fault = { at: files.writes + action.at, how: action.how };
              losesDisk = action.losesDisk;
            }
          } catch (error) {
            const { code } = error as AddressError;
            expect(["unavailable", "cooling", "pool-full", "journal"]).toContain(code);
            if (code === "journal") await reboot();
          }
          check();
        }
        // The end: everything comes back, and the API knows.
        files.fault = undefined;
        api.isAway = false;
        await manager.attach(request("last")).catch(() => undefined);
        if (!manager.isTrusted()) await reboot();
        kernel.clear();
        for (const attachment of manager.attachments()) await manager.detach(attachment).catch(() => undefined);
        if (manager.attachments().length > 0) {
          await reboot();
          await manager.attach(request("last"));
          for (const attachment of manager.attachments()) await manager.detach(attachment);
        }
        await clock.advance(1_000);
        const all = await Promise.all(Array.from({ length: 4 }, (_, i) => manager.attach(request(`end${i}`))));
        expect(new Set(all.flatMap(({ addresses }): readonly IpAddress[] => addresses)).size).toBe(8);
        // What was reported while the server was away is told when the manager runs.
        const stop = new AbortController();
        const running = manager.run(stop.signal);
        await settle();
        stop.abort();
        await running;
        const reported = api.blocks.flatMap(({ allocations }) => allocations.map(({ address }) => address)).sort();
        expect(reported).toEqual(
          manager
            .attachments()
            .flatMap(({ addresses }) => addresses)
            .sort(),
        );
      }),
      { numRuns: 300 },
    );
  }, 60_000);
});
