/**
 * What one change costs a node, from the records to the bytes for the kernel: `sedge bench plan`.
 *
 * Plan, difference and encoding, without the kernel. One JSON line for each size; `ratio` is its median to the smallest size's of the same scenario: flat
 * is 1. Sets have shards of 64 members, as the server makes them.
 */
import { performance } from "node:perf_hooks";
import { z } from "zod";
import { encodeTransaction } from "../../agent/drivers/nftables/encode.ts";
import { diffRulesets } from "../../agent/plan/diff.ts";
import type { PlannedEndpoint } from "../../agent/plan/planned-endpoint.ts";
import { desiredRuleset, PlanCache } from "../../agent/plan/ruleset.ts";
import { cutPolicies, listPlace } from "../../src/compute/policy-lists.ts";
import { podKey } from "../../src/model/names.ts";
import { type Policy, type RecordKey, type RecordValue, type RuleSide, recordKey, type SetType } from "../../src/model/record.ts";
import { parseIp } from "../../src/net/ip.ts";
import { benchSettings } from "../settings.ts";

interface Scenario {
  readonly name: string;
  readonly sizes: readonly number[];
  readonly world: (size: number) => readonly RecordValue[];
  /** The records of the i-th change; its value replaces that of its key. */
  readonly change: (size: number, i: number) => RecordValue;
}

const SHARD_SIZE = 64;
const CHANGES = 400;
const WARM_UP = 100;
const SETTINGS = { nodeName: "n1", interfacePrefix: "cali" };
const NOTHING: RuleSide = { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };
const podAt = (i: number): PlannedEndpoint => ({ podKey: podKey("shop", `p${i}`), interfaceName: `cali${i}`, addresses: [parseIp(`10.65.0.${i}`)] });
const FIRST_POD = podAt(0);
const PODS: readonly PlannedEndpoint[] = Array.from({ length: 100 }, (_, i) => podAt(i));

const SCENARIOS: readonly Scenario[] = [
  setScenario("one address of a set", "address", (i) => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`),
  setScenario("one prefix of a set", "prefix", (i) => `10.${i >> 12}.${(i >> 4) & 255}.${(i & 15) << 4}/28`),
  setScenario("one named port of a set", "address-port", (i) => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255},tcp:80`),
  {
    name: "one rule of one of so many policies",
    sizes: [10, 100, 1_000],
    world: (size) => [
      ...Array.from({ length: size }, (_, i) => policy(i, 80)),
      stackOf(Array.from({ length: size }, (_, i) => recordKey(policy(i, 80)))),
      ...PODS.map((pod) => endpoint(pod)),
    ],
    change: (size, i) => policy(i % size, 1_000 + i),
  },
  {
    name: "one pod's policy, among so many policies",
    sizes: [10, 100, 1_000],
    world: (size) => [
      ...Array.from({ length: size }, (_, i) => policy(i, 80)),
      // Ten policies a stack, as clusters have them.
      ...Array.from({ length: size / 10 }, (_, i) =>
        stackOf(
          Array.from({ length: 10 }, (_unused, j) => recordKey(policy(i * 10 + j, 80))),
          `x${i}`,
        ),
      ),
      ...PODS.map((pod, i) => endpoint(pod, `x${i % (size / 10)}`)),
    ],
    change: (size, i) => endpoint(PODS[i % PODS.length] ?? FIRST_POD, `x${(i + 1) % (size / 10)}`),
  },
  {
    name: "one policy more or less, among so many of one stack",
    sizes: [300, 1_000, 10_000],
    world: (size) => [...Array.from({ length: size }, (_, i) => policy(i, 80)), ...longStack(size), ...PODS.map((pod) => endpoint(pod))],
    change: (size, i) => {
      const lists = longStack(size).filter((value) => value.kind === "policy-list");
      const list = lists[i % lists.length];
      if (list?.kind !== "policy-list") throw new Error("no list");
      return i % 2 === 0 ? { ...list, policies: list.policies.slice(1) } : list;
    },
  },
  {
    name: "another node, among so many",
    sizes: [100, 1_000, 5_000],
    world: (size) => [...Array.from({ length: size }, (_, i) => node(i, 0)), ...PODS.map((pod) => endpoint(pod)), stackOf([])],
    change: (size, i) => node(i % size, i),
  },
];

function setScenario(name: string, type: SetType, member: (i: number) => string): Scenario {
  const shard = (size: number, number: number, isOdd: boolean): RecordValue => {
    const first = number * SHARD_SIZE;
    const count = Math.min(SHARD_SIZE, size - first);
    const members = Array.from({ length: count }, (_, i) => member(first + i));
    // One comes and goes.
    return { kind: "set", id: "s", shard: number.toString(2).padStart(12, "0"), type, members: isOdd ? members.slice(1) : members };
  };
  const portSets = type === "address-port" ? ["s"] : [];
  const rule = {
    action: "allow" as const,
    protocol: 6,
    source: { ...NOTHING, sets: portSets.length === 0 ? ["s"] : [] },
    destination: { ...NOTHING, portSets },
    origin: 0,
  };
  return {
    name,
    sizes: [1_000, 10_000, 100_000],
    world: (size) => [
      ...Array.from({ length: Math.ceil(size / SHARD_SIZE) }, (_, number) => shard(size, number, false)),
      { ...policy(0, 80), ingress: [rule] },
      stackOf([recordKey(policy(0, 80))]),
      ...PODS.map((pod) => endpoint(pod)),
    ],
    change: (size, i) => shard(size, Math.floor(i / 2) % Math.ceil(size / SHARD_SIZE), i % 2 === 0),
  };
}

function policy(i: number, port: number): Policy {
  const rule = { action: "allow" as const, protocol: 6, source: NOTHING, destination: { ...NOTHING, ports: [{ first: port, last: port }] }, origin: 0 };
  return { kind: "policy", policyKind: "KubernetesNetworkPolicy", namespace: "shop", name: `p${i}`, tier: "default", ingress: [rule], egress: [] };
}

function stackOf(policies: readonly RecordKey[], id = "x"): RecordValue {
  return { kind: "stack", id, tiers: [{ name: "default", defaultAction: "deny", ingress: policies, egress: [] }], noMatchAction: "allow" };
}

/** As the server cuts it. */
function longStack(size: number): RecordValue[] {
  const known = longStacks.get(size);
  if (known !== undefined) return known;
  const keys = Array.from({ length: size }, (_, i) => recordKey(policy(i, 80))).sort();
  const records: RecordValue[] = [];
  const placed = keys.map((key) => ({ key, place: listPlace(key) }));
  const ingress = cutPolicies(placed, { stack: "x", direction: "ingress", tier: "default", put: (list) => void records.push(list) });
  records.push(stackOf(ingress));
  longStacks.set(size, records);
  return records;
}

const longStacks = new Map<number, RecordValue[]>();

function endpoint({ podKey: key }: PlannedEndpoint, stack = "x"): RecordValue {
  return { kind: "endpoint", namespace: "shop", pod: key.slice("shop/".length), uid: "", stack: `stack/${stack}`, addresses: [] };
}

function node(i: number, change: number): RecordValue {
  return { kind: "node", name: `n${i}` as never, addresses: [parseIp(`192.168.${change & 255}.${i & 255}`)], blocks: [] };
}

function measure({ world, change }: Scenario, size: number): Readonly<Record<string, number>> {
  const records = new Map<RecordKey, RecordValue>(world(size).map((value) => [recordKey(value), value]));
  const cache = new PlanCache();
  const input = { records, undecodable: new Map<RecordKey, string>(), endpoints: PODS, settings: SETTINGS };
  const began = performance.now();
  let installed = desiredRuleset(input, cache).ruleset;
  encodeTransaction(diffRulesets(undefined, installed), 1);
  const wholeMs = performance.now() - began;
  const times: number[] = [];
  let bytes = 0;
  for (let i = 0; i < WARM_UP + CHANGES; i++) {
    const value = change(size, i);
    const key = recordKey(value);
    const start = performance.now();
    records.set(key, value);
    const { ruleset } = desiredRuleset({ ...input, changed: new Set([key]) }, cache);
    const transaction = diffRulesets(installed, ruleset);
    if (transaction.operations.length > 0) bytes = encodeTransaction(transaction, 1).bytes.length;
    installed = ruleset;
    if (i >= WARM_UP) times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  return { wholeMs: rounded(wholeMs), medianUs: at(times, 0.5), p99Us: at(times, 0.99), bytes };
}

function at(sorted: readonly number[], share: number): number {
  return Math.round((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0) * 1000);
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}

export function main(argv: readonly string[]): Promise<number> {
  if (benchSettings(z.strictObject({}), { argv, usage: { name: "plan" } }) === undefined) return Promise.resolve(0);
  for (const scenario of SCENARIOS) {
    let smallest: number | undefined;
    for (const size of scenario.sizes) {
      const result = measure(scenario, size);
      smallest ??= result["medianUs"];
      const ratio = rounded((result["medianUs"] ?? 0) / Math.max(1, smallest ?? 1));
      process.stdout.write(`${JSON.stringify({ bench: "plan", scenario: scenario.name, size, ...result, ratio })}\n`);
    }
  }
  return Promise.resolve(0);
}
