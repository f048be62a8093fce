/**
 * Which policies a record belongs to: itself, those that use the set, those of the stack, those of the endpoint.
 *
 * Read from the table's own records and remembered for as long as their bytes stay the same, so that a question after a quiet time costs one look at each
 * policy. Rejected: keeping the relations with each commit, which every commit would pay for and only nodes that lag need.
 */
import type { Policy, RecordKey, RuleSide, Stack } from "../../src/model/record.ts";
import { decodeRecord } from "../../src/wire/record-codec.ts";
import type { Entry } from "../table/entry.ts";
import type { Table } from "../table/table.ts";

const NONE: readonly RecordKey[] = [];

export class PolicyRelations {
  readonly #table: Table;
  /** By a record's bytes, which are replaced and never changed: the ids of a policy's sets, the policies of a stack, the stacks of an endpoint. */
  readonly #names = new WeakMap<Uint8Array, readonly string[]>();
  #setUsers: { readonly revision: bigint; readonly bySet: ReadonlyMap<string, readonly RecordKey[]> } | undefined;

  constructor(table: Table) {
    this.#table = table;
  }

  /** Record keys of policies, perhaps with repetitions; of all nodes, so a reader looks whether the node has them. Empty: no policy's. */
  policiesOf(key: RecordKey): readonly RecordKey[] {
    if (key.startsWith("policy/")) return [key];
    if (key.startsWith("set/")) return this.#usersOfSets().get(key.split("/")[1] ?? "") ?? NONE;
    const entry = this.#table.findEntry(key);
    if (entry === undefined) return NONE;
    if (key.startsWith("stack/")) return this.#namesIn(entry);
    return key.startsWith("endpoint/") || key.startsWith("host/") ? this.#namesIn(entry).flatMap((stack) => this.policiesOf(stack)) : NONE;
  }

  #usersOfSets(): ReadonlyMap<string, readonly RecordKey[]> {
    const { revision } = this.#table;
    if (this.#setUsers?.revision === revision) return this.#setUsers.bySet;
    const bySet = new Map<string, RecordKey[]>();
    for (const entry of this.#table.entries()) {
      if (!entry.key.startsWith("policy/")) continue;
      for (const id of this.#namesIn(entry)) {
        const users = bySet.get(id);
        if (users === undefined) bySet.set(id, [entry.key]);
        else users.push(entry.key);
      }
    }
    this.#setUsers = { revision, bySet };
    return bySet;
  }

  #namesIn({ bytes }: Entry): readonly string[] {
    const known = this.#names.get(bytes);
    if (known !== undefined) return known;
    const { value } = decodeRecord(bytes);
    const names =
      value?.kind === "policy"
        ? setsOf(value)
        : value?.kind === "stack"
          ? policiesOf(value)
          : value?.kind === "endpoint"
            ? [value.stack]
            : value?.kind === "host"
              ? [value.stack, value.forwardStack, value.preDnatStack, value.untrackedStack]
              : NONE;
    const kept = names.filter((name) => name !== "");
    this.#names.set(bytes, kept);
    return kept;
  }
}

function setsOf({ ingress, egress }: Policy): readonly string[] {
  const ofSide = ({ sets, notSets, portSets, notPortSets = NONE }: RuleSide): readonly string[] => [...sets, ...notSets, ...portSets, ...notPortSets];
  return [...new Set([...ingress, ...egress].flatMap(({ source, destination }) => [...ofSide(source), ...ofSide(destination)]))];
}

function policiesOf({ tiers, profiles = NONE }: Stack): readonly RecordKey[] {
  return [...new Set([...tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress]), ...profiles])];
}
