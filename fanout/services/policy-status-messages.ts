/** Statuses of policies as the introspection service sends them, and lag reports both ways. */
import type { ObjectProblems } from "../../src/compute/problems.ts";
import { isPolicyKindName, POLICY_KIND_NAMES, policyKindOfWord } from "../../src/model/policy-kinds.ts";
import { describeKey, describeKind, type ResourceKey } from "../../src/model/resource.ts";
import type {
  GetLagResponse,
  InvalidObject,
  ListPolicyStatusRequest,
  PolicyStatus as PolicyStatusMessage,
} from "../../src/wire/gen/sedge/sync/v1/introspection.ts";
import type { LagReport } from "../policy-status/lag.ts";
import type { PolicyStatus, PolicyStatuses } from "../policy-status/statuses.ts";
import { CallError } from "../status.ts";

/** Most nodes named for one policy. */
const MAX_LAGGING = 100;

/** Throws CallError "unknown-object" when one policy is asked for that the server does not know, "broken-message" for a kind that is no policy's. */
export async function policyStatuses(request: ListPolicyStatusRequest, policies: PolicyStatuses): Promise<Iterator<PolicyStatusMessage>> {
  const { kind: word, namespace, name } = request;
  const kind = isPolicyKindName(word) ? word : policyKindOfWord(word);
  if (word !== "" && kind === undefined)
    throw new CallError("broken-message", `kind ${JSON.stringify(word)} is no policy's; known: ${POLICY_KIND_NAMES.map(describeKind).join(", ")}`);
  const isWanted = (key: ResourceKey): boolean =>
    (kind === undefined || key.kind === kind) && (namespace === "" || key.namespace === namespace) && (name === "" || key.name === name);
  const one: ResourceKey | undefined = kind !== undefined && name !== "" ? { kind, namespace, name } : undefined;
  const tier = await policies.collect(one);
  const found = [...policies.statuses(tier, isWanted)];
  if (found.length === 0 && one !== undefined) throw new CallError("unknown-object", `there is no ${describeKey(one)} that the server knows`);
  return found.map(message).values();
}

function message(status: PolicyStatus): PolicyStatusMessage {
  const { key, generation, isStaged, lagging, nodes, problems, resourceVersion, revision, unknown } = status;
  return {
    ...key,
    resourceVersion,
    generation: BigInt(generation),
    revision,
    staged: isStaged,
    nodes,
    nodesProgrammed: nodes - lagging.length,
    lagging: lagging.slice(0, MAX_LAGGING).map(({ node, reason, isConnected }) => ({ node, reason, connected: isConnected })),
    problems: problems === undefined ? [] : invalidObjects(problems),
    unknown: unknown ?? "",
  };
}

export function invalidObjects({ key, problems, outcome }: ObjectProblems): InvalidObject[] {
  return problems.map(({ field, message: problem }) => ({ object: describeKey(key), field, problem, outcome }));
}

export function lagResponse({ server, isInSync, reached, connected, lagging }: LagReport): GetLagResponse {
  return {
    server,
    inSync: isInSync,
    reached: Object.fromEntries(reached),
    connected: [...connected],
    lagging: lagging.map(({ node, reason, policies, failures }) => ({
      node,
      reason,
      wholeView: policies === undefined,
      policies: [...(policies ?? [])],
      failures: failures.map((failure) => ({ key: failure.policy, reason: failure.reason })),
    })),
  };
}

/** What another server answered. */
export function lagReport({ server, inSync, reached, connected, lagging }: GetLagResponse): LagReport {
  return {
    server,
    isInSync: inSync,
    reached: new Map(Object.entries(reached)),
    connected,
    lagging: lagging.map(({ node, reason, wholeView, policies, failures }) => ({
      node,
      reason,
      policies: wholeView ? undefined : policies,
      failures: failures.map(({ key, reason: why }) => ({ policy: key, reason: why })),
    })),
  };
}
