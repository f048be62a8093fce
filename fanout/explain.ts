/**
 * Why a record is in a node's view: set ← policies that name it ← stacks that hold these ← endpoints of the node.
 *
 * The chain is read from the view's own records, so it says what the node was told and not what the server meant to tell; only selectors, which are in no
 * record, come from elsewhere. Cost: the view is decoded once for each question. Rejected: keeping the reverse relations, for a question that people ask.
 */
import { type Policy, type RecordKey, type RecordValue, type RuleSide, recordKey } from "../src/model/record.ts";
import type { ExplainRecordRequest, ExplainRecordResponse, Reason } from "../src/wire/gen/sedge/sync/v1/introspection.ts";
import { decodeRecord } from "../src/wire/record-codec.ts";
import { CallError } from "./status.ts";
import type { Table } from "./table/table.ts";

/** Most links in an answer. */
const MAX_REASONS = 500;

export interface ExplainSources {
  readonly table: Table;
  /** The selector behind a policy or a set, in words. */
  readonly describe: (key: RecordKey) => string | undefined;
}

/** Throws CallError "unknown-object" when the table has no such record. */
export function explainRecord({ node, key }: ExplainRecordRequest, { table, describe }: ExplainSources): ExplainRecordResponse {
  const entry = table.findEntry(key);
  if (entry === undefined) throw new CallError("unknown-object", `there is no record ${JSON.stringify(key)}: sedge get records lists them`);
  const id = table.nodes.findId(node as Parameters<typeof table.nodes.findId>[0]);
  const head = { revision: entry.revision, allNodes: entry.isShared, audience: entry.audience.size };
  if (entry.isShared)
    return { ...head, inView: true, reasons: [{ by: key, because: `node/${node}`, how: "every node has all records of this kind" }], truncated: false };
  if (id === undefined || !table.isInView(entry, id)) return { ...head, inView: false, reasons: [], truncated: false };

  const values: RecordValue[] = [];
  for (const { key: other, bytes } of table.view(id)) {
    // A set's shards name nothing; they are also most of a view.
    const value = other.startsWith("set/") ? undefined : decodeRecord(bytes).value;
    if (value !== undefined) values.push(value);
  }
  const reasons: Reason[] = [];
  const seen = new Set([key]);
  for (const by of seen) {
    for (const reason of users(by, values, node, describe)) {
      if (reasons.length >= MAX_REASONS) return { ...head, inView: true, reasons, truncated: true };
      reasons.push(reason);
      if (!reason.because.startsWith("node/")) seen.add(reason.because);
    }
  }
  return { ...head, inView: true, reasons, truncated: false };
}

/** What needs the record, one step down. */
function* users(by: RecordKey, values: readonly RecordValue[], node: string, describe: ExplainSources["describe"]): Generator<Reason> {
  if (by.startsWith("endpoint/")) yield { by, because: `node/${node}`, how: "the pod runs on the node" };
  if (by.startsWith("host/")) yield { by, because: `node/${node}`, how: "the host endpoint is of the node" };
  const [, setId = ""] = by.startsWith("set/") ? by.split("/") : [];
  for (const value of values) {
    switch (value.kind) {
      case "policy":
        if (setId !== "") {
          const places = placesOf(setId, value);
          if (places.length > 0) yield { by, because: policyKey(value), how: `${places.join(", ")}: ${describe(by) ?? "a set"}` };
        }
        break;
      case "stack": {
        const tier = value.tiers.find(({ ingress, egress }) => ingress.includes(by) || egress.includes(by));
        if (tier !== undefined) yield { by, because: `stack/${value.id}`, how: `in tier ${tier.name}; ${describe(by) ?? "it applies"}` };
        else if (value.profiles?.includes(by) === true) yield { by, because: `stack/${value.id}`, how: "a profile of the host endpoint" };
        break;
      }
      case "policy-list":
        if (value.policies.includes(by)) yield { by, because: recordKey(value), how: `in a list of policies; ${describe(by) ?? "it applies"}` };
        break;
      case "endpoint":
        if (value.stack === by) yield { by, because: `endpoint/${value.namespace}/${value.pod}`, how: "the policies of this pod" };
        break;
      case "host":
        if ([value.stack, value.forwardStack, value.preDnatStack, value.untrackedStack].includes(by))
          yield { by, because: `host/${value.name}`, how: "the policies of this host endpoint" };
        break;
      default:
        break;
    }
  }
}

function policyKey({ policyKind, namespace, name }: Policy): RecordKey {
  return `policy/${policyKind}/${namespace}/${name}`;
}

/** "ingress rule 0 source", … where a policy names the set. */
function placesOf(setId: string, { ingress, egress }: Policy): string[] {
  const names = (side: RuleSide): boolean =>
    side.sets.includes(setId) || side.notSets.includes(setId) || side.portSets.includes(setId) || side.notPortSets?.includes(setId) === true;
  const places: string[] = [];
  for (const [direction, rules] of [
    ["ingress", ingress],
    ["egress", egress],
  ] as const)
    for (const { origin, source, destination } of rules) {
      if (names(source)) places.push(`${direction} rule ${origin} source`);
      if (names(destination)) places.push(`${direction} rule ${origin} destination`);
    }
  return [...new Set(places)];
}
