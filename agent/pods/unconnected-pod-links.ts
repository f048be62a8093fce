/** Pods without a kernel: names are kept in memory. For an agent that runs without dataplane, and for tests; it refuses what the kernel would. */
import type { Attachment } from "../addresses/attachment.ts";
import type { PodLinkSpec, PodLinks } from "./pod-link.ts";
import { PodLinkError } from "./pod-link.ts";

export class UnconnectedPodLinks implements PodLinks {
  /** By host name. */
  readonly specs = new Map<string, PodLinkSpec>();

  /** `connected`: pods of before a restart, whose interfaces a kernel would have kept. */
  constructor(connected: readonly Attachment[] = []) {
    for (const { interfaceName, netns, ifname, mac, addresses } of connected)
      this.specs.set(interfaceName, { hostName: interfaceName, netns, ifname, mac, mtu: 0, addresses });
  }

  connect(spec: PodLinkSpec): void {
    this.specs.delete(spec.hostName);
    for (const { netns, ifname } of this.specs.values()) {
      if (netns === spec.netns && ifname === spec.ifname)
        throw new PodLinkError("name-taken", `the container's namespace ${netns} has an interface ${ifname} already`);
    }
    this.specs.set(spec.hostName, spec);
  }

  check(spec: PodLinkSpec): readonly string[] {
    const present = this.specs.get(spec.hostName);
    if (present === undefined) return [`host interface ${spec.hostName} is missing`];
    return spec.addresses
      .filter((address) => !present.addresses.includes(address))
      .map((address) => `address ${address} is missing on ${spec.ifname} in ${spec.netns}`);
  }

  adjust(): boolean {
    return false;
  }

  disconnect(hostName: string): Promise<void> {
    this.specs.delete(hostName);
    return Promise.resolve();
  }

  hostNames(prefix: string): ReadonlySet<string> {
    return new Set([...this.specs.keys()].filter((name) => name.startsWith(prefix)));
  }
}
