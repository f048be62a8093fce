/**
 * For which nodes something is: reference counts per node, and what changed since the last commit.
 *
 * Invariant: a node is in the audience while its count is above zero; `entered` and `left` compare the present with the state at the last
 * `settle`, so that coming and going between two commits is nothing.
 */
import type { NodeName } from "../model/names.ts";
import { compareTexts, SmallMap, sortFew } from "./small-collections.ts";

/** Nodes that entered and left since the last commit, sorted. Shared by all records of one audience: do not change. */
export interface AudienceDelta {
  readonly entered: readonly NodeName[];
  readonly left: readonly NodeName[];
}

export const NO_NODES: readonly NodeName[] = [];
export const NO_DELTA: AudienceDelta = { entered: NO_NODES, left: NO_NODES };

export class Audience {
  readonly #counts = new SmallMap<NodeName, number>();
  /** Nobody was in at the last commit, so whoever is in has entered, and nothing is noted of the others. */
  #wasEmpty = true;
  /** Else nodes of which the count touched zero since the last commit, with whether they were in then. */
  #touched: SmallMap<NodeName, boolean> | undefined;
  #sorted: readonly NodeName[] | undefined;
  #delta: AudienceDelta | undefined;
  #before: readonly NodeName[] | undefined;

  get isEmpty(): boolean {
    return this.#counts.size === 0;
  }

  has(node: NodeName): boolean {
    return this.#counts.has(node);
  }

  /** Adds a reference; true when the node enters with it. */
  acquire(node: NodeName): boolean {
    const count = this.#counts.get(node) ?? 0;
    this.#counts.set(node, count + 1);
    if (count === 0) this.#touch(node, false);
    return count === 0;
  }

  /** Gives a reference back; true when the node leaves with it. */
  release(node: NodeName): boolean {
    const count = this.#counts.get(node);
    if (count === undefined) throw new Error(`audience: node ${node} is released more often than acquired`);
    if (count > 1) {
      this.#counts.set(node, count - 1);
      return false;
    }
    this.#counts.delete(node);
    this.#touch(node, true);
    return true;
  }

  /** The nodes, in no order. Not to be used across a change. */
  nodes(): Iterable<NodeName> {
    return this.#counts.keys();
  }

  sorted(): readonly NodeName[] {
    this.#sorted ??= this.isEmpty ? NO_NODES : sortFew([...this.#counts.keys()], compareTexts);
    return this.#sorted;
  }

  /** Changes since the last `settle`. */
  delta(): AudienceDelta {
    this.#delta ??= this.#computeDelta();
    return this.#delta;
  }

  /** The nodes at the last `settle`, sorted. */
  before(): readonly NodeName[] {
    if (this.#wasEmpty) return NO_NODES;
    const { entered, left } = this.delta();
    if (entered.length === 0 && left.length === 0) return this.sorted();
    if (this.#before !== undefined) return this.#before;
    const nodes = new Set(this.#counts.keys());
    for (const node of entered) nodes.delete(node);
    for (const node of left) nodes.add(node);
    this.#before = [...nodes].sort();
    return this.#before;
  }

  /** The present becomes what the next delta is compared with. */
  settle(): void {
    this.#wasEmpty = this.isEmpty;
    this.#touched = undefined;
    this.#delta = undefined;
    this.#before = undefined;
  }

  #touch(node: NodeName, wasIn: boolean): void {
    this.#sorted = undefined;
    this.#delta = undefined;
    if (this.#wasEmpty) return;
    this.#touched ??= new SmallMap();
    if (!this.#touched.has(node)) this.#touched.set(node, wasIn);
  }

  #computeDelta(): AudienceDelta {
    if (this.#wasEmpty) return this.isEmpty ? NO_DELTA : { entered: this.sorted(), left: NO_NODES };
    if (this.#touched === undefined) return NO_DELTA;
    const entered: NodeName[] = [];
    const left: NodeName[] = [];
    for (const node of this.#touched.keys()) {
      const wasIn = this.#touched.get(node) === true;
      const isIn = this.#counts.has(node);
      if (isIn && !wasIn) entered.push(node);
      else if (wasIn && !isIn) left.push(node);
    }
    return entered.length === 0 && left.length === 0 ? NO_DELTA : { entered: sortFew(entered, compareTexts), left: sortFew(left, compareTexts) };
  }
}

/** What changes for the nodes when a record goes from one sorted audience to another. */
export function audienceDifference(before: readonly NodeName[], after: readonly NodeName[]): AudienceDelta {
  const was = new Set(before);
  const is = new Set(after);
  const entered = after.filter((node) => !was.has(node));
  const left = before.filter((node) => !is.has(node));
  return entered.length === 0 && left.length === 0 ? NO_DELTA : { entered, left };
}
