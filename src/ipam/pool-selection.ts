/**
 * Which pools a pod's addresses come from, and what its annotations ask for. Pure.
 *
 * Rules (Calico's): pools that are named, by annotation, are the only ones, must be enabled, and are taken whatever their selectors and mode say; otherwise
 * every enabled automatic pool whose selectors match the node and the namespace, in order of names. A pod's annotation wins over its namespace's.
 */
import type { AddressRequest } from "../model/record.ts";
import type { IpPool, Labels } from "../model/resource.ts";
import { cidrContains, cidrVersion, tryParseCidr } from "../net/cidr.ts";
import { type IpAddress, type IpVersion, ipVersion, tryParseIp } from "../net/ip.ts";
import { parseSelector } from "../selector/parse-selector.ts";

export interface AddressingFacts {
  /** Annotations cni.projectcalico.org/… of the pod, without the prefix. */
  readonly pod: Labels;
  readonly namespace: { readonly labels: Labels; readonly addressing: Labels };
  readonly node: { readonly labels: Labels };
  readonly pools: readonly IpPool[];
}

/** True when the pool gives addresses only to who names it. */
export function isSelective(pool: IpPool): boolean {
  return pool.isManual === true || pool.namespaceSelector !== undefined;
}

/** Nobody takes a new address from it, named or not. */
export function isClosed(pool: IpPool): boolean {
  return pool.disabled && pool.isManual !== true;
}

/** Pools that a pod of the namespace on the node has addresses from without asking, in order of names. */
export function automaticPools({ namespace, node, pools }: Pick<AddressingFacts, "namespace" | "node" | "pools">): readonly IpPool[] {
  return pools
    .filter((pool) => !pool.disabled && matches(pool.nodeSelector, node.labels) && matches(pool.namespaceSelector ?? "all()", namespace.labels))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** What the pod may have that is not what every pod of the node may; undefined: nothing of its own. */
export function addressRequestOf(facts: AddressingFacts): AddressRequest | undefined {
  const problems: string[] = [];
  const own = facts.pod;
  const inherited = facts.namespace.addressing;
  const addresses = listOf(own, "ipAddrs", problems).flatMap((text) => parseAddress(text, facts.pools, problems));
  if (addresses.length !== new Set(addresses.map(ipVersion)).size) problems.push("ipAddrs has more than one address of a family");
  const ipVersions = versionsOf(own["ipFamilies"] === undefined ? inherited : own, problems);
  const named = ([4, 6] as const).flatMap((version) => {
    const name = `ipv${version}pools`;
    return listOf(own[name] === undefined ? inherited : own, name, problems).flatMap((text) => namedPool(text, version, facts.pools, problems));
  });
  const mac = macOf(own["hwAddr"], problems);
  const pools = named.length > 0 ? withOtherFamilies(named, facts) : neededAutomatic(facts);
  if (problems.length === 0 && addresses.length === 0 && ipVersions.length === 0 && pools.length === 0 && mac === "") return undefined;
  return {
    pools: pools.map(({ name }) => name),
    addresses: addresses.toSorted((a, b) => ipVersion(a) - ipVersion(b)),
    ipVersions,
    mac,
    problem: problems.join("; "),
  };
}

/** Pools that are named say nothing about the other family. */
function withOtherFamilies(named: readonly IpPool[], facts: AddressingFacts): readonly IpPool[] {
  const versions = new Set(named.map(({ cidr }) => cidrVersion(cidr)));
  return [...named, ...automaticPools(facts).filter(({ cidr }) => !versions.has(cidrVersion(cidr)))];
}

/** Empty when the pools that are for every pod are just those. */
function neededAutomatic(facts: AddressingFacts): readonly IpPool[] {
  const pools = automaticPools(facts);
  return pools.some(isSelective) ? pools : [];
}

function matches(selector: string, labels: Labels): boolean {
  return parseSelector(selector).matches((key) => labels[key]);
}

/** A JSON list of texts, as Calico's annotations have it. */
function listOf(annotations: Labels, name: string, problems: string[]): readonly string[] {
  const text = annotations[name];
  if (text === undefined) return [];
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  if (Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === "string")) return value;
  problems.push(`annotation cni.projectcalico.org/${name} is ${JSON.stringify(text)}; write a JSON list of texts, for example ["10.65.0.7"]`);
  return [];
}

function parseAddress(text: string, pools: readonly IpPool[], problems: string[]): readonly IpAddress[] {
  const address = tryParseIp(text);
  if (address === undefined) problems.push(`annotation cni.projectcalico.org/ipAddrs: ${JSON.stringify(text)} is not an address`);
  else if (!pools.some((pool) => !isClosed(pool) && cidrContains(pool.cidr, address)))
    problems.push(`annotation cni.projectcalico.org/ipAddrs: ${address} is in no enabled IPPool`);
  return address === undefined ? [] : [address];
}

function namedPool(text: string, version: IpVersion, pools: readonly IpPool[], problems: string[]): readonly IpPool[] {
  const cidr = tryParseCidr(text);
  const pool = pools.find(({ name, cidr: own }) => name === text || (cidr !== undefined && own === cidr));
  const annotation = `annotation cni.projectcalico.org/ipv${version}pools`;
  if (pool === undefined) problems.push(`${annotation}: there is no IPPool ${JSON.stringify(text)}`);
  else if (isClosed(pool)) problems.push(`${annotation}: IPPool ${pool.name} is disabled`);
  else if (cidrVersion(pool.cidr) !== version) problems.push(`${annotation}: IPPool ${pool.name} (${pool.cidr}) is of the other family`);
  else return [pool];
  return [];
}

function versionsOf(annotations: Labels, problems: string[]): readonly IpVersion[] {
  return [
    ...new Set(
      listOf(annotations, "ipFamilies", problems).flatMap((text): IpVersion | never[] => {
        if (/^ipv4$/i.test(text)) return 4;
        if (/^ipv6$/i.test(text)) return 6;
        problems.push(`annotation cni.projectcalico.org/ipFamilies: ${JSON.stringify(text)} is neither IPv4 nor IPv6`);
        return [];
      }),
    ),
  ].toSorted((a, b) => a - b);
}

function macOf(text: string | undefined, problems: string[]): string {
  if (text === undefined) return "";
  const mac = text.toLowerCase().replaceAll("-", ":");
  if (/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac) && (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0 && mac !== "00:00:00:00:00:00") return mac;
  problems.push(`annotation cni.projectcalico.org/hwAddr: ${JSON.stringify(text)} is no hardware address of one interface`);
  return "";
}
