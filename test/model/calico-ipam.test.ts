/**
 * What Calico's IPAM does, step by step (pool selection, AutoAssign, the claim protocol, AssignIP, ReleaseIPs, reservations), each step with the tests that show it here; where
 * this project does otherwise, what it does and why. The table checks itself: each operation has all its steps, every test and row that is named exists.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "../..");

/** How many steps each operation has in Calico's documentation and code. */
const STEPS = { "pool selection": 7, AutoAssign: 9, claim: 5, "release of a block": 3, AssignIP: 6, ReleaseIPs: 4, reservations: 4, annotations: 7 } as const;
type Operation = keyof typeof STEPS;

interface Step {
  readonly of: Operation;
  readonly does: string;
  /** Absent: as Calico does. */
  readonly instead?: string;
  /** A file and a text in it: a test's title, or the name of a row of its table. */
  readonly shown: readonly (readonly [file: string, text: string])[];
}

const SELECTION = "src/ipam/pool-selection.test.ts";
const CLAIMS = "fanout/claims/block-claims.test.ts";
const WISHES = "agent/addresses/wishes.test.ts";
const MANAGER = "agent/addresses/manager.test.ts";
const MODEL = "test/model/borrowing.test.ts";
const ALLOCATOR = "src/ipam/ipam.test.ts";
const HOLDINGS = "fanout/claims/holdings.test.ts";
const COLLECTOR = "src/controllers/collector.fv.test.ts";
const PARSE = "src/model/parse-resource.test.ts";
const ADDRESSES = "test/apiserver/address-suite.ts";

const TABLE: readonly Step[] = [
  {
    of: "pool selection",
    does: "pools that are asked for, by name or prefix, are the only ones",
    shown: [
      [SELECTION, "a pool by name; the other family stays automatic"],
      [SELECTION, "a pool by prefix, in the order that is written"],
    ],
  },
  {
    of: "pool selection",
    does: "each must exist, be enabled and of the family",
    shown: [
      [SELECTION, "there is no IPPool"],
      [SELECTION, "is disabled"],
      [SELECTION, "is of the other family"],
    ],
  },
  {
    of: "pool selection",
    does: "node and namespace selectors and the mode of those are ignored",
    shown: [
      [SELECTION, "a pool that does not select the node"],
      [SELECTION, "a pool that does not select the namespace"],
      [CLAIMS, "a named pool is taken whatever nodes it selects, a disabled one never"],
      [CLAIMS, "of no pool that selects namespaces or is manual, unless it is named"],
    ],
  },
  {
    of: "pool selection",
    does: "otherwise: enabled, automatic, not terminating, of the family, selecting node and namespace",
    shown: [
      [SELECTION, "those that select the node"],
      [SELECTION, "those that select the namespace"],
      [SELECTION, "neither"],
      [MODEL, "of a pool that is closed: all, soon; running pods keep theirs"],
    ],
  },
  { of: "pool selection", does: "allowedUses has the use", shown: [[PARSE, 'allowedUses: ["Tunnel"]']] },
  { of: "pool selection", does: "in the order of names", shown: [[SELECTION, "enabled ones, by name"]] },
  {
    of: "pool selection",
    does: "none left: an error that says so",
    shown: [
      [MANAGER, "what to do is in the error: server away, no pool, only disabled pools, view not there"],
      [CLAIMS, "unknown node → unknown-object; no pool, disabled pool, foreign selector, other family, full pool → no-free-block with the reason"],
    ],
  },
  { of: "AutoAssign", does: "from the node's own blocks first", shown: [[CLAIMS, "an own block with room comes first, unless the node says that it is full"]] },
  {
    of: "AutoAssign",
    does: "empty blocks of pools that no longer select the node are released",
    shown: [[MODEL, "of a pool that is closed: all, soon; running pods keep theirs"]],
  },
  {
    of: "AutoAssign",
    does: "the longest unused first, none in its cooldown",
    shown: [[ALLOCATOR, "gives the longest unused address first, none in cooldown"]],
  },
  {
    of: "AutoAssign",
    does: "no block beyond the limit, nor without autoAllocateBlocks; then nothing is borrowed",
    shown: [
      [CLAIMS, "none beyond maxBlocksPerHost; those that the node has still count"],
      [CLAIMS, "no new one when autoAllocateBlocks is false"],
    ],
  },
  {
    of: "AutoAssign",
    does: "a free block from a pseudo-random start, wrapping; none that overlaps or is reserved as a whole",
    shown: [
      [ALLOCATOR, "each node gets its own, until none is left"],
      [ALLOCATOR, "finds what a walk over the pool finds, after any adds and deletes"],
      [CLAIMS, "none that is reserved as a whole"],
    ],
  },
  {
    of: "AutoAssign",
    does: "none free: an empty block of another node is taken from it",
    instead:
      "it is borrowed from at once, and the other gives it back by itself: a node gives from memory, so nobody can take a block from it by writing that down",
    shown: [
      [MODEL, "many that wait share one call, and what nobody uses any more goes back"],
      [MODEL, "beyond what is needed, after a while; the last one stays"],
    ],
  },
  { of: "AutoAssign", does: "still short: borrowed, never under strictAffinity", shown: [[MODEL, "not under strictAffinity"]] },
  {
    of: "AutoAssign",
    does: "what is given is one of each family, or none",
    shown: [[MANAGER, "both families or none: a full IPv6 pool gives the IPv4 address back"]],
  },
  {
    of: "AutoAssign",
    does: "nothing left: the pools are named",
    shown: [[MANAGER, "a full pool of 16 addresses and 40 pods: 16 have one, 24 are told which pool"]],
  },
  { of: "claim", does: "affinity pending, block, affinity confirmed", shown: [[CLAIMS, "pending, block, confirmed, in this order"]] },
  {
    of: "claim",
    does: "the block exists: with the same affinity go on, with another's withdraw and take another",
    shown: [
      [CLAIMS, "a block that exists though the watch has not told is not overwritten"],
      [CLAIMS, "a claim that broke off is taken up: with its block, without it, or with the block gone to another"],
    ],
  },
  {
    of: "claim",
    does: "an affinity that is being deleted is taken back to pending",
    instead: "its release is finished first, another block is taken",
    shown: [[HOLDINGS, "not another node's, and not what is being given back: that is finished"]],
  },
  {
    of: "claim",
    does: "a crash after any write is taken up",
    shown: [[MODEL, "of the servers, to the API: the block and the loan come to their end, and nothing is left"]],
  },
  { of: "claim", does: "two at once: one has it", shown: [[CLAIMS, "two servers, any failures at any call: no block is given to two nodes"]] },
  { of: "release of a block", does: "pendingDeletion, block marked and deleted, affinity deleted", shown: [[HOLDINGS, "an empty block: all of it goes"]] },
  {
    of: "release of a block",
    does: "not empty: the affinity goes, addresses stay valid",
    instead: "it stays whole: its node is alive and uses it; of a node that is gone collection frees the addresses first",
    shown: [
      [HOLDINGS, "with an address: stays"],
      [COLLECTOR, "frees what pods and nodes that are gone had, after the grace period, and never a live pod's"],
    ],
  },
  {
    of: "release of a block",
    does: "one that broke off is finished",
    shown: [
      [HOLDINGS, "marked by a release that broke off: finished"],
      [COLLECTOR, "an affinity that a release left behind is taken away"],
    ],
  },
  {
    of: "AssignIP",
    does: "the enabled pool that contains it, else an error",
    shown: [
      [SELECTION, '192.0.2.1"]'],
      [SELECTION, "is in no enabled IPPool"],
    ],
  },
  {
    of: "AssignIP",
    does: "its block is made when it is missing",
    shown: [[MODEL, "an address that a pod asks for: in the own block, in another's, in one that nobody has"]],
  },
  {
    of: "AssignIP",
    does: "of another node's block: not under strictAffinity",
    shown: [[CLAIMS, "an address of another node's block, when strictAffinity says no → no-free-block"]],
  },
  { of: "AssignIP", does: "in use: an error that says whose", shown: [[WISHES, "an address and a hardware address; the same address for nobody else"]] },
  { of: "AssignIP", does: "reservations are not looked at", shown: [[WISHES, "reserved addresses go to who asks only"]] },
  {
    of: "AssignIP",
    does: "a floating address is some pod's already",
    shown: [
      [WISHES, "a floating address, on whatever node, is no pod's own"],
      [CLAIMS, "a floating address is lent to nobody"],
    ],
  },
  {
    of: "ReleaseIPs",
    does: "only of the handle that has it",
    shown: [
      [ALLOCATOR, "a late release does not free another's address"],
      [ADDRESSES, "release: only with the handle that has it"],
    ],
  },
  {
    of: "ReleaseIPs",
    does: "an older sequence number frees nothing",
    instead: "claims and generations name a node's life and a report's place in it",
    shown: [
      [COLLECTOR, "an address that was given again since the finding is not freed"],
      [HOLDINGS, "a release under an older claim does nothing"],
    ],
  },
  {
    of: "ReleaseIPs",
    does: "of what is free already: nothing",
    shown: [["agent/pods/manager.test.ts", "ADD: address, pair, policy; again: the same; DEL: all gone; again: nothing"]],
  },
  { of: "ReleaseIPs", does: "all of a handle's blocks", shown: [["agent/pods/manager.test.ts", "ADD: address, pair, policy; again: the same; DEL: all gone"]] },
  { of: "reservations", does: "skipped when no address is asked for", shown: [[WISHES, "reserved addresses go to who asks only"]] },
  { of: "reservations", does: "given to who names the address", shown: [[WISHES, "reserved addresses go to who asks only"]] },
  { of: "reservations", does: "blocks that are reserved as a whole are not claimed", shown: [[CLAIMS, "none that is reserved as a whole"]] },
  { of: "reservations", does: "not lent either", shown: [[CLAIMS, "a reserved address is lent to nobody who does not name it"]] },
  {
    of: "annotations",
    does: "ipAddrs: a JSON list, one of a family",
    shown: [
      [SELECTION, "both families' addresses"],
      [SELECTION, "more than one address of a family"],
      [SELECTION, '{ ipAddrs: "[]" }'],
    ],
  },
  {
    of: "annotations",
    does: "ipv4pools, ipv6pools: of pod or namespace, the pod's win",
    shown: [
      [SELECTION, "the pod's over the namespace's"],
      [SELECTION, "a pool of IPv6"],
    ],
  },
  {
    of: "annotations",
    does: "ipFamilies: of pod or namespace",
    shown: [
      [SELECTION, "the namespace's family"],
      [SELECTION, "the pod's family over the namespace's"],
    ],
  },
  {
    of: "annotations",
    does: "hwAddr: of the pod",
    shown: [
      [SELECTION, "a hardware address"],
      [SELECTION, "no hardware address"],
    ],
  },
  {
    of: "annotations",
    does: "ipAddrs and hwAddr of a namespace mean nothing",
    shown: [[SELECTION, "an address of a pod's alone: the namespace's is not read"]],
  },
  {
    of: "annotations",
    does: "floatingIPs",
    shown: [
      ["src/compute/floating.test.ts", "are told to the pod's node with its record"],
      ["test/kernel/floating.kernel.test.ts", "is reached from a pod of another node"],
    ],
  },
  {
    of: "annotations",
    does: "what is not understood: the pod gets no address, and its owner is told",
    shown: [[WISHES, "what is not understood is told, and no address is given"]],
  },
];

describe("Calico's IPAM, step by step", () => {
  it.each(TABLE.map((step) => ({ ...step, title: `${step.of}: ${step.does}` })))("$title", ({ shown }) => {
    expect(shown.length).toBeGreaterThan(0);
    for (const [file, text] of shown) expect([file, text, readFileSync(join(ROOT, file), "utf8").includes(text)]).toEqual([file, text, true]);
  });

  it("the table has every step of every operation, once", () => {
    const counts = Object.fromEntries(Object.keys(STEPS).map((operation) => [operation, TABLE.filter((step) => step.of === operation).length]));
    expect(counts).toEqual(STEPS);
    expect(new Set(TABLE.map((step) => `${step.of} ${step.does}`)).size).toBe(TABLE.length);
  });
});
