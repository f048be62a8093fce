/**
 * Addresses in use, from the nodes to the IPAMBlocks: one write for a block at a time, always the newest report, so that a storm of pods costs a few writes.
 *
 * A report is complete for its node, so it can come twice or late. Allocations of other nodes in the block, and those of no pod (tunnel addresses), stay.
 * Bound: one waiting report a block and session; MAX_WRITES writes at once.
 */
import { blockName } from "../../src/ipam/block.ts";
import { type NodeName, podKey } from "../../src/model/names.ts";
import type { BlockAllocation, IpamBlock } from "../../src/model/resource.ts";
import { type Cidr, cidrContains } from "../../src/net/cidr.ts";
import { compareIps, ipFromBytes } from "../../src/net/ip.ts";
import { WireError } from "../../src/wire/error.ts";
import type { EndpointReport, ReportResult } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { prefixFromWire } from "../../src/wire/record-codec.ts";
import type { AddressBook } from "./address-book.ts";
import type { AddressStore } from "./address-store.ts";

/** Writes to the API at once. */
const MAX_WRITES = 16;
/** Conflicts in a row after which the node is asked to come again. */
const MAX_TRIES = 8;

interface Pending {
  readonly node: NodeName;
  readonly block: Cidr;
  readonly report: EndpointReport;
  readonly allocations: readonly BlockAllocation[];
  readonly reply: (result: ReportResult) => void;
}

interface Outcome {
  readonly error: string;
  readonly retry: boolean;
}

const DONE: Outcome = { error: "", retry: false };

export class EndpointReports {
  readonly #book: AddressBook;
  readonly #store: AddressStore;
  readonly #onWrite: (outcome: "written" | "unchanged" | "failed") => void;
  /** Newest generation by reporter (a session) and block: an older one is ignored. A new session begins anew, for its node may have lost its disk. */
  readonly #generations = new WeakMap<object, Map<Cidr, bigint>>();
  readonly #waiting = new Map<Cidr, Pending>();
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
      pending = { node, block: blockOfReport(report), report, allocations: allocationsOf(node, report), reply };
    } catch (error) {
      reply(resultOf(report, { error: error instanceof Error ? error.message : String(error), retry: false }));
      return;
    }
    const generations = this.#generations.get(session) ?? new Map<Cidr, bigint>();
    this.#generations.set(session, generations);
    if (report.generation < (generations.get(pending.block) ?? 0n)) return;
    generations.set(pending.block, report.generation);
    this.#waiting.set(pending.block, pending);
    this.#next();
  }

  #next(): void {
    for (const [block, pending] of this.#waiting) {
      if (this.#writing.size >= MAX_WRITES) return;
      if (this.#writing.has(block)) continue;
      this.#waiting.delete(block);
      this.#writing.add(block);
      this.#write(pending)
        .catch(
          (error: unknown): Outcome => ({ error: `the API cannot be written now: ${error instanceof Error ? error.message : String(error)}`, retry: true }),
        )
        .then((outcome) => {
          this.#writing.delete(block);
          if (outcome.error !== "") this.#onWrite("failed");
          pending.reply(resultOf(pending.report, outcome));
          this.#next();
        })
        .catch(() => undefined);
    }
  }

  async #write({ node, block, allocations }: Pending): Promise<Outcome> {
    const name = blockName(block);
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const read = await this.#store.read("IPAMBlock", name);
      if (read.kind === "not-found") return { error: `IPAMBlock ${name} does not exist: claim a block again`, retry: true };
      if (read.kind === "invalid")
        return {
          error: `IPAMBlock ${name} cannot be understood: ${read.problems.map(({ field, message }) => `${field}: ${message}`).join("; ")}`,
          retry: true,
        };
      const { value } = read;
      if (value.node !== node)
        return { error: `IPAMBlock ${name} belongs to ${value.node === undefined ? "no node" : `node ${value.node}`}, not to ${node}`, retry: false };
      const merged = mergeAllocations(value, node, allocations);
      if (typeof merged === "string") return { error: merged, retry: false };
      if (isSame(merged, value.allocations)) {
        this.#onWrite("unchanged");
        return DONE;
      }
      const updated = await this.#store.update<"IPAMBlock">({ ...value, allocations: merged }, read);
      if (updated.kind !== "written") continue;
      this.#book.setBlock(name, updated.value);
      this.#onWrite("written");
      return DONE;
    }
    return { error: `IPAMBlock ${name} changes faster than it can be written`, retry: true };
  }
}

/** What the block should hold: the node's own pods as reported, all else as it was. Text: why that cannot be. */
function mergeAllocations(block: IpamBlock, node: NodeName, reported: readonly BlockAllocation[]): readonly BlockAllocation[] | string {
  const kept = block.allocations.filter((allocation) => allocation.pod === undefined || (allocation.node !== undefined && allocation.node !== node));
  const holder = new Map(kept.map((allocation) => [allocation.address, allocation]));
  for (const { address } of reported) {
    const other = holder.get(address);
    if (other !== undefined) return `address ${address} is held by ${other.handle} of ${other.node === undefined ? "no node" : `node ${other.node}`}`;
  }
  return [...kept, ...reported].sort((a, b) => compareIps(a.address, b.address));
}

function isSame(a: readonly BlockAllocation[], b: readonly BlockAllocation[]): boolean {
  if (a.length !== b.length) return false;
  const byAddress = new Map(b.map((allocation) => [allocation.address, allocation]));
  return a.every(({ address, handle, pod, node }) => {
    const other = byAddress.get(address);
    return other !== undefined && other.handle === handle && other.pod === pod && other.node === node;
  });
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

function resultOf({ block, generation }: EndpointReport, { error, retry }: Outcome): ReportResult {
  return { block, generation, error, retry };
}
