/**
 * What the staged policies of a cluster would decide on a connection, if all were promoted: the second half of `sedge trace --staged`.
 *
 * Nodes have nothing of staged policies, so neither do the server's records: the cluster's objects are read from its API and computed here, with the
 * same code as the server's.
 */
import type { SourcedObject } from "./manifests.ts";
import { applyChange } from "./policy-diff-world.ts";
import { answerProbe, type DirectionResult, type ProbeResult } from "./policy-probe.ts";
import { buildWorld } from "./policy-world.ts";
import { promotionsOf } from "./staged.ts";

/** The cluster's objects cannot be understood, or not the question in them. */
export class StagedTraceError extends Error {
  constructor(problems: readonly { readonly source: string; readonly message: string }[]) {
    super(problems.map(({ source, message }) => `--staged: ${source}: ${message}`).join("\n"));
    this.name = "StagedTraceError";
  }
}

export interface StagedVerdict {
  readonly verdict: "allow" | "deny";
  readonly egress: DirectionResult;
  readonly ingress: DirectionResult;
  /** "StagedGlobalNetworkPolicy deny-all (Set)" */
  readonly promoted: readonly string[];
}

export interface StagedQuestion {
  readonly from: string;
  readonly to: string;
  readonly protocol: string;
  readonly port: number | undefined;
}

/** Throws StagedTraceError. */
export function stagedVerdict(world: readonly SourcedObject[], { from, to, protocol, port }: StagedQuestion): StagedVerdict {
  const promotions = promotionsOf(world);
  const change = promotions.flatMap(({ becomes }) => becomes ?? []);
  const removed = promotions.flatMap(({ removes }) => removes ?? []);
  const built = buildWorld(applyChange(world, { change, removed, prune: false }));
  if (!built.ok) throw new StagedTraceError(built.problems);
  const answer = answerProbe(built.world, { from, to, protocol, ...(port === undefined ? {} : { port }) }, 0);
  if (!answer.ok) throw new StagedTraceError(answer.problems.map(({ message }) => ({ source: `${from} to ${to}`, message })));
  const { verdict, egress, ingress }: ProbeResult = answer.result;
  return { verdict, egress, ingress, promoted: promotions.map(({ staged, action }) => `${staged} (${action})`) };
}

export function stagedText({ verdict, egress, ingress, promoted }: StagedVerdict): string {
  if (promoted.length === 0) return "staged (not in force): there is no staged policy\n";
  const ends = [
    ["egress", egress],
    ["ingress", ingress],
  ] as const;
  const lines = ends.map(([direction, end]) => `  ${direction}: ${end.verdict}: ${end.reason}`);
  return [`staged (not in force): if all were promoted: ${verdict}`, ...lines, `  promoted: ${promoted.join(", ")}`, ""].join("\n");
}
