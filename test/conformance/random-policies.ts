/**
 * NetworkPolicies and labels made from a seed: every feature of the API, aimed at the cases' world so that most of them match something.
 *
 * Its own generator in place of fast-check's: a run is named by one number, on the command line too, and shrinking is done on the policies (packet-judge.ts).
 */
import { cidrContainsCidr, parseCidr } from "../../src/net/cidr.ts";
import type { PacketProbe } from "../kernel/packets.ts";
import { type CasePod, NAMESPACE_LABELS, OUTSIDE, PODS } from "./cases/world.ts";
import type { NaivePeer, NaivePolicy, NaivePort, NaiveRule, NaiveSelector } from "./naive-network-policy.ts";
import { allProbes, type ExtraPod, NODES, type PacketWorld } from "./packet-world.ts";

const NAMESPACES = Object.keys(NAMESPACE_LABELS);
const PROTOCOLS = ["TCP", "UDP", "SCTP"] as const;
const POD_LABELS: Readonly<Record<string, readonly string[]>> = { pod: ["a", "b", "c"], tier: ["front", "back"], "x.io/env": ["dev", ""] };
const TEAM_LABELS: Readonly<Record<string, readonly string[]>> = { team: ["red", "blue"], stage: ["prod", "test"] };
const PORT_NAMES: Readonly<Record<string, readonly string[]>> = { TCP: ["web", "alt"], UDP: ["web-udp"], SCTP: ["web-sctp"] };

/** xorshift32: numbers from a seed. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    // Close seeds must not give close sequences.
    this.#state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) >>> 0 || 1;
    for (let i = 0; i < 8; i++) this.#next();
  }

  /** 0 to n - 1. */
  below(n: number): number {
    return this.#next() % n;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(list: readonly T[]): T {
    if (list.length === 0) throw new RangeError("pick from an empty list");
    return list[this.below(list.length)] as T;
  }

  /** Between `least` and `most` results of `make`. */
  several<T>(least: number, most: number, make: () => T): T[] {
    return Array.from({ length: least + this.below(most - least + 1) }, make);
  }

  #next(): number {
    this.#state ^= this.#state << 13;
    this.#state >>>= 0;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    this.#state >>>= 0;
    return this.#state;
  }
}

/** The world of a seed: labels and ports too are changed in every third, some have very many policies, and some hundreds of pods that only the API knows. */
export function randomWorld(seed: number): PacketWorld {
  const dice = new Dice(seed);
  const isOther = dice.chance(33);
  const pods = isOther ? PODS.map((pod) => randomPod(dice, pod)) : PODS;
  const namespaces = isOther ? Object.fromEntries(NAMESPACES.map((name) => [name, labelsOf(dice, TEAM_LABELS)])) : NAMESPACE_LABELS;
  const most = dice.chance(15) ? 30 : 7;
  const policies = dice
    .several(1, most, () => dice.pick(NAMESPACES))
    .map((namespace, i): NaivePolicy => ({ metadata: { namespace, name: `p${i}` }, spec: specOf(dice) }));
  return { namespaces, pods, policies, extras: dice.chance(30) ? extraPods(dice, 1 + dice.below(400)) : [] };
}

/** Some are over and left their address to somebody outside, some are on their host's network, some have one family only. */
function extraPods(dice: Dice, count: number): ExtraPod[] {
  return Array.from({ length: count }, (_, i): ExtraPod => {
    // Before and behind those of the real pods, where sets are sorted.
    const own = i % 2 === 0 ? [`10.64.${i >> 8}.${i & 0xff}`, `fd00:64::${i.toString(16)}`] : [`10.66.${i >> 8}.${i & 0xff}`, `fd00:66::${i.toString(16)}`];
    const base = { namespace: dice.pick(NAMESPACES), name: `extra-${i}`, labels: labelsOf(dice, POD_LABELS), ports: portsOf(dice) };
    const host = dice.pick(NODES);
    switch (dice.below(20)) {
      case 0:
        return { ...base, node: host.name, addresses: [OUTSIDE.v4, OUTSIDE.v6], phase: dice.pick(["Succeeded", "Failed"]) };
      case 1:
        return { ...base, node: host.name, addresses: [host.v4, host.v6], hostNetwork: true, phase: "Running" };
      case 2:
        return { ...base, node: "n9", addresses: [dice.pick(own)], phase: "Running" };
      default:
        return { ...base, node: dice.pick(["n1", "n2", "n3", "n9"]), addresses: own, phase: "Running" };
    }
  });
}

/** Some of all probes, the same for the same seed. */
export function randomProbes(world: PacketWorld, seed: number, count: number): PacketProbe[] {
  const dice = new Dice(seed + 7);
  const all = allProbes(world);
  return Array.from({ length: Math.min(count, all.length) }, () => all.splice(dice.below(all.length), 1)).flat();
}

function randomPod(dice: Dice, pod: CasePod): CasePod {
  return { ...pod, labels: labelsOf(dice, POD_LABELS), ports: portsOf(dice) };
}

function portsOf(dice: Dice): CasePod["ports"] {
  const [web, alt] = dice.pick([
    [80, 81],
    [81, 80],
    [82, 82],
    [80, 82],
  ] as const);
  if (dice.chance(20)) return [];
  return [
    { name: "web", protocol: "TCP", port: web },
    { name: "alt", protocol: "TCP", port: alt },
    { name: "web-udp", protocol: "UDP", port: web },
    { name: "web-sctp", protocol: "SCTP", port: alt },
    // One name for two ports, in two containers.
    ...(dice.chance(30) ? [{ name: "web", protocol: "TCP", port: 82 }] : []),
  ];
}

function labelsOf(dice: Dice, from: Readonly<Record<string, readonly string[]>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(from)
      .filter(() => dice.chance(60))
      .map(([key, values]) => [key, dice.pick(values)]),
  );
}

function specOf(dice: Dice): NaivePolicy["spec"] {
  const policyTypes = dice.pick([undefined, ["Ingress"], ["Egress"], ["Ingress", "Egress"], ["Ingress", "Egress"]]);
  const ingress = dice.chance(75) ? dice.several(0, 3, () => ruleOf(dice, "from")) : undefined;
  const egress = dice.chance(60) ? dice.several(0, 3, () => ruleOf(dice, "to")) : undefined;
  return {
    podSelector: dice.chance(40) ? {} : selectorOf(dice, POD_LABELS),
    ...(policyTypes === undefined ? {} : { policyTypes }),
    ...(ingress === undefined ? {} : { ingress }),
    ...(egress === undefined ? {} : { egress }),
  };
}

function ruleOf(dice: Dice, peersName: "from" | "to"): NaiveRule {
  return {
    ...(dice.chance(80) ? { [peersName]: dice.several(0, dice.chance(10) ? 15 : 3, () => peerOf(dice)) } : {}),
    ...(dice.chance(65) ? { ports: dice.several(0, dice.chance(10) ? 12 : 4, () => portOf(dice)) } : {}),
  };
}

function peerOf(dice: Dice): NaivePeer {
  switch (dice.below(4)) {
    case 0:
      return { podSelector: selectorOf(dice, POD_LABELS) };
    case 1:
      return { namespaceSelector: namespaceSelectorOf(dice) };
    case 2:
      return { podSelector: selectorOf(dice, POD_LABELS), namespaceSelector: namespaceSelectorOf(dice) };
    default:
      return { ipBlock: blockOf(dice) };
  }
}

function namespaceSelectorOf(dice: Dice): NaiveSelector {
  return dice.chance(30) ? selectorOf(dice, { "kubernetes.io/metadata.name": NAMESPACES }) : selectorOf(dice, TEAM_LABELS);
}

function selectorOf(dice: Dice, labels: Readonly<Record<string, readonly string[]>>): NaiveSelector {
  const keys = Object.keys(labels);
  const value = (key: string): string => (dice.chance(90) ? dice.pick(labels[key] ?? [""]) : "nobody");
  const expression = (): NonNullable<NaiveSelector["matchExpressions"]>[number] => {
    const key = dice.chance(90) ? dice.pick(keys) : "absent";
    const operator = dice.pick(["In", "NotIn", "Exists", "DoesNotExist"]);
    return operator === "In" || operator === "NotIn" ? { key, operator, values: dice.several(1, 2, () => value(key)) } : { key, operator };
  };
  const matched = dice.chance(50) ? dice.pick(keys) : undefined;
  return {
    ...(matched === undefined ? {} : { matchLabels: { [matched]: value(matched) } }),
    ...(dice.chance(50) ? { matchExpressions: dice.several(0, 2, expression) } : {}),
  };
}

/** Around an address of the world, with pieces of it left out. */
function blockOf(dice: Dice): NonNullable<NaivePeer["ipBlock"]> {
  const isV6 = dice.chance(40);
  const ends = [...PODS, OUTSIDE, ...NODES].map((end) => end[isV6 ? "v6" : "v4"]);
  const length = dice.pick(isV6 ? [0, 16, 64, 112, 120, 126, 128] : [0, 8, 16, 22, 24, 30, 31, 32]);
  const bits = isV6 ? 128 : 32;
  const address = dice.pick(ends);
  const inside =
    length === bits ? [] : dice.several(0, 3, () => `${dice.chance(70) ? dice.pick(ends) : address}/${Math.min(bits, length + 1 + dice.below(bits - length))}`);
  const except = inside.filter((text) => cidrContainsCidr(parseCidr(`${address}/${length}`), parseCidr(text)));
  return { cidr: `${address}/${length}`, ...(except.length > 0 ? { except } : {}) };
}

function portOf(dice: Dice): NaivePort {
  const protocol = dice.pick(PROTOCOLS);
  const stated = protocol === "TCP" && dice.chance(50) ? {} : { protocol };
  switch (dice.below(6)) {
    case 0:
      return stated;
    case 1: {
      const port = dice.pick([1, 79, 80, 81]);
      return { ...stated, port, endPort: dice.pick([81, 82, 83, 65535]) };
    }
    case 2:
      return { ...stated, port: dice.pick([...(PORT_NAMES[protocol] ?? []), "web", "nobody"]) };
    default:
      return { ...stated, port: 79 + dice.below(4) };
  }
}
