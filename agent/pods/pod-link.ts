/**
 * The pair of interfaces between the host and one container: made, checked, removed.
 *
 * The container's end has its addresses as /32 and /128 and sends everything to a gateway that is the host's end: 169.254.1.1 and a link-local
 * address, both known by permanent neighbours, so that nothing depends on ARP or neighbour discovery (networking as Calico's users know it).
 * Invariant: `connect` either leaves a complete pair or none; it opens the container's end last, so that no packet flows before the rest is there. Whether
 * packets may pass is not decided here: an interface with our prefix that is in no verdict map is dropped by the base chains.
 * route_localnet is not set: it would let a pod reach services on the host's loopback (CVE-2020-8558).
 */
import { closeSync, openSync, readSync, statfsSync, statSync, writeSync } from "node:fs";
import { type Cidr, hostCidr, parseCidr } from "../../src/net/cidr.ts";
import { type IpAddress, ipBits, ipVersion, parseIp } from "../../src/net/ip.ts";
import { isNetlinkError } from "../drivers/netlink/error.ts";
import { inNetns } from "../drivers/netlink/libc.ts";
import { type LinkStep, type Rtnetlink, RtnetlinkDriver } from "../drivers/rtnetlink/driver.ts";
import type { Link } from "../drivers/rtnetlink/links.ts";

export interface PodLinkSpec {
  readonly hostName: string;
  /** Path of the container's network namespace. */
  readonly netns: string;
  /** Interface in the container. */
  readonly ifname: string;
  readonly mac: string;
  readonly mtu: number;
  readonly addresses: readonly IpAddress[];
}

/** The kernel side of pods. A fake that keeps names serves tests, and an agent without dataplane. */
export interface PodLinks {
  /** Makes the pair, in the place of one of the same host name. Throws PodLinkError; nothing is left then. */
  connect(spec: PodLinkSpec): void;
  /** What differs from the spec, in words; empty when all is as made. */
  check(spec: PodLinkSpec): readonly string[];
  /** Gives a pair that is there the MTU of the spec, both ends; true when it had another. Throws PodLinkError. */
  adjust(spec: PodLinkSpec): boolean;
  /** Removes the pair by its host name; of one that is gone: nothing. The event loop goes on meanwhile. Rejects with PodLinkError. */
  disconnect(hostName: string): Promise<void>;
  /** Host ends with the prefix. */
  hostNames(prefix: string): ReadonlySet<string>;
}

/** netns-gone: the container's namespace is not there. host-netns: it is the agent's own. name-taken: the container has an interface of that name. */
export type PodLinkProblem = "netns-gone" | "host-netns" | "name-taken" | "kernel";

export class PodLinkError extends Error {
  readonly code: PodLinkProblem;

  constructor(code: PodLinkProblem, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "PodLinkError";
    this.code = code;
  }
}

/** Every host end has the same address: a container has one neighbour. */
export const HOST_MAC = "ee:ee:ee:ee:ee:ee";
export const GATEWAY_V4 = parseIp("169.254.1.1");
/** The link-local address that belongs to HOST_MAC (RFC 4291, appendix A). */
export const GATEWAY_V6 = parseIp("fe80::ecee:eeff:feee:eeee");

const DEFAULT_V4 = parseCidr("0.0.0.0/0");
const DEFAULT_V6 = parseCidr("::/0");
const RTPROT_BOOT = 3;
/** Of statfs(2), for a file that is a namespace. */
const NSFS_MAGIC = 0x6e73_6673;
/** Of every network namespace. */
const LOOPBACK_INDEX = 1;

export function createPodLinks(host: Rtnetlink): PodLinks {
  return new KernelPodLinks(host);
}

class KernelPodLinks implements PodLinks {
  readonly #host: Rtnetlink;

  constructor(host: Rtnetlink) {
    this.#host = host;
  }

  connect(spec: PodLinkSpec): void {
    requireContainerNetns(spec.netns);
    let made = this.#createPair(spec);
    // Ends with the same number in their namespaces (a host with few interfaces) look to the kernel like no pair, and it takes up to a second to tell
    // IPv6 that they are up (linkwatch_urgent_event). A pair made and removed here moves the host's numbers on.
    if (made !== undefined && made.index === made.peerIndex) {
      this.#remove(spec.hostName);
      this.#host.createVeth({ name: spec.hostName, peer: { name: `${spec.hostName.slice(0, -1)}+` } });
      made = this.#createPair(spec);
    }
    try {
      if (made?.peerIndex === undefined) throw new RangeError(`${spec.hostName} is gone`);
      this.#setUpHost(spec, made.index);
      setUpContainer(spec, made.peerIndex);
    } catch (error) {
      this.#remove(spec.hostName);
      throw kernelError(`set up ${spec.ifname} in ${spec.netns}`, error);
    }
  }

  check(spec: PodLinkSpec): readonly string[] {
    const problems: string[] = [];
    const host = this.#host.findLink(spec.hostName);
    if (host === undefined) return [`host interface ${spec.hostName} is missing`];
    if (!host.isUp) problems.push(`host interface ${spec.hostName} is down`);
    if (host.mac !== HOST_MAC) problems.push(`host interface ${spec.hostName} has the hardware address ${host.mac ?? "none"}, not ${HOST_MAC}`);
    if (!existsNetns(spec.netns)) return [...problems, `network namespace ${spec.netns} is missing`];
    using driver = openNetns(spec.netns);
    return [...problems, ...checkContainer(driver, spec, host.peerIndex)];
  }

  adjust({ hostName, netns, ifname, mtu }: PodLinkSpec): boolean {
    const host = this.#host.findLink(hostName);
    if (host === undefined || host.mtu === mtu || !existsNetns(netns)) return false;
    try {
      using driver = openNetns(netns);
      const container = driver.findLink(ifname);
      if (container === undefined || container.index !== host.peerIndex) return false;
      // The end that sends longer packets is changed last when the MTU grows, and first when it shrinks: neither end gets one that is too long for it.
      const change = (): void => driver.setLink(container.index, { mtu });
      if (mtu < host.mtu) change();
      this.#host.setLink(host.index, { mtu });
      if (mtu > host.mtu) change();
      return true;
    } catch (error) {
      throw kernelError(`set the MTU of ${hostName}`, error);
    }
  }

  async disconnect(hostName: string): Promise<void> {
    try {
      await this.#host.removeLink(hostName);
    } catch (error) {
      throw kernelError(`remove ${hostName}`, error);
    }
  }

  #remove(hostName: string): void {
    try {
      this.#host.deleteLink(hostName);
    } catch (error) {
      if (!isNetlinkError(error, "ENODEV")) throw kernelError(`remove ${hostName}`, error);
    }
  }

  hostNames(prefix: string): ReadonlySet<string> {
    return new Set(
      this.#host
        .links()
        .map(({ name }) => name)
        .filter((name) => name.startsWith(prefix)),
    );
  }

  #createPair({ hostName, netns, ifname, mac, mtu }: PodLinkSpec): Link | undefined {
    const create = (): Link | undefined => this.#host.createVeth({ name: hostName, mac: HOST_MAC, mtu, peer: { name: ifname, mac, mtu, netns } });
    try {
      try {
        return create();
      } catch (error) {
        // The host's name may be a leftover of ours; a name in the container is not for us to take.
        if (!isNetlinkError(error, "EEXIST") || this.#host.findLink(hostName) === undefined) throw error;
        this.#remove(hostName);
        return create();
      }
    } catch (error) {
      if (isNetlinkError(error, "EEXIST"))
        throw new PodLinkError("name-taken", `the container's namespace ${netns} has an interface ${ifname} already`, { cause: error });
      if (isNetlinkError(error, "EINVAL") && !isNamespaceFile(netns))
        throw new PodLinkError(
          "netns-gone",
          `${netns} is an ordinary file here, not a network namespace: the runtime's mount does not reach the agent; mount its directory with mountPropagation HostToContainer`,
          { cause: error },
        );
      throw kernelError(`make the interface pair of ${netns}`, error);
    }
  }

  #setUpHost({ hostName, addresses }: PodLinkSpec, linkIndex: number): void {
    const { hasV4, hasV6 } = familiesOf(addresses);
    if (hasV6) {
      setSysctl(`ipv6/conf/${hostName}/disable_ipv6`, "0");
      setSysctl(`ipv6/conf/${hostName}/forwarding`, "1");
      writeSysctl(`ipv6/conf/${hostName}/accept_ra`, "0");
      writeSysctl(`ipv6/conf/${hostName}/accept_dad`, "0");
    }
    const forV4: readonly LinkStep[] = [
      // For containers that lose the permanent neighbour: the host answers for 169.254.1.1, at once.
      { kind: "link", linkIndex, change: { ipv4: { forwarding: true, proxyArp: true } } },
      { kind: "proxy-delay", linkIndex, milliseconds: 0 },
    ];
    const gateway: LinkStep = { kind: "address", address: { linkIndex, address: GATEWAY_V6, prefixLength: 64 } };
    // The kernel gives the end this address by itself when it comes up first.
    ignoreExisting(() => this.#host.configure([...(hasV4 ? forV4 : []), ...(hasV6 ? [gateway] : [])]));
  }
}

function setUpContainer({ netns, ifname, addresses }: PodLinkSpec, linkIndex: number): void {
  const { hasV4, hasV6 } = familiesOf(addresses);
  using driver = inNetns(netns, () => {
    if (hasV4) setSysctl("ipv4/ip_forward", "0");
    if (hasV6) {
      for (const name of ["all", "default", "lo", ifname]) setSysctl(`ipv6/conf/${name}/disable_ipv6`, "0");
      writeSysctl(`ipv6/conf/${ifname}/accept_dad`, "0");
      writeSysctl(`ipv6/conf/${ifname}/accept_ra`, "0");
    }
    return RtnetlinkDriver.open();
  });
  driver.configure([
    { kind: "link", linkIndex: LOOPBACK_INDEX, change: { up: true } },
    ...addresses.map((address) => ({ kind: "address" as const, address: { linkIndex, address, prefixLength: ipBits(ipVersion(address)) } })),
    { kind: "link", linkIndex, change: { up: true } },
    ...(hasV4 ? [{ kind: "neighbour" as const, neighbour: { linkIndex, address: GATEWAY_V4, mac: HOST_MAC } }] : []),
    ...(hasV6 ? [{ kind: "neighbour" as const, neighbour: { linkIndex, address: GATEWAY_V6, mac: HOST_MAC } }] : []),
    ...containerRoutes(addresses, linkIndex).map((route) => ({ kind: "route" as const, change: { kind: "replace" as const, route } })),
  ]);
}

function familiesOf(addresses: readonly IpAddress[]): { readonly hasV4: boolean; readonly hasV6: boolean } {
  const has = (version: 4 | 6): boolean => addresses.some((address) => ipVersion(address) === version);
  return { hasV4: has(4), hasV6: has(6) };
}

interface ContainerRoute {
  readonly destination: Cidr;
  readonly gateway?: IpAddress;
  readonly linkIndex: number;
  readonly protocol: number;
}

function containerRoutes(addresses: readonly IpAddress[], linkIndex: number): readonly ContainerRoute[] {
  const of = (version: 4 | 6): boolean => addresses.some((address) => ipVersion(address) === version);
  return [
    ...(of(4)
      ? [
          { destination: hostCidr(GATEWAY_V4), linkIndex, protocol: RTPROT_BOOT },
          { destination: DEFAULT_V4, gateway: GATEWAY_V4, linkIndex, protocol: RTPROT_BOOT },
        ]
      : []),
    ...(of(6) ? [{ destination: DEFAULT_V6, gateway: GATEWAY_V6, linkIndex, protocol: RTPROT_BOOT }] : []),
  ];
}

function checkContainer(driver: Rtnetlink, { ifname, mac, addresses, hostName, netns }: PodLinkSpec, peerIndex: number | undefined): readonly string[] {
  const link = driver.findLink(ifname);
  if (link === undefined) return [`interface ${ifname} is missing in ${netns}`];
  const problems: string[] = [];
  if (peerIndex !== undefined && link.index !== peerIndex) problems.push(`interface ${ifname} in ${netns} is not the other end of ${hostName}`);
  if (!link.isUp) problems.push(`interface ${ifname} is down in ${netns}`);
  if (link.mac !== mac) problems.push(`interface ${ifname} has the hardware address ${link.mac ?? "none"}, not ${mac}`);
  const present = new Set(
    driver
      .addresses()
      .filter(({ linkIndex }) => linkIndex === link.index)
      .map(({ address }) => address),
  );
  for (const address of addresses) if (!present.has(address)) problems.push(`address ${address} is missing on ${ifname} in ${netns}`);
  const routes = driver.routes({ table: 254 });
  for (const { destination, gateway } of containerRoutes(addresses, link.index)) {
    // A plugin later in the chain may have put another default route in its place; one has to be there.
    if (!routes.some((route) => route.destination === destination))
      problems.push(`route ${destination}${gateway === undefined ? "" : ` via ${gateway}`} is missing in ${netns}`);
  }
  return problems;
}

function openNetns(netns: string): RtnetlinkDriver {
  return RtnetlinkDriver.open({ netns });
}

function requireContainerNetns(netns: string): void {
  const target = statOf(netns);
  if (target === undefined) throw new PodLinkError("netns-gone", `network namespace ${netns} does not exist`);
  const own = statSync("/proc/thread-self/ns/net");
  if (target.ino === own.ino && target.dev === own.dev)
    throw new PodLinkError("host-netns", `network namespace ${netns} is the host's own: a container of the host's network is not connected`);
}

function isNamespaceFile(path: string): boolean {
  return statfsSync(path).type === NSFS_MAGIC;
}

function existsNetns(netns: string): boolean {
  return netns !== "" && statOf(netns) !== undefined;
}

function statOf(path: string): { readonly ino: number; readonly dev: number } | undefined {
  try {
    return statSync(path);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}

/** Read first: writing some of them waits for the lock of all interfaces, for as long as another namespace is being taken down. */
function setSysctl(path: string, value: string): void {
  if (readSysctl(path) !== value) writeSysctl(path, value);
}

const sysctlBytes = Buffer.alloc(64);

/** Of the thread's network namespace; undefined: a kernel without the family has no such file. */
function readSysctl(path: string): string | undefined {
  return withSysctl(path, "r", (file) => sysctlBytes.toString("latin1", 0, readSync(file, sysctlBytes)).trimEnd());
}

function writeSysctl(path: string, value: string): void {
  withSysctl(path, "r+", (file) => writeSync(file, value));
}

/** Three system calls, where readFileSync makes five and writeFileSync as many: a pod has ten of them. */
function withSysctl<T>(path: string, flags: "r" | "r+", action: (file: number) => T): T | undefined {
  let file: number;
  try {
    file = openSync(`/proc/sys/net/${path}`, flags);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    return action(file);
  } finally {
    closeSync(file);
  }
}

function ignoreExisting(action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!isNetlinkError(error, "EEXIST")) throw error;
  }
}

function kernelError(what: string, cause: unknown): PodLinkError {
  return new PodLinkError("kernel", `could not ${what}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
}
