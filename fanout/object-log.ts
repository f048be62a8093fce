/**
 * Which version of each cluster object the table reflects, and since which revision. Answers "where is this policy in force".
 *
 * An event is pending until the commit that its batch ends in; an object whose event changed no record took effect at the revision of that moment.
 */
import type { ClusterEvent } from "../src/model/event.ts";
import { describeKey, keyOf, type ResourceKey, type ResourceVersion } from "../src/model/resource.ts";
import type { NodeId } from "./table/node-ids.ts";
import type { Commit } from "./table/table.ts";

export interface ObjectRecord {
  readonly resourceVersion: ResourceVersion;
  readonly revision: bigint;
  readonly committedAtUnixUs: bigint;
  /** Nodes whose view the commit changed; undefined: all of them, or not known (the first commit). Shared between the objects of one commit. */
  readonly touched: ReadonlySet<NodeId> | undefined;
}

export class ObjectLog {
  readonly #objects = new Map<string, ObjectRecord>();
  #pending = new Map<string, ResourceVersion | undefined>();

  get size(): number {
    return this.#objects.size;
  }

  note(event: ClusterEvent): void {
    switch (event.kind) {
      case "upsert":
        this.#pending.set(describeKey(keyOf(event.resource)), event.resource.resourceVersion);
        return;
      case "invalid":
        this.#pending.set(describeKey(event.key), event.resourceVersion);
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
    for (const [object, resourceVersion] of this.#pending) {
      if (resourceVersion === undefined) this.#objects.delete(object);
      else this.#objects.set(object, { resourceVersion, revision, committedAtUnixUs: commit?.committedAtUnixUs ?? nowUnixUs, touched });
    }
    this.#pending = new Map();
  }

  find(key: ResourceKey): ObjectRecord | undefined {
    return this.#objects.get(describeKey(key));
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
