/** One connection of one container to the network: what is written down of it, and how it is named. */
import { createHash } from "node:crypto";
import { type PodKey, podKey } from "../../src/model/names.ts";
import type { IpAddress } from "../../src/net/ip.ts";

/** What the agent must know of a pod's connection after a restart. One for each (network, container, interface). */
export interface Attachment {
  readonly network: string;
  readonly containerId: string;
  /** Interface in the container; "" for one that was recovered without a journal, until its container is named again. */
  readonly ifname: string;
  /** "" outside Kubernetes. */
  readonly namespace: string;
  /** "" outside Kubernetes. */
  readonly pod: string;
  readonly podUid?: string;
  /** Host end of the pair. */
  readonly interfaceName: string;
  /** Hardware address of the container's end. */
  readonly mac: string;
  /** Path of the container's network namespace; "" when not known. */
  readonly netns: string;
  /** IPv4 first. */
  readonly addresses: readonly IpAddress[];
  /** Of both ends, when the network configuration says one; otherwise the agent's own. */
  readonly mtu?: number;
}

/** All that names an attachment; the rest follows. */
export type AttachmentRequest = Omit<Attachment, "addresses" | "interfaceName" | "mac">;

const INTERFACE_HASH_DIGITS = 11;

/** "<network>.<container id>": the name of the owner of an address in the API. */
export function handleOf({ network, containerId }: Pick<Attachment, "network" | "containerId">): string {
  return `${network}.${containerId}`;
}

/** Key of the attachment on this node. No part but the handle can hold a "/". */
export function attachmentId(attachment: Pick<Attachment, "network" | "containerId" | "ifname">): string {
  return `${handleOf(attachment)}/${attachment.ifname}`;
}

/** What stays the same when the pod comes again in another container. undefined: outside Kubernetes, or the runtime did not tell the pod's uid. */
export function lastingIdOf({ network, ifname, namespace, pod, podUid }: Omit<AttachmentRequest, "containerId" | "netns">): string | undefined {
  return pod === "" || podUid === undefined || podUid === "" ? undefined : `${network}/${ifname}/${namespace}/${pod}/${podUid}`;
}

/**
 * Host end's name: prefix and 11 hexadecimal digits of SHA-1 of "<namespace>.<pod>", as Calico's users know it; outside Kubernetes the beginning of
 * the container id. A second interface of one container gets a name of its own.
 */
export function hostInterfaceName(
  prefix: string,
  { namespace, pod, containerId, ifname }: Pick<Attachment, "namespace" | "pod" | "containerId" | "ifname">,
): string {
  const suffix = ifname === "eth0" || ifname === "" ? "" : `.${ifname}`;
  if (namespace === "" || pod === "") {
    const isPlain = suffix === "" && /^[a-zA-Z0-9]+$/.test(containerId) && containerId.length >= INTERFACE_HASH_DIGITS;
    return `${prefix}${isPlain ? containerId.slice(0, INTERFACE_HASH_DIGITS) : sha1(`${containerId}${suffix}`)}`;
  }
  return `${prefix}${sha1(`${namespace}.${pod}${suffix}`)}`;
}

/** Locally administered and stable: the same after a restart that lost everything. */
export function containerMac({ network, containerId, ifname }: Pick<Attachment, "network" | "containerId" | "ifname">): string {
  const hash = createHash("sha256")
    .update(`${network}/${containerId}/${ifname || "eth0"}`)
    .digest();
  hash[0] = ((hash[0] ?? 0) & 0xfc) | 0x02;
  return [...hash.subarray(0, 6)].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** Key of the pod in the view. A container outside Kubernetes is "/<container id>", which no record is about: it stays closed. */
export function podKeyOf({ namespace, pod, containerId }: Pick<Attachment, "namespace" | "pod" | "containerId">): PodKey {
  return namespace === "" || pod === "" ? podKey("", containerId) : podKey(namespace, pod);
}

function sha1(text: string): string {
  return createHash("sha1").update(text).digest("hex").slice(0, INTERFACE_HASH_DIGITS);
}
