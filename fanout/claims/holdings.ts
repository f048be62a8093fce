/**
 * The end of a node's holding of a block, and its beginning anew for a node that has lost its memory: both by compare-and-swap on the block's claim.
 *
 *   release   block marked deleted (if it is empty and the claim is the same) → affinity pendingDeletion → block deleted → affinity deleted
 *   take over block gets a new claim → affinity confirmed
 *
 * Invariants: the mark decides: before it the block is the node's, after it nobody's, and whoever comes next only finishes. A release that is still under way
 * for a node that has taken the block over states an old claim, and does nothing. Nobody else can claim the block before its object and then its
 * affinity are gone. Rejected: the affinity first, as Calico does (a late release of a node that lost its disk would stop the routes of the block
 * under the pods of its next life).
 */
import { affinityName, blockName } from "../../src/ipam/block.ts";
import type { NodeName } from "../../src/model/names.ts";
import type { IpamBlock } from "../../src/model/resource.ts";
import type { Cidr } from "../../src/net/cidr.ts";
import { CallError } from "../status.ts";
import type { AddressBook } from "./address-book.ts";
import type { AddressStore } from "./address-store.ts";

const MAX_TRIES = 8;

export interface HoldingsOptions {
  readonly book: AddressBook;
  readonly store: AddressStore;
  /** Never the same twice, over all servers. */
  readonly newId: () => string;
}

export class Holdings {
  readonly #options: HoldingsOptions;

  constructor(options: HoldingsOptions) {
    this.#options = options;
  }

  /** "in-use": the node keeps it. Throws CallError "api-unavailable". */
  async release({ claim, cidr, node }: { readonly node: NodeName; readonly cidr: Cidr; readonly claim: string }): Promise<"released" | "in-use"> {
    const { book, store } = this.#options;
    const name = blockName(cidr);
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const read = await this.#read(name);
      if (read === undefined || read.value.node !== node) {
        await this.#endAffinity(affinityName(node, cidr));
        return "released";
      }
      if (read.value.isDeleted) {
        await this.#finish(node, read.value);
        return "released";
      }
      // A block without a claim was written by an older server; with one, another claim is of a later life of the node.
      if (read.value.claim !== undefined && read.value.claim !== claim) return "released";
      if (read.value.allocations.length > 0) return "in-use";
      const marked = await store.update<"IPAMBlock">({ ...read.value, isDeleted: true }, read);
      if (marked.kind === "not-found") return "released";
      if (marked.kind === "conflict") continue;
      book.setBlock(name, marked.value);
      await this.#finish(node, marked.value);
      return "released";
    }
    throw tooManyConflicts(`IPAMBlock ${name}`);
  }

  /** The block as the node's from now on; undefined: it is not the node's. Throws CallError "api-unavailable". */
  async takeOver(node: NodeName, cidr: Cidr): Promise<IpamBlock | undefined> {
    const { book, newId, store } = this.#options;
    const name = blockName(cidr);
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const read = await this.#read(name);
      if (read === undefined || read.value.node !== node) return undefined;
      if (read.value.isDeleted) {
        await this.#finish(node, read.value);
        return undefined;
      }
      const updated = await store.update<"IPAMBlock">({ ...read.value, claim: newId() }, read);
      if (updated.kind !== "written") continue;
      book.setBlock(name, updated.value);
      await this.#confirm(node, cidr);
      return updated.value;
    }
    throw tooManyConflicts(`IPAMBlock ${name}`);
  }

  /** Of a block that is marked deleted. Any step may have been done before. */
  async #finish(node: NodeName, block: IpamBlock): Promise<void> {
    const { book, store } = this.#options;
    const name = affinityName(node, block.cidr);
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const read = await store.read("BlockAffinity", name);
      if (read.kind !== "found" || read.value.state === "pendingDeletion") break;
      // Read after the affinity: if the block is still the marked one, so is the affinity, and the write fails when the node has claimed the block anew.
      const now = await this.#read(block.name);
      if (now === undefined || !now.value.isDeleted || now.value.node !== node) return;
      const marked = await store.update<"BlockAffinity">({ ...read.value, state: "pendingDeletion" }, read);
      if (marked.kind === "written") book.setAffinity(name, marked.value);
    }
    const deleted = await store.delete("IPAMBlock", block);
    // Another finishes too, or made it anew; it is not ours to end then.
    if (deleted.kind === "conflict") return;
    book.setBlock(block.name, undefined);
    await this.#endAffinity(name);
  }

  /** Nobody claims a block by an affinity that is pendingDeletion: without its block it is only in the way. */
  async #endAffinity(name: string): Promise<void> {
    const { book, store } = this.#options;
    const read = await store.read("BlockAffinity", name);
    if (read.kind !== "found" || read.value.state !== "pendingDeletion") return;
    if ((await store.delete("BlockAffinity", read.value)).kind !== "conflict") book.setAffinity(name, undefined);
  }

  async #confirm(node: NodeName, cidr: Cidr): Promise<void> {
    const { book, store } = this.#options;
    const name = affinityName(node, cidr);
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const read = await store.read("BlockAffinity", name);
      if (read.kind === "invalid") throw new CallError("api-unavailable", `BlockAffinity ${name} cannot be understood: it is not changed`);
      if (read.kind === "found" && read.value.state === "confirmed" && !read.value.isDeleted) {
        book.setAffinity(name, read.value);
        return;
      }
      const wanted = { kind: "BlockAffinity", name, resourceVersion: "", node, cidr, state: "confirmed", isDeleted: false } as const;
      const written =
        read.kind === "found"
          ? await store.update<"BlockAffinity">({ ...read.value, state: "confirmed", isDeleted: false }, read)
          : await store.create<"BlockAffinity">(wanted);
      if (written.kind !== "written") continue;
      book.setAffinity(name, written.value);
      return;
    }
    throw tooManyConflicts(`BlockAffinity ${name}`);
  }

  async #read(name: string): Promise<{ readonly value: IpamBlock; readonly object: Record<string, unknown> } | undefined> {
    const read = await this.#options.store.read("IPAMBlock", name);
    if (read.kind === "invalid")
      throw new CallError(
        "api-unavailable",
        `IPAMBlock ${name} cannot be understood: ${read.problems.map(({ field, message }) => `${field}: ${message}`).join("; ")}`,
      );
    return read.kind === "found" ? read : undefined;
  }
}

export function tooManyConflicts(object: string): CallError {
  return new CallError("api-unavailable", `${object} changes faster than it can be written`, { retryAfterMs: 1_000 });
}
