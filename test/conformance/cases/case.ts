/**
 * What a case is, and how its probes are written: "x/a > y/b 80/TCP", with " v6" behind it for the IPv6 addresses; "outside" is the address of nobody.
 * "x/a > y/b ICMP" has no port.
 */
import type { NaivePolicy } from "../naive-network-policy.ts";
import { type CasePod, OUTSIDE, PODS } from "./world.ts";

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
  /** undefined: outside. */
  readonly pod: CasePod | undefined;
}

/** A policy of namespace x unless another is given. */
export function policy(spec: NaivePolicy["spec"], { namespace = "x", name = "p" }: { readonly namespace?: string; readonly name?: string } = {}): NaivePolicy {
  return { metadata: { namespace, name }, spec };
}

/** As it is applied to a cluster. */
export function policyManifest(of: NaivePolicy): unknown {
  return { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", ...of };
}

export function probesOf(given: ConformanceCase): CaseProbe[] {
  return [...given.allow.map((text) => probeOf(text, "allow")), ...given.deny.map((text) => probeOf(text, "deny"))];
}

function probeOf(text: string, verdict: "allow" | "deny"): CaseProbe {
  const match = /^(\S+) > (\S+) (?:(\d+)\/)?(TCP|UDP|SCTP|ICMP)( v6)?$/.exec(text);
  if (match === null) throw new Error(`not a probe: ${text}`);
  const [, from = "", to = "", port, protocol = "", v6] = match;
  const isV6 = v6 !== undefined;
  return { text, from: endOf(from, isV6), to: endOf(to, isV6), protocol, port: port === undefined ? undefined : Number(port), verdict };
}

function endOf(name: string, isV6: boolean): CaseEnd {
  const pod = PODS.find((candidate) => `${candidate.namespace}/${candidate.name}` === name);
  if (pod === undefined && name !== "outside") throw new Error(`no pod ${name}`);
  const address = (pod ?? OUTSIDE)[isV6 ? "v6" : "v4"];
  return { text: pod === undefined || isV6 ? address : name, address, pod };
}
