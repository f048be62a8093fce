/**
 * Reading of all address objects at once, and the few writes that free what nobody has. For controllers and `sedge ipam`.
 *
 * Invariant: nothing is freed on the word of an earlier reading. Each write asks the API again for what the finding says is absent (the node, the pod), reads
 * the object anew, and is a compare-and-swap on that version; an address is freed only while the same handle still has it. An address that a node has borrowed
 * is that node's to give back while the node exists: only the pod is taken off.
 */

import type { AddressSnapshot, Finding } from "../ipam/audit.ts";
import { affinityName, blockName } from "../ipam/block.ts";
import { loanHandle } from "../ipam/loans.ts";
import type { NodeName } from "../model/names.ts";
import { RESOURCE_INFO } from "../model/parse-resource.ts";
import type { BlockAllocation, Namespace, Pod, Resource, ResourceKind } from "../model/resource.ts";
import type { IpAddress } from "../net/ip.ts";
import type { ApiClient } from "./api-client.ts";
import { ApiError } from "./api-error.ts";
import { API_RESOURCES } from "./api-resources.ts";
import { objectAt, stringAt, tryJsonObject } from "./json-object.ts";
import type { AddressWriter } from "./writer.ts";

const PAGE_SIZE = 2_000;
const MAX_TRIES = 5;

/** What came of a repair. `kept`: not what it seemed, or somebody changes it now; the next reading will tell. */
export type RepairOutcome = { readonly kind: "done" } | { readonly kind: "kept"; readonly reason: string };

const DONE: RepairOutcome = { kind: "done" };
const kept = (reason: string): RepairOutcome => ({ kind: "kept", reason });

/**
 * Rejects with ApiError, ApiUnreachableError, or Error when an object cannot be understood: with a part missing, what is in use could look free.
 * Pods are read after the blocks, so that a pod that was made meanwhile is seen.
 */
export async function readAddresses(client: ApiClient, signal?: AbortSignal): Promise<AddressSnapshot> {
  const read = <Kind extends ResourceKind>(kind: Kind): Promise<Extract<Resource, { kind: Kind }>[]> => listAll(client, kind, signal);
  const [pools, blocks, affinities] = [await read("IPPool"), await read("IPAMBlock"), await read("BlockAffinity")];
  const [pods, nodes] = [await read("Pod"), await read("Node")];
  return { pools, blocks, affinities, pods, nodes: new Set(nodes.map(({ name }) => name)) };
}

/** All blocks as the API has them now. Rejects as `readAddresses`. */
export async function readBlocks(client: ApiClient, signal?: AbortSignal): Promise<AddressSnapshot["blocks"]> {
  return await listAll(client, "IPAMBlock", signal);
}

/** Rejects as `readAddresses`. */
export async function readNamespaces(client: ApiClient, signal?: AbortSignal): Promise<readonly Namespace[]> {
  return await listAll(client, "Namespace", signal);
}

async function listAll<Kind extends ResourceKind>(client: ApiClient, kind: Kind, signal?: AbortSignal): Promise<Extract<Resource, { kind: Kind }>[]> {
  const found: Extract<Resource, { kind: Kind }>[] = [];
  let next = "";
  do {
    const { items, continueToken } = await client.list(API_RESOURCES[kind], {
      query: { limit: PAGE_SIZE, ...(next === "" ? {} : { continue: next }) },
      ...(signal === undefined ? {} : { signal }),
    });
    for (const item of items) {
      const parsed = RESOURCE_INFO[kind].parse(item);
      if (!parsed.ok)
        throw new Error(
          `${kind} ${stringAt(objectAt(tryJsonObject(item), "metadata"), "name") ?? "?"} cannot be understood: ${parsed.problems.map(({ field, message }) => `${field}: ${message}`).join("; ")}`,
        );
      found.push(parsed.value as Extract<Resource, { kind: Kind }>);
    }
    next = continueToken;
  } while (next !== "");
  return found;
}

export class AddressRepair {
  readonly #client: ApiClient;
  readonly #writer: AddressWriter;

  constructor(options: { readonly client: ApiClient; readonly writer: AddressWriter }) {
    this.#client = options.client;
    this.#writer = options.writer;
  }

  /** Of a finding that only people can judge: kept. Rejects with ApiError, ApiUnreachableError. */
  async repair(finding: Finding): Promise<RepairOutcome> {
    switch (finding.kind) {
      case "node-gone":
        if (await this.#nodeExists(finding.node)) return kept(`node ${finding.node} exists`);
        if (finding.allocation.pod !== undefined && (await this.#hasAddress(finding.allocation.pod, finding.allocation.address)))
          return kept(`pod ${finding.allocation.pod} has the address`);
        return await this.release(finding.block, finding.allocation.address, finding.allocation.handle);
      case "pod-gone": {
        const pod = await this.#readPod(finding.pod);
        if (pod !== undefined && (pod.addresses.includes(finding.allocation.address) || pod.node === undefined || pod.node === finding.allocation.node))
          return kept(`pod ${finding.pod} exists`);
        return await this.release(finding.block, finding.allocation.address, finding.allocation.handle);
      }
      case "empty-block":
        return (await this.#nodeExists(finding.node)) ? kept(`node ${finding.node} exists`) : await this.#deleteBlock(finding.block.name, finding.node);
      case "stale-affinity": {
        const { affinity } = finding;
        const block = await this.#writer.read("IPAMBlock", blockName(affinity.cidr));
        if (block.kind === "invalid" || (block.kind === "found" && block.value.node === affinity.node))
          return kept(`block ${affinity.cidr} is of node ${affinity.node}`);
        if (affinity.state !== "pendingDeletion" && (await this.#nodeExists(affinity.node))) return kept(`node ${affinity.node} exists`);
        return outcomeOf((await this.#writer.delete("BlockAffinity", affinity)).kind);
      }
      default:
        return kept("this is for a person to decide");
    }
  }

  /** Frees the address if the handle still has it. */
  async release(block: string, address: IpAddress, handle: string): Promise<RepairOutcome> {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const read = await this.#writer.read("IPAMBlock", block);
      if (read.kind !== "found") return kept(`IPAMBlock ${block} is ${read.kind}`);
      const found = read.value.allocations.find((allocation) => allocation.address === address && allocation.handle === handle);
      if (found === undefined) return kept(`${handle} does not have ${address} any more`);
      const { loan, node } = found;
      const isBorrowed = loan?.isAgreed === true && node !== undefined && (await this.#nodeExists(node));
      if (isBorrowed && found.pod === undefined) return kept(`${address} is on loan to node ${node}, which gives it back itself`);
      const left: readonly BlockAllocation[] = isBorrowed ? [{ address, handle: loanHandle(node), pod: undefined, node, loan }] : [];
      const allocations = read.value.allocations.flatMap((allocation) => (allocation === found ? left : allocation));
      const written = await this.#writer.update<"IPAMBlock">({ ...read.value, allocations }, read);
      if (written.kind === "written") return DONE;
    }
    return kept(`IPAMBlock ${block} changes faster than it can be written`);
  }

  /** Marked deleted first, so that no claim takes it up in between; then the block, then its affinity. */
  async #deleteBlock(name: string, node: NodeName): Promise<RepairOutcome> {
    const read = await this.#writer.read("IPAMBlock", name);
    if (read.kind !== "found") return kept(`IPAMBlock ${name} is ${read.kind}`);
    if (read.value.node !== node || read.value.allocations.length > 0) return kept(`IPAMBlock ${name} is in use`);
    const affinity = await this.#writer.read("BlockAffinity", affinityName(node, read.value.cidr));
    if (affinity.kind === "found" && affinity.value.state !== "pendingDeletion") {
      const marked = await this.#writer.update<"BlockAffinity">({ ...affinity.value, state: "pendingDeletion" }, affinity);
      if (marked.kind !== "written") return kept(`BlockAffinity ${affinity.value.name} is ${marked.kind}`);
    }
    const deleted = await this.#writer.delete("IPAMBlock", read.value);
    if (deleted.kind === "conflict") return kept(`IPAMBlock ${name} has changed`);
    const last = await this.#writer.read("BlockAffinity", affinityName(node, read.value.cidr));
    return last.kind === "found" ? outcomeOf((await this.#writer.delete("BlockAffinity", last.value)).kind) : DONE;
  }

  async #nodeExists(name: NodeName): Promise<boolean> {
    return (await this.#tryGet("Node", { name })) !== undefined;
  }

  async #hasAddress(key: string, address: IpAddress): Promise<boolean> {
    return (await this.#readPod(key))?.addresses.includes(address) ?? false;
  }

  async #readPod(key: string): Promise<Pod | undefined> {
    const slash = key.indexOf("/");
    const object = await this.#tryGet("Pod", { namespace: key.slice(0, slash), name: key.slice(slash + 1) });
    if (object === undefined) return undefined;
    const parsed = RESOURCE_INFO.Pod.parse(object);
    if (!parsed.ok) throw new Error(`pod ${key} cannot be understood: ${parsed.problems.map(({ field, message }) => `${field}: ${message}`).join("; ")}`);
    return parsed.value as Pod;
  }

  async #tryGet(kind: ResourceKind, name: { readonly name: string; readonly namespace?: string }): Promise<object | undefined> {
    try {
      return await this.#client.get(API_RESOURCES[kind], name);
    } catch (error) {
      // A 404 without the reason is a path that is not served, which says nothing about the object.
      if (error instanceof ApiError && error.status === 404 && error.reason === "NotFound") return undefined;
      throw error;
    }
  }
}

function outcomeOf(kind: "deleted" | "conflict" | "not-found"): RepairOutcome {
  return kind === "conflict" ? kept("it has changed") : DONE;
}
