/**
 * Addresses in use, from the nodes to the IPAMBlocks: one write for a block at a time, always the newest report, so that a storm of pods costs a few writes.
 *
 * A report is complete for its node, so it can come twice or late. Allocations of other nodes in the block, and those of no pod (tunnel addresses), stay. One
 * that states another claim than the block has is of an earlier life of the node, and changes nothing. Of a borrowed address there is a report of its own.
 * Bound: one waiting report a block and node: what a node says of another's block must not push that one's report out; MAX_WRITES writes at once.
 */
import { blockName } from "../../src/ipam/block.ts";
import { isSameAllocations, mergeLoanReport, mergeOwnerReport } from "../../src/ipam/loans.ts";
import { type NodeName, podKey } from "../../src/model/names.ts";
import type { BlockAllocation, IpamBlock } from "../../src/model/resource.ts";
import { type Cidr, cidrAddress, cidrContains } from "../../src/net/cidr.ts";
import { type IpAddress, ipBytes, ipFromBytes } from "../../src/net/ip.ts";
import { WireError } from "../../src/wire/error.ts";
import type { EndpointReport, ReportResult } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { prefixFromWire } from "../../src/wire/prefix-codec.ts";
import type { AddressBook } from "./address-book.ts";
import type { AddressStore } from "./address-store.ts";

/** Writes to the API at once. */
const MAX_WRITES = 16;
/** Conflicts in a row after which the node is asked to come again. */
const MAX_TRIES = 8;

interface Pending {
  readonly node: NodeName;
  readonly block: Cidr;
  /** The block that has the object: `block`, or the one that a borrowed address is of. */
  readonly object: Cidr;
  readonly report: EndpointReport;
  readonly allocations: readonly BlockAllocation[];
  readonly reply: (result: ReportResult) => void;
}

interface Outcome {
  readonly error: string;
  readonly retry: boolean;
  readonly ended?: readonly IpAddress[];
  readonly superseded?: boolean;
}

export class EndpointReports {
  readonly #book: AddressBook;
  readonly #store: AddressStore;
  readonly #onWrite: (outcome: "written" | "unchanged" | "failed") => void;
  /** Newest generation by reporter (a session) and block: an older one is ignored. A new session begins anew, for its node may have lost its disk. */
  readonly #generations = new WeakMap<object, Map<Cidr, bigint>>();
  /** By node and block. */
  readonly #waiting = new Map<string, Pending>();
  readonly #writing = new Set<Cidr>();

  constructor(options: { readonly book: AddressBook; readonly store: AddressStore; readonly onWrite?: (outcome: "written" | "unchanged" | "failed") => void }) {
    this.#book = options.book;
    this.#store = options.store;
    this.#onWrite = options.onWrite ?? ((): void => undefined);
  }

  /** Blocks that wait or are being written. */
  get backlog(): number {
    return this.#waiting.size + this.#writing.size;
  }

  /** Takes a report of a node. `reply` is called once, unless a newer report of the block takes its place. */
  take(options: { readonly session: object; readonly node: NodeName; readonly report: EndpointReport; readonly reply: (result: ReportResult) => void }): void {
    const { session, node, report, reply } = options;
    let pending: Pending;
    try {
      const block = blockOfReport(report);
      const object = report.of === undefined ? block : prefixFromWire(report.of);
      pending = { node, block, object, report, allocations: allocationsOf(node, report), reply };
    } catch (error) {
      reply(resultOf(report, { error: error instanceof Error ? error.message : String(error), retry: false }));
      return;
    }
    const generations = this.#generations.get(session) ?? new Map<Cidr, bigint>();
    this.#generations.set(session, generations);
    if (report.generation < (generations.get(pending.block) ?? 0n)) return;
    generations.set(pending.block, report.generation);
    this.#waiting.set(`${node} ${pending.block}`, pending);
    this.#next();
  }

  #next(): void {
    for (const [name, pending] of this.#waiting) {
      if (this.#writing.size >= MAX_WRITES) return;
      // Of one object at a time: borrowed addresses of one block would only run into each other.
      if (this.#writing.has(pending.object)) continue;
      this.#waiting.delete(name);
      this.#writing.add(pending.object);
      this.#write(pending)
        .catch(
          (error: unknown): Outcome => ({ error: `the API cannot be written now: ${error instanceof Error ? error.message : String(error)}`, retry: true }),
        )
        .then((outcome) => {
          this.#writing.delete(pending.object);
          if (outcome.error !== "") this.#onWrite("failed");
          pending.reply(resultOf(pending.report, outcome));
          this.#next();
        })
        .catch(() => undefined);
    }
  }

  async #write(pending: Pending): Promise<Outcome> {
    const name = blockName(pending.object);
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const read = await this.#store.read("IPAMBlock", name);
      if (read.kind === "not-found") return { error: `IPAMBlock ${name} does not exist: claim a block again`, retry: true };
      if (read.kind === "invalid")
        return {
          error: `IPAMBlock ${name} cannot be understood: ${read.problems.map(({ field, message }) => `${field}: ${message}`).join("; ")}`,
          retry: true,
        };
      const { value } = read;
      const change = changeOf(value, pending);
      if ("error" in change) return change;
      const done: Outcome = { error: "", retry: false, ended: change.ended };
      if (isSameAllocations(change.allocations, value.allocations)) {
        this.#onWrite("unchanged");
        return done;
      }
      const updated = await this.#store.update<"IPAMBlock">({ ...value, allocations: change.allocations }, read);
      if (updated.kind !== "written") continue;
      this.#book.setBlock(name, updated.value);
      this.#onWrite("written");
      return done;
    }
    return { error: `IPAMBlock ${name} changes faster than it can be written`, retry: true };
  }
}

/** What the report makes of the block, or why nothing. */
function changeOf(
  block: IpamBlock,
  { allocations, node, report, block: address }: Pending,
): Outcome | { readonly allocations: readonly BlockAllocation[]; readonly ended: readonly IpAddress[] } {
  if (report.of !== undefined) {
    const merged = mergeLoanReport(block, { node, address: cidrAddress(address), claim: report.claim, allocation: allocations[0] });
    return merged === undefined
      ? { error: `address ${cidrAddress(address)} of IPAMBlock ${block.name} is not on loan to node ${node}`, retry: false, superseded: true }
      : { allocations: merged, ended: [] };
  }
  if (block.node !== node)
    return { error: `IPAMBlock ${block.name} belongs to ${block.node === undefined ? "no node" : `node ${block.node}`}, not to ${node}`, retry: false };
  if (report.claim !== "" && block.claim !== undefined && report.claim !== block.claim)
    return { error: `IPAMBlock ${block.name} was taken over by a later life of node ${node}`, retry: false, superseded: true };
  const lent = new Map(report.lent.map((loan) => [ipFromBytes(loan.address), loan.id]));
  const merged = mergeOwnerReport(block, { node, allocations, lent, declined: new Set(report.declined) });
  return merged.kind === "refused" ? { error: merged.reason, retry: false } : merged;
}

function blockOfReport({ block }: EndpointReport): Cidr {
  if (block === undefined) throw new WireError("unexpected", "the report names no block");
  return prefixFromWire(block);
}

function allocationsOf(node: NodeName, report: EndpointReport): BlockAllocation[] {
  const block = blockOfReport(report);
  const seen = new Set<string>();
  return report.allocations.map(({ address: bytes, handle, namespace, pod }) => {
    const address = ipFromBytes(bytes);
    if (!cidrContains(block, address)) throw new WireError("unexpected", `address ${address} is not in block ${block}`);
    if (seen.has(address)) throw new WireError("unexpected", `address ${address} is reported twice`);
    seen.add(address);
    if (handle === "" || namespace === "" || pod === "") throw new WireError("unexpected", `address ${address} is reported without handle, namespace or pod`);
    return { address, handle, pod: podKey(namespace, pod), node };
  });
}

function resultOf({ block, generation }: EndpointReport, { ended = [], error, retry, superseded = false }: Outcome): ReportResult {
  return { block, generation, error, retry, ended: ended.map((address) => Buffer.from(ipBytes(address))), superseded };
}
