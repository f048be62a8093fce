/**
 * The pods that this node has connected: what the CNI side tells the reconcile loop, and the promise it gets back.
 *
 * Invariant: a promise of `upsert` or `remove` settles only after the kernel has the change, in one transaction with the pod's policy, so a pod whose
 * ADD has returned is protected and routed. The list that a start begins with (`restore`) is complete: until it was called nothing is swept.
 * Rejected: letting the pods part program routes and verdict maps itself: two writers of one table, and a moment in which one of them is behind.
 */
import type { PodKey } from "../../src/model/names.ts";
import type { IpAddress } from "../../src/net/ip.ts";

/** One connected pod. Its interface must exist in the host's namespace when `upsert` is called. */
export interface LocalEndpoint {
  readonly podKey: PodKey;
  /** Host end of the pod's pair, at most 15 characters, with the agent's prefix ("cali…"). */
  readonly interfaceName: string;
  /** Addresses that the pod may send from, and that are routed to it. */
  readonly addresses: readonly IpAddress[];
  /** MAC address of the pod's end, "ee:ee:…"; for permanent neighbour entries. */
  readonly mac: string;
  /** The sandbox. A `remove` for another one than the present is late and changes nothing. */
  readonly containerId: string;
  /** metadata.uid when the runtime gave it: a view record of another uid is that of a pod before under the same name, and does not count. */
  readonly podUid?: string;
}

export interface UpsertOptions {
  /**
   * How long (ms) to wait for the server to tell this pod's policy when the view does not have it yet. 0: do not wait. The interface is in the kernel
   * with a drop for both directions meanwhile.
   */
  readonly waitForPolicyMs?: number;
  /** When its ADD began, by the agent's clock: for the time until it is protected. Absent: now. */
  readonly since?: number;
  readonly signal?: AbortSignal;
}

export interface ProgrammedEndpoint {
  /** False: nothing is allowed in or out until the pod's Endpoint record arrives; it is opened then without a further call. */
  readonly hasPolicy: boolean;
}

export interface LocalEndpoints {
  /** Once, at start, before anything else: all pods that were connected when the agent last ran. */
  restore(endpoints: readonly LocalEndpoint[]): void;
  /** Adds or replaces. Resolves when programmed; rejects with EndpointNotProgrammedError when the kernel refuses it or the signal aborts. */
  upsert(endpoint: LocalEndpoint, options?: UpsertOptions): Promise<ProgrammedEndpoint>;
  /** Takes a pod out of maps, sets and routes. Resolves when the kernel has it; of an unknown pod or another sandbox at once. */
  remove(podKey: PodKey, containerId: string): Promise<void>;
  list(): readonly LocalEndpoint[];
}

export class EndpointNotProgrammedError extends Error {
  readonly code = "ENDPOINT_NOT_PROGRAMMED";
  readonly podKey: PodKey;

  constructor(podKey: PodKey, reason: string, options?: ErrorOptions) {
    super(`pod ${podKey} could not be connected to its policy: ${reason}`, options);
    this.name = "EndpointNotProgrammedError";
    this.podKey = podKey;
  }
}
