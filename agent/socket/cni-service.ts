/**
 * The CNI verbs over the pod manager: request in, answer out; no transport.
 *
 * Invariant: every request is answered, within its deadline, with a result or an error that names what to do. Kubernetes' names come from CNI_ARGS.
 */
import { hostCidr } from "../../src/net/cidr.ts";
import { ipVersion } from "../../src/net/ip.ts";
import type { AttachmentRequest } from "../addresses/attachment.ts";
import type { AddressManager } from "../addresses/manager.ts";
import type { ConnectedPod, PodManager } from "../pods/manager.ts";
import { GATEWAY_V4, GATEWAY_V6, HOST_MAC } from "../pods/pod-link.ts";
import { badRequest, gcIncomplete, LIMITED, NOT_AVAILABLE, problemOf, tryAgain } from "./cni-problem.ts";
import {
  type AddAnswer,
  type AttachmentCniRequest,
  addRequest,
  type CniAnswer,
  type CniVerb,
  checkRequest,
  delRequest,
  describeProblems,
  gcRequest,
  statusRequest,
} from "./cni-request.ts";
import type { QueuedDeleteKey } from "./delete-queue.ts";

export interface CniServiceOptions {
  readonly pods: PodManager;
  readonly addresses: AddressManager;
  /** Why pods that are connected may be limited now (the kernel does not have their policy); undefined when all is well. */
  readonly limitation: () => string | undefined;
  /** Carries out a DEL of the same attachment that waits on disk: an ADD comes after it. */
  readonly settleDelete?: (key: QueuedDeleteKey) => Promise<CniAnswer | undefined>;
}

export class CniService {
  readonly #options: CniServiceOptions;

  constructor(options: CniServiceOptions) {
    this.#options = options;
  }

  async answer(verb: CniVerb, body: unknown, signal: AbortSignal): Promise<CniAnswer> {
    try {
      return await this.#answer(verb, body, signal);
    } catch (error) {
      return {
        ok: false,
        error: signal.aborted ? tryAgain(`the agent did not finish in time: ${error instanceof Error ? error.message : String(error)}`) : problemOf(error),
      };
    }
  }

  async #answer(verb: CniVerb, body: unknown, signal: AbortSignal): Promise<CniAnswer> {
    const { pods } = this.#options;
    switch (verb) {
      case "add": {
        const { data, error } = addRequest.safeParse(body);
        if (error !== undefined) return { ok: false, error: badRequest(describeProblems(error)) };
        const before = await this.#options.settleDelete?.({ network: data.config.name, containerId: data.containerId, ifname: data.ifname });
        if (before?.ok === false) return before;
        const mtu = data.config.mtu ?? 0;
        return { ok: true, result: addAnswer(await pods.add(attachmentRequest(data), { signal, ...(mtu === 0 ? {} : { mtu }) })) };
      }
      case "del": {
        const { data, error } = delRequest.safeParse(body);
        if (error !== undefined) return { ok: false, error: badRequest(describeProblems(error)) };
        await pods.remove(attachmentRequest(data));
        return { ok: true };
      }
      case "check": {
        const { data, error } = checkRequest.safeParse(body);
        if (error !== undefined) return { ok: false, error: badRequest(describeProblems(error)) };
        const mac = containerMacOf(data);
        await pods.check(attachmentRequest(data), { addresses: ownAddresses(data), ...(mac === undefined ? {} : { mac }) });
        return { ok: true };
      }
      case "gc": {
        const { data, error } = gcRequest.safeParse(body);
        if (error !== undefined) return { ok: false, error: badRequest(describeProblems(error)) };
        const valid = data.config["cni.dev/valid-attachments"].map(({ containerID, ifname }) => ({ containerId: containerID, ifname }));
        const { failures } = await pods.collect(data.config.name, valid);
        return failures.length === 0 ? { ok: true } : { ok: false, error: gcIncomplete(failures) };
      }
      case "status": {
        const { error } = statusRequest.safeParse(body);
        if (error !== undefined) return { ok: false, error: badRequest(describeProblems(error)) };
        return this.#status();
      }
      default:
        return verb satisfies never;
    }
  }

  #status(): CniAnswer {
    const limitation = this.#options.limitation();
    if (limitation !== undefined) return { ok: false, error: { code: LIMITED, msg: "the node's policy is not whole in the kernel", details: limitation } };
    const obstacle = this.#options.addresses.obstacle();
    if (obstacle !== undefined) return { ok: false, error: { code: NOT_AVAILABLE, msg: "no pod can be added now", details: obstacle.message } };
    return { ok: true };
  }
}

function attachmentRequest({ containerId, netns, ifname, args, config }: AttachmentCniRequest): AttachmentRequest {
  const uid = args["K8S_POD_UID"];
  return {
    network: config.name,
    containerId,
    ifname,
    namespace: args["K8S_POD_NAMESPACE"] ?? "",
    pod: args["K8S_POD_NAME"] ?? "",
    ...(uid === undefined || uid === "" ? {} : { podUid: uid }),
    netns,
  };
}

/** Addresses that prevResult says are the container's and that can be ours: others in a chain give theirs with longer or shorter prefixes. */
function ownAddresses({ config }: AttachmentCniRequest): readonly string[] {
  return (config.prevResult?.ips ?? []).map(({ address }) => /^(.+)\/(?:32|128)$/.exec(address)?.[1]).filter((address) => address !== undefined);
}

/** The hardware address that the last plugin of the chain left the container's interface with. */
function containerMacOf({ ifname, netns, config }: AttachmentCniRequest): string | undefined {
  return config.prevResult?.interfaces
    ?.findLast(({ name, sandbox, mac }) => name === ifname && mac !== undefined && (sandbox ?? netns) === netns)
    ?.mac?.toLowerCase();
}

function addAnswer({ attachment, mtu }: ConnectedPod): AddAnswer {
  const { interfaceName, ifname, mac, netns, addresses } = attachment;
  const gateway = (version: 4 | 6): string => (version === 4 ? GATEWAY_V4 : GATEWAY_V6);
  return {
    hostInterface: { name: interfaceName, mac: HOST_MAC },
    containerInterface: { name: ifname, mac, sandbox: netns },
    mtu,
    ips: addresses.map((address) => ({ address: hostCidr(address), gateway: gateway(ipVersion(address)) })),
    routes: addresses.map((address) => ({ dst: ipVersion(address) === 4 ? "0.0.0.0/0" : "::/0", gw: gateway(ipVersion(address)) })),
  };
}
