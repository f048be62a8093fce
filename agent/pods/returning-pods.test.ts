/** Any history of pods that come, go and come again on a node that restarts and reboots: who has which address, against a model. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Pool } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { type IpAddress, ipVersion } from "../../src/net/ip.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { FakeBlockApi } from "../../test/fakes/fake-block-api.ts";
import { MemoryJournalFiles } from "../../test/fakes/memory-journal-files.ts";
import { OpenEndpoints } from "../../test/fakes/open-endpoints.ts";
import type { AddressError } from "../addresses/address-error.ts";
import type { AttachmentRequest } from "../addresses/attachment.ts";
import { Journal } from "../addresses/journal.ts";
import { type AddressManager, createAddressManager } from "../addresses/manager.ts";
import { createPodManager, type PodManager } from "./manager.ts";
import { UnconnectedPodLinks } from "./unconnected-pod-links.ts";

const COOLDOWN_MS = 1_000;
const POOLS: readonly Pool[] = ["10.65.0.0/30", "fd00:65::/126"].map((cidr) => ({
  kind: "pool",
  name: cidr,
  cidr: parseCidr(cidr),
  natOutgoing: false,
  disabled: false,
  blockSize: cidr.includes(":") ? 127 : 31,
}));

class Machine {
  readonly clock = new ManualClock();
  readonly api = new FakeBlockApi({ node: "n1", pools: POOLS });
  files = new MemoryJournalFiles();
  links = new UnconnectedPodLinks();
  addresses!: AddressManager;
  pods!: PodManager;
  journal!: Journal;

  /** The agent's process; `audit`: it has looked at what is there before anybody calls it. */
  async start({ audit = true } = {}): Promise<void> {
    // No process restarts within one tick of the clock.
    await this.clock.advance(1);
    this.files = new MemoryJournalFiles(this.files.files);
    const { api, clock, files, links } = this;
    const common = { clock, log: silentLogger(), interfacePrefix: "cali" };
    const time = { bootId: "boot", upMs: clock.now(), wallMs: clock.wallTime() };
    this.journal = await Journal.open({ files, node: "n1", time, compactAboveBytes: 2_000 });
    const usedAddresses = (): never[] => [];
    this.addresses = createAddressManager({
      ...common,
      journal: this.journal,
      claims: api,
      reports: api,
      pools: () => api.pools,
      usedAddresses,
      cooldownMs: COOLDOWN_MS,
    });
    this.pods = createPodManager({ ...common, addresses: this.addresses, links, endpoints: new OpenEndpoints(), mtu: 1450 });
    if (audit) await this.audit();
  }

  /** No interface is left. */
  async reboot(options: { readonly audit: boolean }): Promise<void> {
    this.links = new UnconnectedPodLinks();
    await this.start(options);
  }

  async audit(): Promise<void> {
    if (!this.addresses.isTrusted()) return;
    const stop = new AbortController();
    const running = this.pods.run(stop.signal);
    for (let turn = 0; turn < 40; turn++) await new Promise((resolve) => setImmediate(resolve));
    stop.abort();
    await running;
  }
}

function request(pod: string, podUid: string, containerId: string): AttachmentRequest {
  return { network: "net", containerId, ifname: "eth0", namespace: "shop", pod, podUid, netns: `/run/netns/${containerId}` };
}

describe("after a reboot", () => {
  const orders = [
    { order: "DEL of the old container, then ADD", isDeletedFirst: true },
    { order: "ADD, then DEL of the old container", isDeletedFirst: false },
  ];
  it.each(orders.flatMap((order) => [true, false].map((audit) => ({ ...order, audit }))))(
    "$order (audit before it: $audit): each pod has its addresses, with the server away; the late DEL frees nothing",
    async ({ audit, isDeletedFirst }) => {
      const machine = new Machine();
      await machine.start();
      const names = ["a", "b", "c"];
      const before = [];
      for (const name of names) before.push((await machine.pods.add(request(name, `uid-${name}`, `${name}-0`))).attachment);
      machine.api.isAway = true;
      await machine.reboot({ audit });
      const after = [];
      // The other way round than before, so that the order of the queue would give others.
      for (const name of names.toReversed()) {
        const old = request(name, `uid-${name}`, `${name}-0`);
        if (isDeletedFirst) await machine.pods.remove(old);
        after.unshift((await machine.pods.add(request(name, `uid-${name}`, `${name}-1`))).attachment);
        if (!isDeletedFirst) await machine.pods.remove(old);
      }
      if (!audit) await machine.audit();
      expect(after.map(({ addresses }) => addresses)).toEqual(before.map(({ addresses }) => addresses));
      expect(machine.addresses.attachments()).toEqual(expect.arrayContaining(after));
      expect([machine.addresses.attachments().length, machine.links.specs.size]).toEqual([3, 3]);
    },
  );
});

interface Holding {
  readonly uid: string;
  readonly container: string;
  readonly addresses: readonly IpAddress[];
  /** Its interface outlived what came since. */
  isConnected: boolean;
}

describe("any history", () => {
  const pod = fc.constantFrom("a", "b", "c", "d", "e");
  const action = fc.oneof(
    { weight: 8, arbitrary: fc.record({ kind: fc.constant("add" as const), pod }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("delete" as const), pod, age: fc.nat(2) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("replace" as const), pod }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("advance" as const), ms: fc.constantFrom(10, 600, 1_500, 1_500) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("restart" as const) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("reboot" as const), audit: fc.boolean() }) },
  );

  it("no address twice; a pod that comes again has what it had while nobody else has it; others have it only after its cooldown", async () => {
    let returns = 0;
    let handedOn = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(action, { minLength: 25, maxLength: 80 }), async (history) => {
        const machine = new Machine();
        await machine.start();
        /** What pods have, and who was the last of what is free. */
        const holdings = new Map<string, Holding>();
        const free = new Map<IpAddress, { readonly uid: string; readonly atMs: number }>();
        const uids = new Map<string, number>();
        const containers = new Map<string, string[]>();
        const uidOf = (name: string): string => `${name}-uid-${uids.get(name) ?? 0}`;
        const release = (name: string, atMs = machine.clock.now()): void => {
          const held = holdings.get(name);
          holdings.delete(name);
          for (const address of held?.addresses ?? []) free.set(address, { uid: held?.uid ?? "", atMs });
        };
        for (const step of history) {
          if (step.kind === "add") {
            const container = `${step.pod}-${containers.get(step.pod)?.length ?? 0}`;
            containers.set(step.pod, [container, ...(containers.get(step.pod) ?? [])]);
            release(step.pod);
            const uid = uidOf(step.pod);
            const own = [...free].filter(([, last]) => last.uid === uid).map(([address]) => address);
            const attachment = await machine.pods.add(request(step.pod, uid, container)).then(
              (added) => added.attachment,
              (error: unknown) => {
                expect(["cooling", "pool-full"]).toContain((error as AddressError).code);
                return undefined;
              },
            );
            if (attachment === undefined) expect(own.length).toBeLessThan(2);
            else {
              expect(attachment.addresses.map(ipVersion)).toEqual([4, 6]);
              for (const address of own) expect(attachment.addresses).toContain(address);
              returns += own.length;
              for (const address of attachment.addresses) {
                const last = free.get(address);
                if (last !== undefined && last.uid !== uid) {
                  expect(machine.clock.now() - last.atMs).toBeGreaterThanOrEqual(COOLDOWN_MS);
                  handedOn++;
                }
                free.delete(address);
              }
              holdings.set(step.pod, { uid, container, addresses: attachment.addresses, isConnected: true });
            }
          } else if (step.kind === "delete") {
            const container = containers.get(step.pod)?.[step.age];
            if (container === undefined) continue;
            await machine.pods.remove(request(step.pod, uidOf(step.pod), container));
            if (holdings.get(step.pod)?.container === container) release(step.pod);
          } else if (step.kind === "replace") uids.set(step.pod, (uids.get(step.pod) ?? 0) + 1);
          else if (step.kind === "advance") await machine.clock.advance(step.ms);
          else {
            if (step.kind === "restart") await machine.start();
            else {
              for (const holding of holdings.values()) holding.isConnected = false;
              await machine.reboot(step);
            }
            if (step.kind === "restart" || step.audit) for (const [name, { isConnected }] of holdings) if (!isConnected) release(name);
          }
          const held = [...holdings.values()].flatMap(({ addresses }) => addresses);
          expect(new Set(held).size).toBe(held.length);
          expect(
            machine.addresses
              .attachments()
              .flatMap(({ addresses }) => addresses)
              .sort(),
          ).toEqual(held.toSorted());
          const { released, remembered } = machine.journal.state;
          expect(remembered.entries().every(([address]) => released.has(address))).toBe(true);
        }
      }),
      { numRuns: 200 },
    );
    // It was looked at.
    expect(Math.min(returns, handedOn)).toBeGreaterThan(20);
  });
});
