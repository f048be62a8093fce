/** Packets against verdicts: which probes of a world go otherwise than the policies say. */
import { describeProbe, type PacketOutcome, type PacketProbe } from "../kernel/packets.ts";
import type { CaseProbe } from "./cases/case.ts";
import type { PacketCluster } from "./packet-cluster.ts";
import { evaluatedVerdicts, literalVerdicts, type PacketWorld } from "./packet-world.ts";
import { smallerPolicies } from "./smaller-policies.ts";

const TRIES = 3;

export interface Mismatch {
  readonly probe: PacketProbe;
  readonly text: string;
}

/** Brings the cluster to the world and makes the probes. The two evaluators and the packets must agree on each. */
export async function judge(cluster: PacketCluster, world: PacketWorld, probes: readonly PacketProbe[]): Promise<Mismatch[]> {
  await cluster.apply(world);
  const verdicts = evaluatedVerdicts(world, probes);
  const literal = literalVerdicts(world, probes);
  const packets = packetVerdicts(cluster, probes, verdicts);
  return probes.flatMap((probe, i) => {
    if (verdicts[i] === literal[i] && verdicts[i] === packets[i]) return [];
    return [{ probe, text: `${describeProbe(probe)}: evaluate ${verdicts[i]}, literally ${literal[i]}, packets ${packets[i]}` }];
  });
}

/**
 * What became of the probes in the cluster as it is: "allow", "deny", or what else with its reason.
 *
 * Silence where a packet should pass is asked again, as neighbours may have had to be found; a packet that passes where none should is final.
 */
export function packetVerdicts(cluster: PacketCluster, probes: readonly PacketProbe[], expected: readonly ("allow" | "deny")[]): string[] {
  const outcomes = cluster.prober.probe(probes);
  const silent = probes.filter((_, i) => expected[i] === "allow" && outcomes[i]?.verdict !== "allow");
  const again = new Map<PacketProbe, PacketOutcome>();
  for (let tries = 0; tries < TRIES && silent.some((probe) => again.get(probe)?.verdict !== "allow"); tries++) {
    cluster.prober.settle();
    for (const [i, outcome] of cluster.prober.probe(silent).entries()) if (silent[i] !== undefined) again.set(silent[i], outcome);
  }
  const denied = new Set(probes.filter((_, i) => expected[i] === "deny"));
  const late = new Set(cluster.prober.late.filter((probe) => denied.has(probe)));
  return probes.map((probe, i) => {
    if (late.has(probe)) return "arrived late";
    const { verdict = "none", detail = "" } = again.get(probe) ?? outcomes[i] ?? {};
    return `${verdict} ${detail}`.trim();
  });
}

/** A case's probes as packets. */
export function packetProbes(probes: readonly CaseProbe[]): PacketProbe[] {
  return probes.map(({ from, to, protocol, port }): PacketProbe => {
    if (protocol !== "TCP" && protocol !== "UDP" && protocol !== "SCTP" && protocol !== "ICMP") throw new RangeError(`no protocol ${protocol}`);
    return { from: from.place, to: to.place, version: from.address.includes(":") ? 6 : 4, protocol, port: port ?? 0 };
  });
}

/**
 * The smallest part of the world's policies on which a mismatch is left: policies, then rules, peers and ports are taken away one by one as long as one
 * of the probes still goes wrong.
 */
export async function shrink(cluster: PacketCluster, world: PacketWorld, probes: readonly PacketProbe[]): Promise<PacketWorld> {
  let smallest = world;
  for (let isSmaller = true; isSmaller; ) {
    isSmaller = false;
    for (const policies of smallerPolicies(smallest.policies)) {
      const candidate = { ...smallest, policies };
      if ((await judge(cluster, candidate, probes)).length === 0) continue;
      smallest = candidate;
      isSmaller = true;
      break;
    }
  }
  return smallest;
}
