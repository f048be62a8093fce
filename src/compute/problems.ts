/** Objects that could not be understood, until a good version or their deletion is seen. */
import type { Problem } from "../model/event.ts";
import { describeKey, type ResourceKey } from "../model/resource.ts";

export interface ObjectProblems {
  readonly key: ResourceKey;
  readonly problems: readonly Problem[];
}

export class ProblemList {
  readonly #byObject = new Map<string, ObjectProblems>();
  #sorted: readonly ObjectProblems[] | undefined;

  set(key: ResourceKey, problems: readonly Problem[]): void {
    this.#byObject.set(describeKey(key), { key, problems });
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
