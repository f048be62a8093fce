import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import type { AddressRequest, Loans, Pool } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { type IpAddress, ipVersion, parseIp } from "../../src/net/ip.ts";
import { type AddressWorld, startAddresses } from "../../test/fakes/address-manager.ts";
import { MemoryJournalFiles } from "../../test/fakes/memory-journal-files.ts";
import { encodeFrame, readFrames } from "../view/frames.ts";
import type { Attachment, AttachmentRequest } from "./attachment.ts";
import { applyEntry, emptyState, fromSnapshot, toSnapshot } from "./journal-state.ts";
import { REMEMBERED_LIMIT, Remembered } from "./remembered.ts";

const V4: Pool = { kind: "pool", name: "v4", cidr: parseCidr("10.65.0.0/28"), natOutgoing: false, disabled: false, blockSize: 29 };
const V6: Pool = { ...V4, name: "v6", cidr: parseCidr("fd00:65::/124"), blockSize: 125 };
const NOTHING: AddressRequest = { pools: [], addresses: [], ipVersions: [], mac: "", problem: "" };
const COOLDOWN_MS = 1_000;

interface World extends AddressWorld {
  /** What the view says; tests change it. */
  readonly view: { pools: readonly Pool[]; readonly floating: Map<IpAddress, NodeName>; loans: readonly Loans[] };
}

/** `before`: the same node after a restart. */
async function start({ before, pools = [V4, V6] }: { readonly before?: World; readonly pools?: readonly Pool[] } = {}): Promise<World> {
  const view = before?.view ?? { pools, floating: new Map<IpAddress, NodeName>(), loans: [] };
  const world = await startAddresses(pools, {
    ...(before === undefined ? {} : { api: before.api, clock: before.clock, files: new MemoryJournalFiles(before.files.files) }),
    pools: () => view.pools,
    nodeOf: (address) => view.floating.get(address),
    loans: () => view.loans,
    cooldownMs: COOLDOWN_MS,
  });
  return { ...world, view };
}

function request(containerId: string, pod: string, podUid: string | undefined = `uid-${pod}`): AttachmentRequest {
  const uid = podUid === "" ? {} : { podUid };
  return { network: "net", containerId, ifname: "eth0", namespace: "shop", pod, ...uid, netns: "" };
}

/** What comes between a pod and the addresses that it had. */
interface Hindrance {
  readonly what: string;
  readonly change: (world: World) => void | Promise<void>;
  readonly wish?: Partial<AddressRequest>;
}

async function endedPod(world: World, over: Partial<AttachmentRequest> = {}): Promise<Attachment> {
  const attachment = await world.manager.attach({ ...request("old", "web"), ...over });
  await world.manager.detach(attachment);
  return attachment;
}

describe("a pod that comes again", () => {
  it("has both addresses at once, while they cool down for every other pod; those have them after the cooldown, when nothing else is free", async () => {
    const pools = [
      { ...V4, cidr: parseCidr("10.65.0.0/32"), blockSize: 32 },
      { ...V6, cidr: parseCidr("fd00:65::/128"), blockSize: 128 },
    ];
    const world = await start({ pools });
    const { manager, clock } = world;
    const before = await endedPod(world);
    await expect(manager.attach(request("c", "other"))).rejects.toMatchObject({ code: "cooling" });
    const again = await manager.attach(request("new", "web"));
    expect([again.addresses.map(ipVersion), again.addresses]).toEqual([[4, 6], before.addresses]);
    await manager.detach(again);
    await clock.advance(COOLDOWN_MS);
    expect((await manager.attach(request("c", "other"))).addresses).toEqual(before.addresses);
    await expect(manager.attach(request("newer", "web"))).rejects.toMatchObject({ code: "pool-full" });
  });

  it("other pods are given what is remembered last", async () => {
    const world = await start({ pools: [{ ...V4, blockSize: 28 }] });
    const { manager, clock } = world;
    const { addresses } = await endedPod(world);
    await clock.advance(COOLDOWN_MS);
    const given = [];
    for (let i = 0; i < 16; i++) given.push(...(await manager.attach(request(`c${i}`, `p${i}`))).addresses);
    expect(given.indexOf(addresses[0] ?? parseIp("::"))).toBe(15);
  });

  it.each<{ readonly what: string; readonly over: Partial<AttachmentRequest> }>([
    { what: "another uid", over: { podUid: "uid-of-another-web" } },
    { what: "another namespace", over: { namespace: "garden" } },
    { what: "another name", over: { pod: "web-2" } },
    { what: "another network", over: { network: "net2" } },
    { what: "another interface", over: { ifname: "net1" } },
  ])("$what: it is another, and its addresses are others", async ({ over }) => {
    const world = await start();
    const { addresses } = await endedPod(world);
    const other = await world.manager.attach({ ...request("new", "web"), ...over });
    expect(other.addresses.some((address) => addresses.includes(address))).toBe(false);
  });

  it("without a uid nothing is remembered", async () => {
    const world = await start();
    const old = await world.manager.attach(request("old", "web", ""));
    await world.manager.detach(old);
    expect(world.journal.state.remembered.size).toBe(0);
    const again = await world.manager.attach(request("new", "web", ""));
    expect(again.addresses.some((address) => old.addresses.includes(address))).toBe(false);
  });

  const [v4, v6] = [parseIp("10.65.0.8"), parseIp("fd00:65::8")];
  it.each<Hindrance>([
    { what: "an annotation names another address", change: () => undefined, wish: { addresses: [v4, v6] } },
    {
      what: "an annotation names another pool",
      change: ({ view }) => void (view.pools = [...view.pools, OTHER4, OTHER6]),
      wish: { pools: ["other4", "other6"] },
    },
    { what: "the pool is disabled", change: ({ view }) => void (view.pools = [{ ...V4, disabled: true }, { ...V6, disabled: true }, OTHER4, OTHER6]) },
    { what: "the pool is deleted", change: ({ view }) => void (view.pools = [OTHER4, OTHER6]) },
    {
      what: "it is reserved",
      change: ({ view }) =>
        void (view.pools = view.pools.map((pool) => ({
          ...pool,
          reserved: [parseCidr("10.65.0.0/30"), parseCidr("10.65.0.8/30"), parseCidr("fd00:65::/126"), parseCidr("fd00:65::8/126")],
        }))),
    },
    {
      what: "it is floating",
      change: ({ journal, view }) => {
        for (const address of journal.state.released.keys()) view.floating.set(address, "n2" as NodeName);
      },
    },
    {
      what: "it is lent",
      change: async ({ clock, journal, manager, view }) => {
        await clock.advance(COOLDOWN_MS);
        view.loans = [...journal.state.blocks.keys()].map((block) => ({
          kind: "loans",
          block,
          loans: [...journal.state.released.keys()]
            .filter((address) => ipVersion(address) === (block.includes(":") ? 6 : 4))
            .map((address) => ({ address, id: `loan-${address}`, isAgreed: false })),
        }));
        await manager.loansChanged();
        expect([journal.state.lent.size, journal.state.remembered.size]).toEqual([2, 0]);
      },
    },
    {
      what: "the block is not this node's any more",
      change: async ({ api, clock, journal, manager }) => {
        const lost = [...journal.state.blocks.keys()];
        for (const block of lost) {
          api.dropBlock(block);
          api.taken.push(block);
        }
        const stop = new AbortController();
        const running = manager.run(stop.signal);
        await clock.advance(0);
        for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
        stop.abort();
        await running;
        expect([lost.filter((block) => journal.state.blocks.has(block)), journal.state.remembered.size]).toEqual([[], 0]);
      },
    },
  ])("$what: it gets others", async ({ change, wish }) => {
    const world = await start();
    const { addresses } = await endedPod(world);
    expect(world.journal.state.remembered.size).toBe(2);
    Object.assign(world.api, { pools: [V4, V6, OTHER4, OTHER6] });
    await change(world);
    const again = await world.manager.attach(request("new", "web"), wish === undefined ? {} : { wish: { ...NOTHING, ...wish } });
    expect(again.addresses.map(ipVersion)).toEqual([4, 6]);
    expect(again.addresses.some((address) => addresses.includes(address))).toBe(false);
  });

  it("one family is taken meanwhile: the other is the same", async () => {
    const world = await start();
    const { addresses } = await endedPod(world);
    const [first, second] = addresses;
    await world.manager.attach(request("thief", "thief"), { wish: { ...NOTHING, addresses: first === undefined ? [] : [first] } });
    const again = await world.manager.attach(request("new", "web"));
    expect([again.addresses[0] === first, again.addresses[1]]).toEqual([false, second]);
  });

  it("a pool that it may have by name only: the same address, when it names it still", async () => {
    const gold: Pool = { ...V4, disabled: true, isSelective: true };
    const world = await start({ pools: [gold] });
    const wish = { ...NOTHING, pools: ["v4"] };
    const before = await world.manager.attach(request("old", "web"), { wish });
    await world.manager.detach(before);
    await expect(world.manager.attach(request("new", "web"))).rejects.toMatchObject({ code: "no-pool" });
    expect((await world.manager.attach(request("new", "web"), { wish })).addresses).toEqual(before.addresses);
  });

  it("a disk that refuses: nothing is given, the address cools for others as before, and is the pod's when the disk takes it", async () => {
    const world = await start({ pools: [{ ...V4, cidr: parseCidr("10.65.0.0/32"), blockSize: 32 }] });
    const before = await endedPod(world);
    world.files.refusal = new Error("ENOSPC");
    await expect(world.manager.attach(request("new", "web"))).rejects.toMatchObject({ code: "journal" });
    world.files.refusal = undefined;
    await expect(world.manager.attach(request("c", "other"))).rejects.toMatchObject({ code: "cooling" });
    expect((await world.manager.attach(request("new", "web"))).addresses).toEqual(before.addresses);
  });

  it("over restarts, each with a new snapshot; and a late release of the old container frees nothing", async () => {
    let world = await start();
    const before = await endedPod(world);
    for (let i = 0; i < 3; i++) world = await start({ before: world });
    const again = await world.manager.attach(request("new", "web"));
    expect(again.addresses).toEqual(before.addresses);
    await world.manager.detach(before);
    expect(world.manager.attachments()).toEqual([again]);
    world = await start({ before: world });
    await world.manager.detach(before);
    expect([world.manager.attachments(), world.journal.state.remembered.size]).toEqual([[again], 0]);
    const next = await world.manager.attach(request("c", "other"));
    expect(next.addresses.some((address) => again.addresses.includes(address))).toBe(false);
  });

  it("a snapshot of a version that did not remember is read, and says nothing of pods", async () => {
    const world = await start();
    await endedPod(world);
    const after = await start({ before: world });
    const name = "addresses.snapshot";
    const { frames } = readFrames(after.files.files.get(name) ?? Buffer.alloc(0));
    const [head, state] = frames.map((frame) => frame.head as Record<string, unknown>);
    expect(state?.["remembered"]).toHaveLength(2);
    delete state?.["remembered"];
    after.files.files.set(name, Buffer.concat([encodeFrame(head ?? {}, []), encodeFrame(state ?? {}, [])]));
    const older = await start({ before: after });
    expect([older.journal.problems, older.manager.isTrusted(), older.journal.state.released.size, older.journal.state.remembered.size]).toEqual([
      [],
      true,
      2,
      0,
    ]);
  });
});

const OTHER4: Pool = { ...V4, name: "other4", cidr: parseCidr("10.66.0.0/28"), blockSize: 28 };
const OTHER6: Pool = { ...V6, name: "other6", cidr: parseCidr("fd00:66::/124"), blockSize: 124 };

describe("Remembered", () => {
  const address = (i: number): IpAddress => parseIp(`10.0.${i >> 8}.${i & 255}`);

  it("is a bounded list of (address, pod), after any history", () => {
    const step = fc.record({ op: fc.constantFrom("set" as const, "set" as const, "delete" as const), at: fc.nat(9), pod: fc.constantFrom("a", "b", "c") });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 6 }), (history, limit) => {
        const remembered = new Remembered([], limit);
        let model: (readonly [IpAddress, string])[] = [];
        for (const { op, at, pod } of history) {
          model = model.filter(([known]) => known !== address(at));
          if (op === "set") {
            remembered.set(address(at), pod);
            model = [...model, [address(at), pod] as const].slice(-limit);
          } else remembered.delete(address(at));
          expect(remembered.entries()).toEqual(model);
          expect(remembered.size).toBe(model.length);
          for (const each of ["a", "b", "c"]) expect(remembered.of(each)).toEqual(model.flatMap(([known, owner]) => (owner === each ? known : [])).reverse());
        }
      }),
    );
  });

  it("of more than the limit the journal keeps the last, also in its snapshot", () => {
    const state = emptyState();
    for (let i = 0; i < REMEMBERED_LIMIT + 10; i++) {
      const attachment = { ...request(`c${i}`, `p${i}`), interfaceName: "", mac: "", addresses: [address(i)] };
      applyEntry(state, { op: "attach", attachment });
      applyEntry(state, { op: "detach", id: `net.c${i}/eth0`, at: i });
    }
    const read = fromSnapshot(JSON.parse(JSON.stringify(toSnapshot(state))));
    expect([state.released.size, state.remembered.size, read?.remembered.size]).toEqual([REMEMBERED_LIMIT + 10, REMEMBERED_LIMIT, REMEMBERED_LIMIT]);
    expect(read?.remembered.entries()[0]?.[0]).toBe(address(10));
  });
});
