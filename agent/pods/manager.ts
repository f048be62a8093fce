/**
 * Pods' connections as a whole: addresses, interfaces, policy, in the right order, and back on any failure.
 *
 *   add      address taken → on disk, and the pair of interfaces meanwhile → maps, sets, routes and policy in one transaction → answer
 *   remove   maps and routes → pair → address (on disk)
 *
 * Invariants: a pod whose ADD returned is routed and protected; a failed ADD leaves neither address nor interface; an address is free only after the
 * interface that had it is gone, and the disk says so: a disk that refuses ends no DEL, the address stays in use until it takes it (or until the next start
 * finds the interface gone); a crash before the disk has an address leaves at most a closed interface, which the runtime's DEL takes away. Work on one host interface is serial. After a restart the journal says which pods there are, before the first apply.
 */

import type { AddressRequest } from "../../src/model/record.ts";
import type { IpAddress } from "../../src/net/ip.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import type { Part } from "../../src/runtime/supervisor.ts";
import { AddressError } from "../addresses/address-error.ts";
import { type Attachment, type AttachmentRequest, attachmentId, hostInterfaceName, podKeyOf } from "../addresses/attachment.ts";
import type { AddressManager } from "../addresses/manager.ts";
import type { LocalEndpoint, LocalEndpoints } from "../apply/local-endpoints.ts";
import { KeyedQueue } from "./keyed-queue.ts";
import { PodError } from "./pod-error.ts";
import type { PodLinkSpec, PodLinks } from "./pod-link.ts";
import type { PodWishes } from "./pod-wishes.ts";

export interface PodManagerOptions {
  readonly addresses: AddressManager;
  readonly links: PodLinks;
  readonly endpoints: LocalEndpoints;
  readonly clock: Clock;
  readonly log: Logger;
  readonly interfacePrefix: string;
  /** Of pods' interfaces, unless the network configuration says another. */
  readonly mtu: number;
  /** How long an ADD waits for the server to tell the pod's policy (ms); then it succeeds, and the pod is closed until it is told. Default 5 s. */
  readonly policyWaitMs?: number;
  /** What then: "closed" as said, or "refuse": the ADD fails, leaves nothing, and the runtime comes again. Default "closed". */
  readonly withoutPolicy?: "closed" | "refuse";
  /** What pods ask for; without it every pod is given what every pod may have. */
  readonly wishes?: PodWishes;
  /** A pod is connected, or gone, and nobody was told yet: what else hangs on its interface can be made. */
  readonly onConnected?: () => void;
  /** Forgets what the kernel tracks of connections of these addresses, before they can be another's. */
  readonly forgetConnections?: (addresses: readonly IpAddress[]) => void;
}

export interface AddPodOptions {
  readonly mtu?: number;
  readonly signal?: AbortSignal;
}

export interface ConnectedPod {
  readonly attachment: Attachment;
  readonly mtu: number;
  /** False: closed in both directions until the server tells its policy. */
  readonly hasPolicy: boolean;
}

/** What the caller was told. */
export interface ExpectedConnection {
  readonly addresses: readonly string[];
  /** Of the container's end; absent: as `add` made it. */
  readonly mac?: string;
}

export interface GcOutcome {
  readonly removed: readonly string[];
  /** What could not be removed, with the reason. */
  readonly failures: readonly string[];
}

export interface PodManager extends Part {
  /** Connects; for a request that was answered before, the same answer. Rejects with AddressError, PodLinkError, EndpointNotProgrammedError. */
  add(request: AttachmentRequest, options?: AddPodOptions): Promise<ConnectedPod>;
  /** Disconnects and frees. Of one that is not there: nothing. */
  remove(request: AttachmentRequest): Promise<void>;
  /** Rejects with PodError when anything that `add` made is not as it was made, or as the plugins behind it in the chain left it. */
  check(request: AttachmentRequest, expected: ExpectedConnection): Promise<void>;
  /** Removes all attachments of the network but these. */
  collect(network: string, valid: readonly Pick<Attachment, "containerId" | "ifname">[]): Promise<GcOutcome>;
}

const DEFAULT_POLICY_WAIT_MS = 5_000;
/** Between two tries to write down what the disk refused. */
const UNWRITTEN_RETRY_MS = 5_000;

export function createPodManager(options: PodManagerOptions): PodManager {
  return new Manager(options);
}

class Manager implements PodManager {
  readonly name = "pods";
  readonly #options: PodManagerOptions;
  readonly #queue = new KeyedQueue();
  /** Disconnected, and the disk has not taken that their addresses are free; by id. At most those that were connected. */
  readonly #unwritten = new Map<string, Attachment>();

  constructor(options: PodManagerOptions) {
    this.#options = options;
  }

  /** Tells the pods of before, then ends what is not there any more. */
  async run(signal: AbortSignal): Promise<void> {
    const { addresses, links, endpoints, interfacePrefix, log } = this.#options;
    // Without a journal the interfaces of pods say nothing about whose they are: the list would not be complete.
    if (!addresses.isTrusted() && links.hostNames(interfacePrefix).size > 0) await addresses.whenTrusted(signal);
    if (signal.aborted) return;
    const present = links.hostNames(interfacePrefix);
    const [here, gone] = [
      addresses.attachments().filter(({ interfaceName }) => present.has(interfaceName)),
      addresses.attachments().filter(({ interfaceName }) => !present.has(interfaceName)),
    ];
    for (const attachment of here) {
      try {
        if (links.adjust(this.#specOf(attachment)))
          log.info({ pod: podKeyOf(attachment), mtu: this.#specOf(attachment).mtu }, "MTU of the pod's interface changed");
      } catch (error) {
        log.warn({ err: error, pod: podKeyOf(attachment) }, "the MTU of a pod's interface could not be changed");
      }
    }
    endpoints.restore(here.map(endpointOf));
    for (const attachment of gone) {
      log.info(
        { container: attachment.containerId, pod: podKeyOf(attachment), interface: attachment.interfaceName },
        "the pod's interface is gone: its addresses are released",
      );
      await this.#serial(attachment, () => this.#disconnect(attachment)).catch((error: unknown) =>
        log.warn({ err: error, container: attachment.containerId }, "addresses of a pod that is gone could not be released"),
      );
    }
    while (!signal.aborted) {
      await this.#options.clock.sleep(UNWRITTEN_RETRY_MS, signal);
      await this.#freeUnwritten(signal);
    }
  }

  add(request: AttachmentRequest, { mtu, signal }: AddPodOptions = {}): Promise<ConnectedPod> {
    return this.#serial(request, async () => {
      const { addresses, links, endpoints } = this.#options;
      const wanted: AttachmentRequest = { ...request, ...(mtu === undefined ? {} : { mtu }) };
      await this.#takeOver(wanted);
      this.#unwritten.delete(attachmentId(wanted));
      const since = this.#options.clock.now();
      let isNew = false;
      try {
        const wish = await this.#wishOf(wanted, signal);
        const attachment = await addresses.attach(wanted, {
          ...(wish === undefined ? {} : { wish }),
          ...(signal === undefined ? {} : { signal }),
          meanwhile: (fresh) => {
            isNew = true;
            links.connect(this.#specOf(fresh));
          },
        });
        const spec = this.#specOf(attachment);
        // A request that was answered before finds everything in place.
        if (!isNew && links.check(spec).length > 0) {
          // The routes go with the interface that is replaced: they are to be set again.
          await endpoints.remove(podKeyOf(attachment), attachment.containerId);
          links.connect(spec);
        }
        const isKubernetes = attachment.pod !== "";
        const waitForPolicyMs = isKubernetes ? (this.#options.policyWaitMs ?? DEFAULT_POLICY_WAIT_MS) : 0;
        const { hasPolicy } = await endpoints.upsert(endpointOf(attachment), { waitForPolicyMs, since, ...(signal === undefined ? {} : { signal }) });
        if (!hasPolicy && isKubernetes && this.#options.withoutPolicy === "refuse")
          throw new PodError("no-policy", `the server has not told the policy of pod ${podKeyOf(attachment)} in ${waitForPolicyMs} ms`);
        this.#options.onConnected?.();
        return { attachment, mtu: spec.mtu, hasPolicy };
      } catch (error) {
        await this.#undo(wanted);
        throw error;
      }
    });
  }

  remove(request: AttachmentRequest): Promise<void> {
    // A DEL may come without the arguments that name the pod.
    return this.#serial(this.#options.addresses.find(request) ?? request, async () => {
      const { addresses } = this.#options;
      const attachment = addresses.find(request);
      if (attachment !== undefined) await this.#disconnect(attachment);
      else await this.#removeLeftover(request);
    });
  }

  check(request: AttachmentRequest, expected: ExpectedConnection): Promise<void> {
    return this.#serial(request, () => {
      const { addresses, endpoints, links } = this.#options;
      const attachment = addresses.find(request);
      if (attachment === undefined)
        return Promise.reject(
          new PodError("unknown-attachment", `container ${request.containerId} has no interface ${request.ifname} in network ${request.network}`),
        );
      const { mac = attachment.mac } = expected;
      const problems = [...links.check(this.#specOf({ ...attachment, netns: request.netns, mac }))];
      for (const address of expected.addresses)
        if (!attachment.addresses.some((own) => own === address)) problems.push(`address ${address} is not reserved for the container`);
      const podKey = podKeyOf(attachment);
      const programmed = endpoints.list().find((endpoint) => endpoint.podKey === podKey && endpoint.containerId === attachment.containerId);
      if (programmed === undefined) problems.push(`pod ${podKey} is not in the node's policy`);
      return problems.length === 0 ? Promise.resolve() : Promise.reject(new PodError("broken", `container ${request.containerId}: ${problems.join("; ")}`));
    });
  }

  async collect(network: string, valid: readonly Pick<Attachment, "containerId" | "ifname">[]): Promise<GcOutcome> {
    const keep = new Set(valid.map(({ containerId, ifname }) => attachmentId({ network, containerId, ifname })));
    const containers = new Set(valid.map(({ containerId }) => containerId));
    const removed: string[] = [];
    const failures: string[] = [];
    const collectOne = async (attachment: Attachment): Promise<void> => {
      // One without an interface name was recovered: its container decides.
      const isValid = attachment.ifname === "" ? containers.has(attachment.containerId) : keep.has(attachmentId(attachment));
      if (attachment.network !== network || isValid) return;
      try {
        await this.#serial(attachment, () => this.#disconnect(attachment));
        removed.push(`${attachment.containerId}/${attachment.ifname}`);
      } catch (error) {
        failures.push(`${attachment.containerId}/${attachment.ifname}: ${error instanceof Error ? error.message : String(error)}`);
      }
    };
    await Promise.all(this.#options.addresses.attachments().map(collectOne));
    return { removed, failures };
  }

  #serial<T>(request: Pick<Attachment, "namespace" | "pod" | "containerId" | "ifname">, work: () => Promise<T>): Promise<T> {
    return this.#queue.run(hostInterfaceName(this.#options.interfacePrefix, request), work);
  }

  /** The same pod in a new sandbox while the old one was never deleted: the old one gives everything up. */
  async #takeOver(request: AttachmentRequest): Promise<void> {
    const { addresses, interfacePrefix, links, log } = this.#options;
    const present = addresses.find(request);
    const own = new Set([attachmentId(request), ...(present === undefined ? [] : [attachmentId(present)])]);
    for (const older of addresses.holdersOf(hostInterfaceName(interfacePrefix, request))) {
      if (own.has(attachmentId(older))) continue;
      log.info({ pod: podKeyOf(request), older: older.containerId, container: request.containerId }, "pod taken over from an older sandbox");
      await links.disconnect(older.interfaceName);
      this.#options.forgetConnections?.(older.addresses);
      await addresses.detach(older);
    }
  }

  /** Of a pod that has its addresses already: none, they stay. */
  async #wishOf(request: AttachmentRequest, signal?: AbortSignal): Promise<AddressRequest | undefined> {
    const { addresses, log, policyWaitMs = DEFAULT_POLICY_WAIT_MS, wishes } = this.#options;
    if (wishes === undefined || request.pod === "" || addresses.find(request) !== undefined) return undefined;
    const podKey = podKeyOf(request);
    const { podUid } = request;
    const wish = await wishes.find(podKey, { waitMs: policyWaitMs, ...(podUid === undefined ? {} : { podUid }), ...(signal === undefined ? {} : { signal }) });
    if (!wish.isKnown)
      log.warn({ pod: podKey, waitedMs: policyWaitMs }, "the server has not told this pod: its annotations are not known, it is given an address as any other");
    return wish.request;
  }

  /** After a failed ADD: neither interface nor address is left. */
  async #undo(request: AttachmentRequest): Promise<void> {
    const { addresses, log } = this.#options;
    const attachment = addresses.find(request);
    await (attachment === undefined ? this.#removeLeftover(request) : this.#disconnect(attachment)).catch((failure: unknown) =>
      log.error({ err: failure, container: request.containerId }, "a failed ADD could not be undone: the runtime's DEL will"),
    );
  }

  /** An interface that nobody has an address for: its ADD broke off before the disk had it. */
  async #removeLeftover(request: AttachmentRequest): Promise<void> {
    const { addresses, interfacePrefix, links } = this.#options;
    const hostName = hostInterfaceName(interfacePrefix, request);
    if (addresses.isTrusted() && addresses.holdersOf(hostName).length === 0) await links.disconnect(hostName);
  }

  async #disconnect(attachment: Attachment): Promise<void> {
    const { addresses, endpoints, links, forgetConnections } = this.#options;
    if (!addresses.has(attachment)) return;
    await endpoints.remove(podKeyOf(attachment), attachment.containerId);
    await links.disconnect(attachment.interfaceName);
    this.#options.onConnected?.();
    forgetConnections?.(attachment.addresses);
    await this.#free(attachment);
  }

  /** Of an attachment that is disconnected. Never rejects for the disk's sake. */
  async #free(attachment: Attachment): Promise<void> {
    const { addresses, log } = this.#options;
    const id = attachmentId(attachment);
    try {
      await addresses.detach(attachment);
      if (this.#unwritten.delete(id)) log.info({ pod: podKeyOf(attachment), addresses: attachment.addresses }, "the disk takes it again: addresses are free");
    } catch (error) {
      if (!(error instanceof AddressError) || error.code !== "journal") throw error;
      if (!this.#unwritten.has(id))
        log.warn(
          { err: error, pod: podKeyOf(attachment), container: attachment.containerId, addresses: attachment.addresses },
          "a pod is disconnected, and the disk does not take it: its addresses stay in use until it does",
        );
      this.#unwritten.set(id, attachment);
    }
  }

  async #freeUnwritten(signal: AbortSignal): Promise<void> {
    for (const [id, attachment] of this.#unwritten) {
      if (signal.aborted) return;
      await this.#serial(attachment, () => (this.#unwritten.has(id) ? this.#free(attachment) : Promise.resolve())).catch((error: unknown) =>
        this.#options.log.warn({ err: error, container: attachment.containerId }, "addresses of a pod that is gone could not be released"),
      );
      // The disk that refuses one refuses them all.
      if (this.#unwritten.has(id)) return;
    }
  }

  #specOf({ interfaceName: hostName, netns, ifname, mac, addresses, mtu = this.#options.mtu }: Attachment): PodLinkSpec {
    return { hostName, netns, ifname, mac, mtu, addresses };
  }
}

function endpointOf(attachment: Attachment): LocalEndpoint {
  const { interfaceName, addresses, mac, containerId, podUid } = attachment;
  return { podKey: podKeyOf(attachment), interfaceName, addresses, mac, containerId, ...(podUid === undefined ? {} : { podUid }) };
}
