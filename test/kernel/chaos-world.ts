/**
 * What a test that breaks things knows of the cluster, and what it may change in it, at random from a seed.
 *
 * While changes are on their way some nodes may have them and others not: a lane's verdict is certain only where all worlds that may be in force somewhere
 * agree, for egress at the source and ingress at the destination each. The oracle is test/conformance/naive-network-policy.ts, not the program.
 */
import type { IpAddress } from "../../src/net/ip.ts";
import {
  isAllowed,
  type NaiveEnd,
  type NaivePeer,
  type NaivePod,
  type NaivePolicy,
  type NaivePort,
  type NaiveRule,
  type NaiveSelector,
} from "../conformance/naive-network-policy.ts";
import type { LaneKey, Verdict } from "./accounted-traffic.ts";

export const TCP_PORTS: readonly number[] = [8080, 9100];
export const UDP_PORTS: readonly number[] = [9000, 9001];
export const NAMESPACES: readonly string[] = ["a", "b", "c"];
export const APPS: readonly string[] = ["x", "y", "z"];

export interface WorldPod extends NaivePod {
  readonly name: string;
  /** Of this incarnation: also the container's, and in the API's metadata the uid is another. */
  readonly id: string;
  readonly node: string;
  readonly addresses: readonly IpAddress[];
}

export interface World {
  readonly namespaces: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly pods: ReadonlyMap<string, WorldPod>;
  readonly policies: ReadonlyMap<string, NaivePolicy>;
}

export type Change = (world: World) => World;

/** All worlds that may be in force somewhere. */
export class Worlds {
  #possible: readonly World[];
  #newest: World;

  constructor(world: World) {
    this.#possible = [world];
    this.#newest = world;
  }

  /** With all changes. */
  get newest(): World {
    return this.#newest;
  }

  /** Events of different kinds may overtake each other: with and without each. */
  begin(change: Change): void {
    this.#newest = change(this.#newest);
    this.#possible = [...this.#possible, ...this.#possible.map(change)];
  }

  settled(): void {
    this.#possible = [this.#newest];
  }

  verdictOf({ from, to, protocol, port }: LaneKey): Verdict {
    let egress: Verdict | undefined;
    let ingress: Verdict | undefined;
    for (const world of this.#possible) {
      const source = world.pods.get(from);
      const destination = world.pods.get(to);
      // Before the pod is known it is closed.
      if (source === undefined || destination === undefined) {
        egress = join(egress, egress ?? "deny");
        continue;
      }
      // Policies look at addresses of one family; all of a pod's count alike here, as every block in use covers both or neither.
      const naive = { namespaces: world.namespaces, policies: [...world.policies.values()] };
      const probe = { from: endOf(source), to: endOf(destination), protocol, port };
      egress = join(egress, isAllowed(naive, probe, "egress") ? "allow" : "deny");
      ingress = join(ingress, isAllowed(naive, probe, "ingress") ? "allow" : "deny");
    }
    const isUnknownSomewhere = this.#possible.some(({ pods }) => !pods.has(from) || !pods.has(to));
    if (egress === undefined || ingress === undefined) return "open";
    if (ingress === "deny" || egress === "deny") return "deny";
    return egress === "allow" && ingress === "allow" && !isUnknownSomewhere ? "allow" : "open";
  }
}

function join(a: Verdict | undefined, b: Verdict): Verdict {
  return a === undefined || a === b ? b : "open";
}

function endOf(pod: WorldPod): NaiveEnd {
  return { address: pod.addresses[0] ?? "", pod };
}

/** Mulberry32: the same sequence for the same seed. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** From 0 up to, without, 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }

  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  chance(share: number): boolean {
    return this.next() < share;
  }

  pick<T>(list: readonly T[]): T {
    const picked = list[this.below(list.length)];
    if (picked === undefined) throw new RangeError("nothing to pick from");
    return picked;
  }

  some<T>(most: number, make: () => T): T[] {
    return Array.from({ length: this.below(most + 1) }, make);
  }
}

/** Names differ by app, so that a named port is another number on another pod. */
export function portsOf(app: string): NaivePod["ports"] {
  const [http, alt] = app === "z" ? [9100, 8080] : [8080, 9100];
  return [
    { name: "http", protocol: "TCP", port: http },
    { name: "alt", protocol: "TCP", port: alt },
    { name: "dns", protocol: "UDP", port: 9000 },
  ];
}

export function randomLabels(random: Random): Readonly<Record<string, string>> {
  return { app: random.pick(APPS), ...(random.chance(0.6) ? { tier: random.pick(["front", "back"]) } : {}) };
}

export function randomNamespaceLabels(random: Random): Readonly<Record<string, string>> {
  return { ...(random.chance(0.7) ? { team: random.pick(["red", "blue"]) } : {}), ...(random.chance(0.4) ? { trusted: "yes" } : {}) };
}

export function randomPolicy(random: Random, namespace: string, name: string): NaivePolicy {
  const policyTypes = random.pick([["Ingress"], ["Egress"], ["Ingress", "Egress"]]);
  const rules = (side: "from" | "to"): readonly NaiveRule[] =>
    random.some(2, () => {
      const [peers, ports] = [random.some(2, () => randomPeer(random)), random.some(2, () => randomPort(random))];
      return { ...(peers.length > 0 ? { [side]: peers } : {}), ...(ports.length > 0 ? { ports } : {}) };
    });
  return {
    metadata: { namespace, name },
    spec: {
      podSelector: random.chance(0.2) ? {} : randomSelector(random, "app", APPS),
      policyTypes,
      ...(policyTypes.includes("Ingress") ? { ingress: rules("from") } : {}),
      ...(policyTypes.includes("Egress") ? { egress: rules("to") } : {}),
    },
  };
}

function randomPeer(random: Random): NaivePeer {
  switch (random.below(4)) {
    case 0:
      return { podSelector: randomSelector(random, "app", APPS) };
    case 1:
      return { namespaceSelector: randomSelector(random, "team", ["red", "blue"]) };
    case 2:
      return {
        namespaceSelector: random.chance(0.5) ? {} : randomSelector(random, "trusted", ["yes"]),
        podSelector: randomSelector(random, "tier", ["front", "back"]),
      };
    default:
      return { podSelector: {} };
  }
}

function randomSelector(random: Random, key: string, values: readonly string[]): NaiveSelector {
  switch (random.below(5)) {
    case 0:
      return { matchExpressions: [{ key, operator: "NotIn", values: [random.pick(values)] }] };
    case 1:
      return { matchExpressions: [{ key, operator: "Exists" }] };
    case 2:
      return { matchExpressions: [{ key, operator: "DoesNotExist" }] };
    default:
      return { matchLabels: { [key]: random.pick(values) } };
  }
}

function randomPort(random: Random): NaivePort {
  return random.pick<NaivePort>([
    { protocol: "TCP", port: 8080 },
    { protocol: "TCP", port: "http" },
    { protocol: "TCP", port: "alt" },
    { protocol: "UDP", port: 9000, endPort: 9001 },
    { protocol: "UDP", port: "dns" },
    { protocol: "UDP", port: 9001 },
    { protocol: "TCP" },
  ]);
}
