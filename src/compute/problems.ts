/** Objects that could not be understood, until a good version or their deletion is seen, and parts of good ones that cannot be had at present (notes). */
import type { Problem } from "../model/event.ts";
import { describeKey, type ResourceKey } from "../model/resource.ts";
import { isSameValue } from "./same-value.ts";

/**
 * What is in force in place of an object that is not understood in whole. narrowed: all but the parts that cannot be enforced or read (those of a policy let
 * nothing through); closed: a stand-in that lets nothing more through than the policy may have meant; earlier: the last version that was understood, if this
 * server saw one, of kinds that are no policies; nothing: neither. unused: the object is in force, and says something besides that has no meaning here.
 */
export type Outcome = "narrowed" | "earlier" | "closed" | "nothing" | "unused";

export interface ObjectProblems {
  readonly key: ResourceKey;
  readonly problems: readonly Problem[];
  readonly outcome: Outcome;
}

export class ProblemList {
  readonly #byObject = new Map<string, ObjectProblems>();
  /** By the object, then by what they are about. */
  readonly #notes = new Map<string, { readonly key: ResourceKey; readonly byTopic: ReadonlyMap<string, readonly Problem[]> }>();
  readonly #unused = new Map<string, ObjectProblems>();
  #sorted: readonly ObjectProblems[] | undefined;

  set(key: ResourceKey, problems: readonly Problem[], outcome: Outcome): void {
    this.#byObject.set(describeKey(key), { key, problems, outcome });
    this.#sorted = undefined;
  }

  clear(key: ResourceKey): void {
    if (this.#byObject.size > 0 && this.#byObject.delete(describeKey(key))) this.#sorted = undefined;
  }

  /** Beside what is wrong with the object itself, and until the next note about the same; empty: nothing. */
  note(key: ResourceKey, topic: string, problems: readonly Problem[]): void {
    const name = describeKey(key);
    const before = this.#notes.get(name)?.byTopic;
    if (isSameValue(before?.get(topic) ?? [], problems)) return;
    const byTopic = new Map(before);
    if (problems.length === 0) byTopic.delete(topic);
    else byTopic.set(topic, problems);
    if (byTopic.size === 0) this.#notes.delete(name);
    else this.#notes.set(name, { key, byTopic });
    this.#sorted = undefined;
  }

  /** Fields of spec that have no meaning here, in an entry of their own; empty: none. */
  noteUnused(key: ResourceKey, fields: readonly string[]): void {
    const name = describeKey(key);
    if (fields.length === 0 && !this.#unused.delete(name)) return;
    const problems = fields.map((field) => ({ field: `spec.${field}`, message: "has no meaning here" }));
    if (fields.length > 0) this.#unused.set(name, { key, problems, outcome: "unused" });
    this.#sorted = undefined;
  }

  /** Sorted by kind, namespace and name; the same list until something changes. */
  list(): readonly ObjectProblems[] {
    this.#sorted ??= [...this.#merged(), ...this.#unused].sort(([a], [b]) => (a < b ? -1 : Number(a > b))).map(([, entry]) => entry);
    return this.#sorted;
  }

  #merged(): ReadonlyMap<string, ObjectProblems> {
    if (this.#notes.size === 0) return this.#byObject;
    const merged = new Map(this.#byObject);
    for (const [name, { key, byTopic }] of this.#notes) {
      const { problems: others = [], outcome = "narrowed" } = merged.get(name) ?? {};
      const notes = [...byTopic].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([, problems]) => problems);
      merged.set(name, { key, problems: [...others, ...notes], outcome });
    }
    return merged;
  }
}
