/**
 * What one member more and one less of a kernel set costs, by the set's kind and size: `sedge bench kernel-sets`. Needs root (exit code 1 without); works in
 * a namespace of its own. One JSON line each; `ratio` is the median to that of the smallest size: flat is 1.
 *
 * "prefixes" is what a set of prefixes is today, an interval set (a red-black tree in the kernel); "masked addresses" is a hash table of the prefixes of one
 * length, which a rule would look into once for each length, with the address masked.
 */
import { execFileSync } from "node:child_process";
import { performance } from "node:perf_hooks";
import { z } from "zod";
import { NftDriver } from "../../agent/drivers/nftables/driver.ts";
import type { NftElement, NftSet } from "../../agent/plan/nft/ruleset.ts";
import { StartError } from "../../src/runtime/start-error.ts";
import { benchSettings } from "../settings.ts";

const SIZES = [1_000, 10_000, 100_000];
const CHANGES = 200;
const AT_ONCE = 5_000;
const TABLE = { family: "inet", name: "sedge-bench" } as const;

interface Kind {
  readonly name: string;
  readonly set: NftSet;
  readonly member: (i: number) => NftElement;
}

const address = (i: number): string => `10.${i >> 12}.${(i >> 4) & 255}.${(i & 15) << 4}`;
const KINDS: readonly Kind[] = [
  { name: "addresses", set: { name: "hash", key: ["ipv4_addr"] }, member: (i) => ({ key: address(i) }) },
  { name: "prefixes", set: { name: "tree", key: ["ipv4_addr"], intervals: true }, member: (i) => ({ key: `${address(i)}/28` }) },
  { name: "masked addresses", set: { name: "masked", key: ["ipv4_addr"] }, member: (i) => ({ key: address(i) }) },
];

const NAMESPACE = `sedge-bench-sets-${process.pid}`;

async function measure({ set, member }: Kind, size: number): Promise<Readonly<Record<string, number>>> {
  execFileSync("ip", ["netns", "add", NAMESPACE]);
  try {
    return await measureHere({ set, member }, size);
  } finally {
    execFileSync("ip", ["netns", "delete", NAMESPACE]);
  }
}

async function measureHere({ set, member }: Pick<Kind, "set" | "member">, size: number): Promise<Readonly<Record<string, number>>> {
  using nft = NftDriver.open({ netns: `/run/netns/${NAMESPACE}` });
  await nft.apply({
    operations: [
      { kind: "add-table", table: TABLE },
      { kind: "add-set", table: TABLE, set },
    ],
  });
  for (let from = 0; from < size; from += AT_ONCE) {
    const elements = Array.from({ length: Math.min(AT_ONCE, size - from) }, (_, i) => member(from + i));
    await nft.apply({ operations: [{ kind: "add-elements", table: TABLE, set, elements }] });
  }
  const times: number[] = [];
  for (let i = 0; i < CHANGES; i++) {
    const elements = [member((i * 7_919) % size)];
    for (const kind of ["delete-elements", "add-elements"] as const) {
      const began = performance.now();
      await nft.apply({ operations: [{ kind, table: TABLE, set, elements }] });
      times.push(performance.now() - began);
    }
  }
  times.sort((a, b) => a - b);
  const at = (share: number): number => Math.round((times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0) * 1_000);
  return { medianUs: at(0.5), p99Us: at(0.99) };
}

export async function main(argv: readonly string[]): Promise<number> {
  if (benchSettings(z.strictObject({}), { argv, usage: { name: "kernel-sets" } }) === undefined) return 0;
  if (process.getuid?.() !== 0) throw new StartError("it makes a network namespace and sets in it: run it as root");
  for (const kind of KINDS) {
    let smallest: number | undefined;
    for (const size of SIZES) {
      const result = await measure(kind, size);
      smallest ??= result["medianUs"];
      const ratio = Math.round(((result["medianUs"] ?? 0) / Math.max(1, smallest ?? 1)) * 10) / 10;
      process.stdout.write(`${JSON.stringify({ bench: "kernel-sets", kind: kind.name, size, ...result, ratio })}\n`);
    }
  }
  return 0;
}
