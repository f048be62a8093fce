/**
 * Attachments out of what the API and the kernel say, for a journal that is lost. Pure.
 *
 * The kernel says which interface has which address now; the API says whose it was at the last report, which may be older. So where they differ the
 * kernel wins, and the API gives the names. Invariant: an address is in at most one of the results, and in none when `isOwned` says so.
 */
import type { IpAddress } from "../../src/net/ip.ts";
import { compareIps } from "../../src/net/ip.ts";
import type { ReportedAllocation } from "../sync/claims.ts";
import { type Attachment, containerMac, hostInterfaceName } from "./attachment.ts";

/** What the kernel says is in use: a pod's address and the host end that it is routed to. */
export interface UsedAddress {
  readonly address: IpAddress;
  readonly interfaceName: string;
}

/** Network of an attachment of which only the kernel's interface is known; its "container" is the interface. */
export const UNKNOWN_NETWORK = "unknown";

type Names = Pick<Attachment, "network" | "containerId" | "ifname" | "namespace" | "pod">;

export function recoverAttachments(input: {
  readonly allocations: readonly ReportedAllocation[];
  readonly used: readonly UsedAddress[];
  readonly isOwned: (address: IpAddress) => boolean;
  readonly interfacePrefix: string;
}): readonly Attachment[] {
  const { allocations, isOwned, interfacePrefix } = input;
  const holders = new Map(input.used.filter(({ address }) => !isOwned(address)).map(({ address, interfaceName }) => [address, interfaceName]));
  const found = new Map<string, { readonly names: Names; readonly addresses: Set<IpAddress> }>();
  for (const { address, handle, namespace, pod } of allocations) {
    if (isOwned(address)) continue;
    const names = { ...splitHandle(handle), ifname: "", namespace, pod };
    const interfaceName = hostInterfaceName(interfacePrefix, names);
    const holder = holders.get(address);
    if (holder !== undefined && holder !== interfaceName) continue;
    // Two containers of one pod's name: the older one's report is out of date, its addresses go with the first.
    const entry = found.get(interfaceName) ?? { names, addresses: new Set() };
    found.set(interfaceName, entry);
    entry.addresses.add(address);
  }
  for (const [address, interfaceName] of holders) {
    const names = { network: UNKNOWN_NETWORK, containerId: interfaceName, ifname: "", namespace: "", pod: "" };
    const entry = found.get(interfaceName) ?? { names, addresses: new Set() };
    found.set(interfaceName, entry);
    entry.addresses.add(address);
  }
  return [...found].map(([interfaceName, { names, addresses }]) => ({
    ...names,
    interfaceName,
    mac: containerMac(names),
    netns: "",
    addresses: [...addresses].sort(compareIps),
  }));
}

/** "<network>.<container id>": a network's name seldom has a dot, a pod's often. */
function splitHandle(handle: string): Pick<Attachment, "network" | "containerId"> {
  const dot = handle.indexOf(".");
  return dot < 0 ? { network: handle, containerId: "" } : { network: handle.slice(0, dot), containerId: handle.slice(dot + 1) };
}
