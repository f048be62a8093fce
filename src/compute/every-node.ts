/**
 * All nodes of the cluster, as the audience of policies with the hint AssumeNeededOnEveryNode: these, and the sets that they name, are on a node before an
 * endpoint there needs them, so that its first pod waits for nobody.
 */
import type { NodeName } from "../model/names.ts";
import type { AddressSet, SetUser } from "./address-sets.ts";
import { Audience } from "./audience.ts";
import { SmallSet } from "./small-collections.ts";

export class EveryNode implements SetUser {
  readonly audience = new Audience();
  readonly uses = new SmallSet<AddressSet>();
  readonly joint = new SmallSet<AddressSet>();
  #hasMoved = false;

  /** A node came or went since the last `settle`. */
  get hasMoved(): boolean {
    return this.#hasMoved;
  }

  set(node: NodeName, isThere: boolean): void {
    if (this.audience.has(node) === isThere) return;
    this.#hasMoved = true;
    if (isThere) {
      this.audience.acquire(node);
      for (const set of this.joint) set.nodeEntered(node);
    } else {
      this.audience.release(node);
      for (const set of this.joint) set.nodeLeft(node);
    }
  }

  settle(): void {
    this.audience.settle();
    this.#hasMoved = false;
  }
}
