/**
 * What one member more and one less of a set costs the kernel, and what a packet's look into it, by the set's form and size: `sedge bench kernel-sets`. Needs
 * root (exit code 1 without); works in a namespace of its own. One JSON line each; `ratio` is the median to that of the smallest size: flat is 1.
 *
 * "addresses" is a hash table; "prefixes, intervals" what a small set of prefixes is (a red-black tree in the kernel); "prefixes, N lengths" what a large one is: a
 * hash table for each length. A lookup is that of a packet which is no member, so that it looks into all; it is what sending a packet through a chain takes more
 * with many copies of the lookup than with none.
 */
import { execFileSync } from "node:child_process";
import { loadavg } from "node:os";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { NftDriver } from "../../agent/drivers/nftables/driver.ts";
import type { NftElement, NftMatch, NftOperation, NftRule, NftSet } from "../../agent/plan/nft/ruleset.ts";
import { StartError } from "../../src/runtime/start-error.ts";
import { benchSettings } from "../settings.ts";

const SIZES = [1_000, 10_000, 100_000];
const CHANGES = 200;
const AT_ONCE = 5_000;
/** Copies of the lookup in the chain. */
const COPIES = 40;
const PACKETS = fileURLToPath(new URL("packets.ts", import.meta.url));
const TABLE = { family: "inet", name: "sedge-bench" } as const;
const NAMESPACE = `sedge-bench-sets-${process.pid}`;

interface Form {
  readonly name: string;
  readonly sets: readonly NftSet[];
  /** The i-th member, of the set with that index. */
  readonly member: (i: number) => { readonly set: number; readonly element: NftElement };
  /** Of a set; undefined: the address as it is. */
  readonly lengthOf: (set: number) => number | undefined;
}

/** A /24 for each. */
const block = (i: number): string => `${11 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`;

function byLength(lengths: readonly number[]): Form {
  return {
    name: `prefixes, ${lengths.length} lengths`,
    sets: lengths.map((length) => ({ name: `nets-${length}`, key: ["ipv4_addr"] })),
    member: (i) => ({ set: i % lengths.length, element: { key: `${block(i)}.0` } }),
    lengthOf: (set) => lengths[set],
  };
}

const FORMS: readonly Form[] = [
  {
    name: "addresses",
    sets: [{ name: "hash", key: ["ipv4_addr"] }],
    member: (i) => ({ set: 0, element: { key: `${block(i)}.1` } }),
    lengthOf: () => undefined,
  },
  {
    name: "prefixes, intervals",
    sets: [{ name: "tree", key: ["ipv4_addr"], intervals: true }],
    member: (i) => ({ set: 0, element: { key: `${block(i)}.0/${24 + (i % 8)}` } }),
    lengthOf: () => undefined,
  },
  byLength([24, 25, 26, 27, 28, 29, 30, 31]),
  // As if they were shorter than their blocks: what is looked for is not there either way.
  byLength(Array.from({ length: 24 }, (_, i) => 8 + i)),
];

async function measure(form: Form, size: number): Promise<Readonly<Record<string, number>>> {
  execFileSync("ip", ["netns", "add", NAMESPACE]);
  try {
    using nft = NftDriver.open({ netns: `/run/netns/${NAMESPACE}` });
    await nft.apply({ operations: [{ kind: "add-table", table: TABLE }, ...form.sets.map((set): NftOperation => ({ kind: "add-set", table: TABLE, set }))] });
    for (let from = 0; from < size; from += AT_ONCE) {
      const members = Array.from({ length: Math.min(AT_ONCE, size - from) }, (_, i) => form.member(from + i));
      await nft.apply({
        operations: form.sets.map((set, index) => {
          const elements = members.filter((member) => member.set === index).map(({ element }) => element);
          return { kind: "add-elements", table: TABLE, set, elements } as const;
        }),
      });
    }
    const changes = await measureChanges(nft, form, size);
    return { ...changes, lookupNs: await measureLookup(nft, form) };
  } finally {
    execFileSync("ip", ["netns", "delete", NAMESPACE]);
  }
}

async function measureChanges(nft: NftDriver, form: Form, size: number): Promise<{ readonly medianUs: number; readonly p99Us: number }> {
  const times: number[] = [];
  for (let i = 0; i < CHANGES; i++) {
    const member = form.member((i * 7_919) % size);
    const set = form.sets[member.set];
    if (set === undefined) throw new Error("no set");
    for (const kind of ["delete-elements", "add-elements"] as const) {
      const began = performance.now();
      await nft.apply({ operations: [{ kind, table: TABLE, set, elements: [member.element] }] });
      times.push(performance.now() - began);
    }
  }
  times.sort((a, b) => a - b);
  const at = (share: number): number => Math.round((times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0) * 1_000);
  return { medianUs: at(0.5), p99Us: at(0.99) };
}

async function measureLookup(nft: NftDriver, { sets, lengthOf }: Form): Promise<number> {
  const ip = (...argv: readonly string[]): unknown => execFileSync("ip", ["-n", NAMESPACE, ...argv]);
  ip("link", "set", "lo", "up");
  ip("route", "add", "local", "0.0.0.0/0", "dev", "lo");
  const lookups = sets.map(({ name }, index): NftRule => {
    const prefixLength = lengthOf(index);
    const match: NftMatch = { kind: "lookup", fields: ["ip daddr"], ...(prefixLength === undefined ? {} : { prefixLength }), set: name };
    return { statements: [match, { kind: "return" }] };
  });
  const jump: NftRule = { statements: [{ kind: "jump", chain: "lookup" }] };
  const drop: NftRule = { statements: [{ kind: "drop" }] };
  const addRules = (chain: string, rules: readonly NftRule[]): readonly NftOperation[] =>
    rules.map((rule) => ({ kind: "add-rule", table: TABLE, chain, rule }));
  await nft.apply({
    operations: [
      { kind: "add-chain", table: TABLE, chain: { name: "lookup" } },
      { kind: "add-chain", table: TABLE, chain: { name: "packets", base: { type: "filter", hook: "prerouting", priority: 0, policy: "accept" } } },
      ...addRules("packets", [...Array.from({ length: COPIES }, () => jump), drop]),
    ],
  });
  const withNone = fastestPacketNs();
  await nft.apply({ operations: addRules("lookup", lookups) });
  return Math.round((fastestPacketNs() - withNone) / COPIES);
}

/** Of some rounds the fastest, as others' work only adds. */
function fastestPacketNs(): number {
  return Number(execFileSync("ip", ["netns", "exec", NAMESPACE, process.execPath, PACKETS], { encoding: "utf8" }));
}

export async function main(argv: readonly string[]): Promise<number> {
  if (benchSettings(z.strictObject({}), { argv, usage: { name: "kernel-sets" } }) === undefined) return 0;
  if (process.getuid?.() !== 0) throw new StartError("it makes a network namespace and sets in it: run it as root");
  const [loadAverage = 0] = loadavg();
  for (const form of FORMS) {
    let smallest: number | undefined;
    for (const size of SIZES) {
      const result = await measure(form, size);
      smallest ??= result["medianUs"];
      const ratio = Math.round(((result["medianUs"] ?? 0) / Math.max(1, smallest ?? 1)) * 10) / 10;
      process.stdout.write(`${JSON.stringify({ bench: "kernel-sets", loadAverage, form: form.name, size, ...result, ratio })}\n`);
    }
  }
  return 0;
}
