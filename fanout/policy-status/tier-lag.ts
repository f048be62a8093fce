/**
 * What the whole tier knows, put together from each server's report: on how many nodes a policy is in force, and which lack it and why.
 *
 * Pure. Invariant: a node counts as having a policy only when some server has a session of it and no server says that it lacks it, and every server has come
 * as far in the API's history as the object: a server that has not seen a policy yet cannot know who lacks it.
 */
import type { RecordKey } from "../../src/model/record.ts";
import type { LagReport } from "./lag.ts";

/** Lagging nodes that are named; the rest is counted. */
export const MAX_NAMED = 10;

export interface TierAnswers {
  readonly reports: readonly LagReport[];
  /** Servers that should have answered and did not, with the reason. */
  readonly unanswered: readonly { readonly server: string; readonly reason: string }[];
}

export interface LaggingNode {
  readonly node: string;
  readonly reason: string;
  /** To a server that answered. */
  readonly isConnected: boolean;
}

/** The nodes that a policy concerns. */
export interface ConcernedNodes {
  readonly size: number;
  readonly has: (node: string) => boolean;
  readonly names: () => Iterable<string>;
}

const NOBODY: readonly LaggingNode[] = [];

export class TierLag {
  readonly #tier: TierAnswers;
  readonly #byPolicy = new Map<RecordKey, LaggingNode[]>();
  /** Nodes that lack all that they should have, with the reason. */
  readonly #without = new Map<string, LaggingNode>();
  /** Places of the nodes that lag anything, in the order in which people count: worked out once, not at each policy. */
  #ranks: ReadonlyMap<string, number> | undefined;

  /** `nodes`: all that should have anything. */
  constructor(tier: TierAnswers, nodes: Iterable<string>) {
    this.#tier = tier;
    const connected = new Set(tier.reports.flatMap((report) => report.connected));
    const absence = absenceText(tier);
    for (const node of nodes) if (!connected.has(node)) this.#without.set(node, { node, reason: absence, isConnected: false });
    for (const { lagging } of tier.reports) {
      for (const { node, reason, policies, failures } of lagging) {
        if (policies === undefined) this.#without.set(node, { node, reason, isConnected: true });
        const failed = new Set(failures.map(({ policy }) => policy));
        for (const { policy, reason: why } of failures) this.#add(policy, { node, reason: why, isConnected: true });
        for (const policy of policies ?? []) if (!failed.has(policy)) this.#add(policy, { node, reason, isConnected: true });
      }
    }
  }

  /** The nodes that lack the policy, of those concerned, by name. Cost: the nodes that lack something or those that are concerned, whichever are fewer. */
  laggingOf(policy: RecordKey, { size, has, names }: ConcernedNodes): readonly LaggingNode[] {
    const own = this.#byPolicy.get(policy);
    if (own === undefined && this.#without.size === 0) return NOBODY;
    const lagging = new Map<string, LaggingNode>();
    if (size < this.#without.size) {
      for (const node of names()) {
        const one = this.#without.get(node);
        if (one !== undefined) lagging.set(node, one);
      }
    } else for (const [node, one] of this.#without) if (has(node)) lagging.set(node, one);
    for (const one of own ?? []) if (has(one.node)) lagging.set(one.node, one);
    const ranks = this.#ranked();
    return [...lagging.values()].sort((a, b) => (ranks.get(a.node) ?? 0) - (ranks.get(b.node) ?? 0));
  }

  #ranked(): ReadonlyMap<string, number> {
    if (this.#ranks !== undefined) return this.#ranks;
    const nodes = new Set(this.#without.keys());
    for (const { lagging } of this.#tier.reports) for (const { node } of lagging) nodes.add(node);
    this.#ranks = new Map([...nodes].sort(NODE_ORDER.compare).map((node, i) => [node, i]));
    return this.#ranks;
  }

  /** Why it cannot be said yet for an object of the kind with this resourceVersion (0n: not comparable); undefined: it can. */
  blindness(kind: string, resourceVersion: bigint): string | undefined {
    for (const { server, isInSync, reached } of this.#tier.reports) {
      if (!isInSync) return `server ${server} does not have the whole cluster yet`;
      const has = reached.get(kind);
      if (has !== undefined && has < resourceVersion) return `server ${server} has not seen this version yet`;
    }
    return undefined;
  }

  get unanswered(): TierAnswers["unanswered"] {
    return this.#tier.unanswered;
  }

  #add(policy: RecordKey, lagging: LaggingNode): void {
    const list = this.#byPolicy.get(policy);
    if (list === undefined) this.#byPolicy.set(policy, [lagging]);
    else list.push(lagging);
  }
}

function absenceText({ unanswered: [first] }: TierAnswers): string {
  return first === undefined ? "not connected" : `not connected to a server that answers (${first.server} does not: ${first.reason})`;
}

/** n2 before n10. */
const NODE_ORDER = new Intl.Collator("en", { numeric: true });
