/**
 * Probes: questions whether one connection passes, and their answers from a world.
 *
 * A connection passes when egress at the source and ingress at the destination both let it. Only pods have policies; a pod on the host's network is
 * its node. What a person did not say right is a problem that names the probe, never a verdict.
 */
import type { Pod } from "../model/resource.ts";
import { type IpAddress, ipVersion, tryParseIp } from "../net/ip.ts";
import { PROTOCOL_NUMBERS } from "../policy/convert-network-policy.ts";
import { type Decision, type Direction, evaluate, type Packet } from "../policy/evaluate.ts";
import type { SourcedProblem } from "./manifests.ts";
import { commonAddresses, type World, type WorldPod } from "./policy-world.ts";

/** As written: other fields are handed through to the answer. */
export type Probe = Readonly<Record<string, unknown>>;

export interface DirectionResult {
  readonly verdict: "allow" | "deny";
  /** "namespace/name" of the policy that decided; for a denial because no rule allows, the policy if it is the only one that applies. */
  readonly policy: string | null;
  /** Index of the deciding rule in spec.ingress or spec.egress of that policy; null when no rule decided. */
  readonly rule: number | null;
  /** All policies that apply to the pod in this direction. */
  readonly policies: readonly string[];
  readonly reason: string;
}

export interface ProbeResult extends Probe {
  readonly verdict: "allow" | "deny";
  readonly egress: DirectionResult;
  readonly ingress: DirectionResult;
}

export type ProbeAnswer = { readonly ok: true; readonly result: ProbeResult } | { readonly ok: false; readonly problems: readonly SourcedProblem[] };

interface End {
  readonly text: string;
  readonly pod: WorldPod | undefined;
  readonly addresses: readonly IpAddress[];
}

const PORTLESS = new Set(["ICMP", "ICMPV6"]);

export function answerProbe(world: World, probe: unknown, index: number): ProbeAnswer {
  const problems: SourcedProblem[] = [];
  const problem = (field: string, message: string): undefined => {
    problems.push({ source: `probe ${index}`, message: `${field}: ${message}` });
    return undefined;
  };
  if (typeof probe !== "object" || probe === null || Array.isArray(probe)) {
    return { ok: false, problems: [{ source: `probe ${index}`, message: `must be an object {from, to, port, protocol}, not ${JSON.stringify(probe)}` }] };
  }
  const fields: Probe = { ...probe };
  const from = readEnd(world, fields["from"], (message) => problem("from", message));
  const to = readEnd(world, fields["to"], (message) => problem("to", message));
  const protocol = readProtocol(fields["protocol"], (message) => problem("protocol", message));
  const port = protocol === undefined ? undefined : readPort({ port: fields["port"], protocol, to }, (message) => problem("port", message));
  if (from === undefined || to === undefined || protocol === undefined || problems.length > 0) return { ok: false, problems };
  const { egress, ingress } = decide(world, { from, to, protocol, port });
  return { ok: true, result: { ...fields, verdict: egress.verdict === "allow" && ingress.verdict === "allow" ? "allow" : "deny", egress, ingress } };
}

interface Connection {
  readonly from: End;
  readonly to: End;
  readonly protocol: string;
  readonly port: number | undefined;
}

interface BothResults {
  readonly egress: DirectionResult;
  readonly ingress: DirectionResult;
}

function decide(world: World, { from, to, protocol, port }: Connection): BothResults {
  for (const end of [from, to]) if (end.pod?.pod.isTerminated === true) return both("deny", `${end.text} has ended (its phase is Succeeded or Failed)`);
  if (from.pod !== undefined && from.pod === to.pod) return both("allow", `${from.text} reaches itself without leaving`);
  const addresses = commonAddresses(from.addresses, to.addresses);
  if (addresses === undefined) return both("deny", `${from.text} and ${to.text} have no address of the same family`);
  const packet: Packet = {
    sourceAddress: addresses.source,
    destinationAddress: addresses.destination,
    protocol: protocolNumber(protocol, addresses.destination),
    destinationPort: port,
  };
  const egress = directionResult(world, from, "egress", packet);
  const isOwnNode = to.pod !== undefined && !to.pod.pod.hostNetwork && isNodeOf(world, from, to.pod.pod, addresses.source);
  const ingress = isOwnNode
    ? fixed("allow", `${from.text} is the node of ${to.text}: a node always reaches its own pods`)
    : directionResult(world, to, "ingress", packet);
  return { egress, ingress };
}

function directionResult(world: World, { text, pod }: End, direction: Direction, packet: Packet): DirectionResult {
  if (pod === undefined) return fixed("allow", `${text} is no pod: no policy applies to it`);
  if (pod.pod.hostNetwork) return fixed("allow", `${text} is on the host's network: no policy applies to it`);
  const decision = evaluate({ stack: pod.stack, policy: world.policy, sets: world.sets, direction, packet });
  const policies = (pod.stack?.tiers ?? []).flatMap((tier) => tier[direction].map((key) => policyName(world, key)));
  const { policy, rule, reason } = explain(world, decision, { text, direction });
  return { verdict: decision.action, policy, rule, policies, reason };
}

function explain(
  world: World,
  { action, by }: Decision,
  { text, direction }: { readonly text: string; readonly direction: Direction },
): Pick<DirectionResult, "policy" | "rule" | "reason"> {
  switch (by.kind) {
    case "rule": {
      const policy = policyName(world, by.policy);
      return { policy, rule: by.origin, reason: `${action === "allow" ? "allowed" : "denied"} by ${direction} rule ${by.origin} of policy ${policy}` };
    }
    case "tier-default": {
      const policies = by.policies.map((key) => policyName(world, key));
      const [only] = policies;
      return {
        policy: policies.length === 1 ? (only ?? null) : null,
        rule: null,
        reason: `${text} is isolated, and no ${direction} rule of ${policies.join(", ")} allows it`,
      };
    }
    case "missing-policy":
      return { policy: policyName(world, by.policy), rule: null, reason: `policy ${by.policy} applies and is not known` };
    case "no-match":
    case "no-policy":
      return { policy: null, rule: null, reason: `no policy applies to ${direction} of ${text}` };
  }
}

function policyName(world: World, key: string): string {
  const policy = world.policy(key);
  return policy === undefined ? key : `${policy.namespace}/${policy.name}`;
}

function isNodeOf(world: World, from: End, pod: Pod, source: IpAddress): boolean {
  if (pod.node === undefined) return false;
  return from.pod === undefined ? world.nodeOfAddress.get(source) === pod.node : from.pod.pod.hostNetwork && from.pod.pod.node === pod.node;
}

function both(verdict: "allow" | "deny", reason: string): BothResults {
  return { egress: fixed(verdict, reason), ingress: fixed(verdict, reason) };
}

function fixed(verdict: "allow" | "deny", reason: string): DirectionResult {
  return { verdict, policy: null, rule: null, policies: [], reason };
}

type Report = (message: string) => undefined;

function readEnd(world: World, value: unknown, report: Report): End | undefined {
  if (typeof value !== "string" || value === "") return report('is required: a pod as "namespace/name", or an address');
  const address = tryParseIp(value);
  if (address !== undefined) return { text: value, pod: world.podOfAddress.get(address), addresses: [address] };
  const pod = world.pods.get(value);
  if (pod !== undefined) return { text: value, pod, addresses: pod.addresses };
  const names = [...world.pods.keys()].sort();
  const shown =
    names.length === 0
      ? "the manifests have no pods"
      : `pods are: ${names.slice(0, 20).join(", ")}${names.length > 20 ? `, and ${names.length - 20} more` : ""}`;
  return report(`${JSON.stringify(value)} is neither an address nor a pod of the manifests; ${shown}`);
}

/** The protocol in capitals; TCP when none is written. */
function readProtocol(value: unknown, report: Report): string | undefined {
  if (value === undefined || value === null || value === "") return "TCP";
  const protocol = typeof value === "string" ? value.toUpperCase() : "";
  return protocol in PROTOCOL_NUMBERS || PORTLESS.has(protocol) ? protocol : report(`${JSON.stringify(value)} is not one of TCP, UDP, SCTP, ICMP`);
}

/** A number, or a name that the destination pod gives to one. Without a port only rules that name no port match. */
function readPort(
  { port, protocol, to }: { readonly port: unknown; readonly protocol: string; readonly to: End | undefined },
  report: Report,
): number | undefined {
  if (PORTLESS.has(protocol) || port === undefined || port === null) return undefined;
  const number = typeof port === "string" && /^\d+$/.test(port) ? Number(port) : port;
  if (typeof number === "number")
    return Number.isInteger(number) && number >= 1 && number <= 65535 ? number : report(`${JSON.stringify(port)} is not a port number from 1 to 65535`);
  if (typeof number !== "string") return report(`must be a number, or the name of a container port, not ${JSON.stringify(port)}`);
  if (to === undefined) return undefined;
  if (to.pod === undefined) return report(`${JSON.stringify(port)} is a name, and ${to.text} is no pod that could have a port of that name; write a number`);
  const named = to.pod.pod.namedPorts;
  const found = named.find((candidate) => candidate.name === number && candidate.protocol === protocol);
  const known = named.map((candidate) => `${candidate.name} (${candidate.protocol} ${candidate.port})`).join(", ");
  return (
    found?.port ?? report(`${to.text} has no ${protocol} container port named ${JSON.stringify(number)}; it has ${known === "" ? "no named ports" : known}`)
  );
}

function protocolNumber(protocol: string, destination: IpAddress): number {
  if (PORTLESS.has(protocol)) return ipVersion(destination) === 4 ? 1 : 58;
  return PROTOCOL_NUMBERS[protocol as keyof typeof PROTOCOL_NUMBERS];
}
