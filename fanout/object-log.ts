/**
 * Which version of each cluster object the table reflects, and since which revision. Answers "where is this policy in force".
 *
 * An event is pending until the commit that its batch ends in; an object whose event changed no record took effect at the revision of that moment.
 */
import type { ClusterEvent } from "../src/model/event.ts";
import { isPolicyKindName } from "../src/model/policy-kinds.ts";
import { describeKey, keyOf, type ResourceKey, type ResourceVersion } from "../src/model/resource.ts";
import type { NodeId } from "./table/node-ids.ts";
import type { Commit } from "./table/table.ts";

export interface ObjectRecord {
  readonly key: ResourceKey;
  readonly resourceVersion: ResourceVersion;
  /** metadata.generation, of kinds that have a status; 0: not known. */
  readonly generation: number;
  readonly revision: bigint;
  readonly committedAtUnixUs: bigint;
  /** Nodes whose view the commit changed; undefined: all of them, or not known (the first commit). Shared between the objects of one commit. */
  readonly touched: ReadonlySet<NodeId> | undefined;
}

type Seen = Pick<ObjectRecord, "key" | "resourceVersion" | "generation">;

export class ObjectLog {
  readonly #objects = new Map<string, ObjectRecord>();
  /** Policies among the objects, so that who looks at all of them need not look at each pod. */
  readonly #policies = new Map<string, ObjectRecord>();
  /** Names of policies in order, until one comes or goes. */
  #sorted: readonly string[] | undefined;
  #pending = new Map<string, Seen | undefined>();

  get size(): number {
    return this.#objects.size;
  }

  note(event: ClusterEvent): void {
    switch (event.kind) {
      case "upsert":
        this.#pend(keyOf(event.resource), event.resource.resourceVersion, event.generation);
        return;
      case "invalid":
        this.#pend(event.key, event.resourceVersion, event.generation);
        return;
      case "delete":
        this.#pending.set(describeKey(event.key), undefined);
        return;
      case "status":
        return;
    }
  }

  /** What was pending took effect: in the commit, or without one at the revision given. */
  settle(options: { readonly commit: Commit | undefined; readonly revision: bigint; readonly nowUnixUs: bigint }): void {
    const { commit, revision, nowUnixUs } = options;
    if (this.#pending.size === 0) return;
    const touched = commit === undefined ? new Set<NodeId>() : revision === 1n ? undefined : touchedNodes(commit);
    for (const [object, seen] of this.#pending) {
      if (seen === undefined) {
        this.#objects.delete(object);
        if (this.#policies.delete(object)) this.#sorted = undefined;
        continue;
      }
      const record = { ...seen, revision, committedAtUnixUs: commit?.committedAtUnixUs ?? nowUnixUs, touched };
      this.#objects.set(object, record);
      if (!isPolicyKindName(seen.key.kind)) continue;
      if (!this.#policies.has(object)) this.#sorted = undefined;
      this.#policies.set(object, record);
    }
    this.#pending = new Map();
  }

  find(key: ResourceKey): ObjectRecord | undefined {
    return this.#objects.get(describeKey(key));
  }

  /** Every object of a kind of POLICY_KINDS, with its description, by kind, namespace and name. One that goes meanwhile is left out. */
  *sortedPolicies(): Generator<readonly [description: string, object: ObjectRecord]> {
    this.#sorted ??= [...this.#policies.keys()].sort();
    for (const name of this.#sorted) {
      const object = this.#policies.get(name);
      if (object !== undefined) yield [name, object];
    }
  }

  #pend(key: ResourceKey, resourceVersion: ResourceVersion, generation = 0): void {
    this.#pending.set(describeKey(key), { key, resourceVersion, generation });
  }
}

function touchedNodes(commit: Commit): ReadonlySet<NodeId> | undefined {
  const nodes = new Set<NodeId>();
  for (const record of commit.touched) {
    if (record.nodes === undefined) return undefined;
    for (const node of record.nodes) nodes.add(node);
  }
  return nodes;
}
