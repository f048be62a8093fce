/** Objects that could not be understood, until a good version or their deletion is seen. */
import type { Problem } from "../model/event.ts";
import { describeKey, type ResourceKey } from "../model/resource.ts";

/**
 * What is in force in place of an object that is not understood in whole. narrowed: all but the parts that cannot be enforced, which let nothing through;
 * earlier: the last version that was understood (of kinds that are no policies: if there was one); closed: a stand-in that lets nothing more through than the object may have meant; nothing: neither.
 */
export type Outcome = "narrowed" | "earlier" | "closed" | "nothing";

export interface ObjectProblems {
  readonly key: ResourceKey;
  readonly problems: readonly Problem[];
  readonly outcome: Outcome;
}

export class ProblemList {
  readonly #byObject = new Map<string, ObjectProblems>();
  #sorted: readonly ObjectProblems[] | undefined;

  set(key: ResourceKey, problems: readonly Problem[], outcome: Outcome): void {
    this.#byObject.set(describeKey(key), { key, problems, outcome });
    this.#sorted = undefined;
  }

  clear(key: ResourceKey): void {
    if (this.#byObject.size > 0 && this.#byObject.delete(describeKey(key))) this.#sorted = undefined;
  }

  /** Sorted by kind, namespace and name; the same list until something changes. */
  list(): readonly ObjectProblems[] {
    this.#sorted ??= [...this.#byObject].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
    return this.#sorted;
  }
}
