/**
 * A policy's status as conditions of Kubernetes' form. Pure.
 *
 * Accepted: it is understood, and can be enforced, as written. Programmed: the nodes that it concerns have it in their kernels. The two are told apart
 * because they ask for different people: the first for who wrote the policy, the second for who runs the nodes.
 */
import type { Outcome } from "../../src/compute/problems.ts";
import type { PolicyStatus } from "./statuses.ts";
import { MAX_NAMED } from "./tier-lag.ts";

export interface Condition {
  readonly type: "Accepted" | "Programmed";
  readonly status: "True" | "False" | "Unknown";
  readonly reason: string;
  readonly message: string;
}

/** Problems that are named; the rest is counted. */
const MAX_PROBLEMS = 8;
/** Longest text of one reason or problem; whole messages stay far below what the API takes. */
const MAX_TEXT = 300;

export const OUTCOME_TEXTS: Readonly<Record<Outcome, string>> = {
  narrowed: "what cannot be enforced lets nothing through; the rest is in force",
  earlier: "the version before it stays in force",
  closed: "a stand-in is in force that lets nothing more through than the policy may have meant",
  nothing: "it is in force nowhere",
  unused: "the rest is in force",
};

const REASONS: Readonly<Record<Outcome, string>> = {
  narrowed: "NotEnforceable",
  earlier: "Invalid",
  closed: "Invalid",
  nothing: "Invalid",
  unused: "NotEnforceable",
};

export function conditionsOf(status: PolicyStatus): readonly [Condition, Condition] {
  return [accepted(status), programmed(status)];
}

function accepted({ problems }: PolicyStatus): Condition {
  if (problems === undefined) return { type: "Accepted", status: "True", reason: "Accepted", message: "understood as written" };
  const named = problems.problems.slice(0, MAX_PROBLEMS).map(({ field, message }) => `${field}: ${clip(message)}`);
  const more = problems.problems.length - named.length;
  const message = `${named.join("; ")}${more > 0 ? `; and ${more} more` : ""}: ${OUTCOME_TEXTS[problems.outcome]}`;
  return { type: "Accepted", status: "False", reason: REASONS[problems.outcome], message };
}

function programmed({ isStaged, nodes, lagging, problems, unknown }: PolicyStatus): Condition {
  const of = (status: Condition["status"], reason: string, message: string): Condition => ({ type: "Programmed", status, reason, message });
  if (isStaged) return of("False", "Staged", "a staged policy is compared (sedge policy diff, sedge trace) and never enforced");
  if (unknown !== undefined) return of("Unknown", "NotKnown", unknown);
  if (problems?.outcome === "nothing") return of("False", "Invalid", OUTCOME_TEXTS.nothing);
  const instead = problems?.outcome === "earlier" || problems?.outcome === "closed" ? ` (${OUTCOME_TEXTS[problems.outcome]})` : "";
  if (nodes === 0) return of("True", "NoEndpoints", `no node has an endpoint that it applies to${instead}`);
  if (lagging.length > 0)
    return of("False", "NodesLag", `in force on ${number(nodes - lagging.length)} of ${number(nodes)} nodes; ${laggingText(lagging)}${instead}`);
  return of(
    instead === "" ? "True" : "False",
    instead === "" ? "Programmed" : "Invalid",
    `in force on ${nodes === 1 ? "the one node" : `all ${number(nodes)} nodes`} that it concerns${instead}`,
  );
}

/** "n17: not connected; n203: …; and 8 more" */
export function laggingText(lagging: PolicyStatus["lagging"], most = MAX_NAMED): string {
  const named = lagging.slice(0, most).map(({ node, reason }) => `${node}: ${clip(reason)}`);
  const more = lagging.length - named.length;
  return `${named.join("; ")}${more > 0 ? `; and ${number(more)} more` : ""}`;
}

/** Made once: each toLocaleString() looks its format up anew, which would be most of what a quiet policy costs. */
const FORMAT = new Intl.NumberFormat("en-US");

/** 4,998 */
function number(value: number): string {
  return FORMAT.format(value);
}

function clip(text: string): string {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT - 1)}…` : text;
}
