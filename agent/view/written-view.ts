/**
 * The view as it is to be programmed: values, revision and completeness that belong together.
 *
 * A commit changes the session's view at once, the store while it is written, and the values after that. Whoever programs in between must see all of
 * the commit before: values of one revision under the number of the next would acknowledge what the kernel does not have, and an empty view that is already
 * called complete would sweep everything.
 * Invariant: what is read here changes only in `advance`, which is called when a commit is both written and in the values.
 */
import type { RecordKey, RecordValue } from "../../src/model/record.ts";
import type { DecodedView } from "./decoded-view.ts";
import type { ViewStore } from "./store.ts";

export class WrittenView {
  readonly #store: Pick<ViewStore, "view" | "isComplete">;
  readonly #decoded: DecodedView;
  #revision = 0n;
  #epoch = "";
  #isComplete = false;

  constructor(store: Pick<ViewStore, "view" | "isComplete">, decoded: DecodedView) {
    this.#store = store;
    this.#decoded = decoded;
    this.advance();
  }

  /** The values are those of the store's view: a commit is through, or its revision grew without a change for us. */
  advance(): void {
    const { view, isComplete } = this.#store;
    this.#revision = view.revision;
    this.#epoch = view.epoch;
    this.#isComplete = isComplete;
  }

  get records(): ReadonlyMap<RecordKey, RecordValue> {
    return this.#decoded.records;
  }

  get undecodable(): ReadonlyMap<RecordKey, string> {
    return this.#decoded.undecodable;
  }

  get outdated(): ReadonlyMap<RecordKey, string> {
    return this.#decoded.outdated;
  }

  get revision(): bigint {
    return this.#revision;
  }

  get epoch(): string {
    return this.#epoch;
  }

  get isComplete(): boolean {
    return this.#isComplete;
  }
}
