/**
 * What a case is, and how its probes are written: "x/a > y/b 80/TCP", with " v6" behind it for the IPv6 addresses; "outside" is the address of nobody.
 * "x/a > y/b ICMP" has no port.
 */
import type { NaivePolicy } from "../naive-network-policy.ts";
import { type CasePod, OUTSIDE, PODS } from "./world.ts";

/** What a probe can name: its addresses, and the pod that has them; a place without a pod is outside, or a node. */
export interface CasePlace {
  readonly v4: string;
  readonly v6: string;
  readonly pod?: CasePod;
}

export const CASE_PLACES: ReadonlyMap<string, CasePlace> = new Map<string, CasePlace>([
  ["outside", OUTSIDE],
  ...PODS.map((pod): [string, CasePlace] => [`${pod.namespace}/${pod.name}`, { v4: pod.v4, v6: pod.v6, pod }]),
]);

export interface ConformanceCase {
  readonly name: string;
  readonly policies: readonly NaivePolicy[];
  readonly allow: readonly string[];
  readonly deny: readonly string[];
}

/** One probe of a case, resolved. A pod is named as a pod for IPv4, its first family, and by its address for IPv6. */
export interface CaseProbe {
  readonly text: string;
  readonly from: CaseEnd;
  readonly to: CaseEnd;
  /** TCP, UDP, SCTP or ICMP. */
  readonly protocol: string;
  readonly port: number | undefined;
  readonly verdict: "allow" | "deny";
}

export interface CaseEnd {
  /** As in a file of probes. */
  readonly text: string;
  readonly address: string;
  /** undefined: outside, or a node. */
  readonly pod: CasePod | undefined;
  /** "namespace/name" of a pod, otherwise as named. */
  readonly place: string;
}

/** A policy of namespace x unless another is given. */
export function policy(spec: NaivePolicy["spec"], { namespace = "x", name = "p" }: { readonly namespace?: string; readonly name?: string } = {}): NaivePolicy {
  return { metadata: { namespace, name }, spec };
}

/** As it is applied to a cluster. */
export function policyManifest(of: NaivePolicy): unknown {
  return { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", ...of };
}

export function probesOf(given: Pick<ConformanceCase, "allow" | "deny">, places: ReadonlyMap<string, CasePlace> = CASE_PLACES): CaseProbe[] {
  return [...given.allow.map((text) => probeOf(text, "allow", places)), ...given.deny.map((text) => probeOf(text, "deny", places))];
}

function probeOf(text: string, verdict: "allow" | "deny", places: ReadonlyMap<string, CasePlace>): CaseProbe {
  const match = /^(\S+) > (\S+) (?:(\d+)\/)?(TCP|UDP|SCTP|ICMP)( v6)?$/.exec(text);
  if (match === null) throw new Error(`not a probe: ${text}`);
  const [, from = "", to = "", port, protocol = "", v6] = match;
  const end = (name: string): CaseEnd => endOf(name, v6 !== undefined, places);
  return { text, from: end(from), to: end(to), protocol, port: port === undefined ? undefined : Number(port), verdict };
}

function endOf(name: string, isV6: boolean, places: ReadonlyMap<string, CasePlace>): CaseEnd {
  const found = places.get(name);
  if (found === undefined) throw new Error(`no place ${name}`);
  const { pod } = found;
  const address = found[isV6 ? "v6" : "v4"];
  const place = pod === undefined ? name : `${pod.namespace}/${pod.name}`;
  return { text: pod === undefined || isV6 ? address : place, address, pod, place };
}
