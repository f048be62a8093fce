/** The scenarios of a tier of servers. Each starts its own servers and agents, so that one leaves nothing to the next. */
import { commitOf, machine } from "../fanout/result.ts";
import { measureHandshakes } from "./handshakes.ts";
import type { TierOptions } from "./parts.ts";
import { measureRebalance } from "./rebalance.ts";
import { measureRelay } from "./relay.ts";
import type { Measured, TierResult, TierScenario } from "./result.ts";
import { measureRollingRestart } from "./rolling-restart.ts";

const MEASURE: Readonly<Record<TierScenario, (options: TierOptions) => Promise<Measured>>> = {
  "rolling-restart": measureRollingRestart,
  handshakes: measureHandshakes,
  rebalance: measureRebalance,
  relay: measureRelay,
};

/** Rejects when a process fails or a wait takes too long. */
export async function runTier(scenario: TierScenario, options: TierOptions): Promise<TierResult> {
  const before = machine();
  const measured = await MEASURE[scenario](options);
  const { podsPerNode, policies, seed, delivery } = options;
  const cluster = { agents: measured.agents, nodes: measured.agents, podsPerNode, policies, seed };
  return { bench: "tier", scenario, commit: commitOf(), delivery, machine: before, cluster, ...measured };
}
