/**
 * The status of each policy: on how many nodes of the tier it is in force, which lack it and why, and what of it is not understood.
 *
 * Policies, and whom they concern, are this server's own knowledge (all servers agree on it); who lacks them comes from all servers. "Concerned" are the
 * nodes with an endpoint that the policy applies to.
 */
import { policyKey } from "../../src/compute/policies.ts";
import type { ObjectProblems } from "../../src/compute/problems.ts";
import type { NodeName } from "../../src/model/names.ts";
import { isPolicyKindName, POLICY_KINDS } from "../../src/model/policy-kinds.ts";
import type { RecordKey } from "../../src/model/record.ts";
import { describeKey, type ResourceKey } from "../../src/model/resource.ts";
import { policyKindOf } from "../../src/policy/convert-policy.ts";
import type { ObjectRecord } from "../object-log.ts";
import type { Origin } from "../services/origin.ts";
import type { NodeId } from "../table/node-ids.ts";
import type { Table } from "../table/table.ts";
import type { UpstreamVersions } from "../upstream-versions.ts";
import { type LagReport, type LagSessions, localLag } from "./lag.ts";
import { PolicyRelations } from "./relations.ts";
import { type ConcernedNodes, type LaggingNode, type TierAnswers, TierLag } from "./tier-lag.ts";

export interface PolicyStatus {
  readonly key: ResourceKey;
  readonly resourceVersion: string;
  /** 0: not known. */
  readonly generation: number;
  readonly revision: bigint;
  /** Never enforced. */
  readonly isStaged: boolean;
  readonly nodes: number;
  /** All of them, by name. */
  readonly lagging: readonly LaggingNode[];
  /** undefined: it is understood as written. */
  readonly problems: ObjectProblems | undefined;
  /** Why the nodes cannot be relied on yet; undefined: they can. */
  readonly unknown: string | undefined;
}

export interface PolicyStatusesOptions {
  readonly serverName: string;
  readonly table: Table;
  readonly sessions: LagSessions;
  readonly engine: Pick<Origin, "isInSync" | "problems" | "objects" | "refreshVersions">;
  readonly versions: UpstreamVersions | undefined;
  /** What the other servers answer; with a record key, about that policy. Absent: there are none. */
  readonly others?: (policy?: RecordKey) => Promise<TierAnswers>;
}

export class PolicyStatuses {
  readonly #options: PolicyStatusesOptions;
  readonly #relations: PolicyRelations;

  constructor(options: PolicyStatusesOptions) {
    this.#options = options;
    this.#relations = new PolicyRelations(options.table);
  }

  /** This server's own part: what it answers to another. */
  ownLag(policy?: RecordKey): LagReport {
    const { serverName, table, sessions, engine, versions } = this.#options;
    engine.refreshVersions();
    const sources = { table, sessions, relations: this.#relations };
    return { server: serverName, isInSync: engine.isInSync, reached: versions?.reached() ?? new Map(), ...localLag(sources, policy) };
  }

  /** Asks the tier once, for `one` policy or for all. */
  async collect(one?: ResourceKey): Promise<TierLag> {
    const { others, table } = this.#options;
    const policy = one === undefined ? undefined : recordKeyOf(one);
    const answers = (await others?.(policy)) ?? { reports: [], unanswered: [] };
    return new TierLag({ ...answers, reports: [this.ownLag(policy), ...answers.reports] }, table.nodes.names());
  }

  /** Of the policies that there are now, with what the tier said; `isWanted` undefined: all. Sorted by kind, namespace and name. */
  *statuses(tier: TierLag, isWanted: (key: ResourceKey) => boolean = () => true): Generator<PolicyStatus> {
    const { engine } = this.#options;
    const problems = new Map(engine.problems.map((entry) => [describeKey(entry.key), entry]));
    for (const [name, object] of engine.objects.sortedPolicies())
      if (isWanted(object.key)) yield this.#statusOf(object, { tier, problems: problems.get(name) });
  }

  #statusOf(object: ObjectRecord, { tier, problems }: { readonly tier: TierLag; readonly problems: ObjectProblems | undefined }): PolicyStatus {
    const { key, resourceVersion, generation, revision } = object;
    const { table } = this.#options;
    const isStaged = isPolicyKindName(key.kind) && POLICY_KINDS[key.kind].isStaged;
    const record = recordKeyOf(key);
    const audience = table.findEntry(record)?.audience;
    const lagging = audience === undefined ? [] : tier.laggingOf(record, concernedNodes(audience, table));
    const unknown = isStaged ? undefined : tier.blindness(key.kind, /^\d{1,19}$/.test(resourceVersion) ? BigInt(resourceVersion) : 0n);
    return { key, resourceVersion, generation, revision, isStaged, nodes: audience?.size ?? 0, lagging, problems, unknown };
  }
}

function concernedNodes(audience: ReadonlySet<NodeId>, { nodes }: Table): ConcernedNodes {
  return {
    size: audience.size,
    has: (name) => {
      const node = nodes.findId(name as NodeName);
      return node !== undefined && audience.has(node);
    },
    names: function* () {
      for (const id of audience) yield nodes.findName(id) ?? "";
    },
  };
}

/** Key of the policy's record. */
export function recordKeyOf({ kind, namespace, name }: ResourceKey): RecordKey {
  return policyKey({ policyKind: policyKindOf(kind), namespace, name });
}
