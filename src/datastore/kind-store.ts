/**
 * What was last told about each object of one kind: enough to tell a change from noise, and to know what a new list no longer has.
 *
 * Keeps a digest per object (28 bytes), not the value: node heartbeats and pod status updates change nothing that a decision reads, and are dropped here
 * at the price of a hash. Invariant: a delete is told only for a key that was told before, and only by `remove` or `completeList`.
 */
import { hash } from "node:crypto";
import type { ClusterEvent, Parsed } from "../model/event.ts";
import { keyOf, type Resource, type ResourceKey, type ResourceVersion } from "../model/resource.ts";

export class KindStore {
  readonly #known = new Map<string, { readonly key: ResourceKey; digest: string; isInvalid: boolean; list: number }>();
  /** Number of the list under way; entries carry the last list or watch that showed them. */
  #list = 0;
  #isListing = false;
  #invalid = 0;

  /** Objects known, understood or not. */
  get size(): number {
    return this.#known.size;
  }

  /** Objects that could not be understood. */
  get invalid(): number {
    return this.#invalid;
  }

  beginList(): void {
    this.#list++;
    this.#isListing = true;
  }

  /** The event for what was read about `key`, or undefined when nothing that counts has changed. Another `generation` counts; absent: it is not read. */
  put(key: ResourceKey, parsed: Parsed<Resource>, resourceVersion: ResourceVersion, generation?: number): ClusterEvent | undefined {
    const digest = digestOf(parsed, generation);
    const text = textOf(key);
    const known = this.#known.get(text);
    if (known !== undefined) known.list = this.#list;
    if (known?.digest === digest) return undefined;
    this.#invalid += (parsed.ok ? 0 : 1) - (known?.isInvalid === true ? 1 : 0);
    if (known === undefined) {
      const kept = parsed.ok ? keyOf(parsed.value) : key;
      this.#known.set(text, { key: kept, digest, isInvalid: !parsed.ok, list: this.#list });
    } else {
      known.digest = digest;
      known.isInvalid = !parsed.ok;
    }
    const seen = generation === undefined ? {} : { generation };
    if (parsed.ok) return { kind: "upsert", resource: parsed.value, ...seen };
    const { problems, closed } = parsed;
    return { kind: "invalid", key, resourceVersion, problems, ...seen, ...(closed === undefined ? {} : { closed }) };
  }

  remove(key: ResourceKey): ClusterEvent | undefined {
    const known = this.#known.get(textOf(key));
    if (known === undefined) return undefined;
    this.#known.delete(textOf(key));
    if (known.isInvalid) this.#invalid--;
    return { kind: "delete", key };
  }

  /** Deletes what the list that has just ended did not show. Does nothing when no list is under way. */
  completeList(): ClusterEvent[] {
    if (!this.#isListing) return [];
    this.#isListing = false;
    const events: ClusterEvent[] = [];
    for (const { key, list } of this.#known.values()) {
      if (list === this.#list) continue;
      const event = this.remove(key);
      if (event !== undefined) events.push(event);
    }
    return events;
  }
}

/** Names have no slash and no space, so the text is unique within the kind. */
function textOf(key: ResourceKey): string {
  return key.namespace === "" ? key.name : `${key.namespace}/${key.name}`;
}

/** The version is left out: it changes with everything that was trimmed away. */
function digestOf(parsed: Parsed<Resource>, generation: number | undefined): string {
  const text = parsed.ok
    ? JSON.stringify({ ...parsed.value, resourceVersion: undefined })
    : `invalid ${JSON.stringify([parsed.problems, parsed.closed && { ...parsed.closed, resourceVersion: undefined }])}`;
  return hash("sha1", generation === undefined ? text : `${generation} ${text}`, "base64");
}
