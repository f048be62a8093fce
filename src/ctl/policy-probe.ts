/**
 * Probes: questions whether one connection passes, and their answers from a world.
 *
 * A connection passes when egress at the source and ingress at the destination both let it. Only pods have policies; a pod on the host's network is
 * its node. What a person did not say right is a problem that names the probe, never a verdict.
 */
import type { NodeName } from "../model/names.ts";
import { recordName } from "../model/record-name.ts";
import type { Pod } from "../model/resource.ts";
import { type IpAddress, ipVersion, tryParseIp } from "../net/ip.ts";
import { NETWORK_POLICY_KIND, PROTOCOL_NUMBERS } from "../policy/convert-network-policy.ts";
import { type Decision, type Direction, evaluate, type Packet } from "../policy/evaluate.ts";
import type { SourcedProblem } from "./manifests.ts";
import { commonAddresses, type World, type WorldHost, type WorldPod } from "./policy-world.ts";

/** As written: other fields are handed through to the answer. */
export type Probe = Readonly<Record<string, unknown>>;

export interface DirectionResult {
  readonly verdict: "allow" | "deny";
  /** The policy that decided, "namespace/name" of a Kubernetes NetworkPolicy and with its kind before it for any other; for a denial because no rule allows, the policy if it is the only one that applies. */
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
  const sourcePort = readNumber(fields["sourcePort"], 65535, (message) => problem("sourcePort", message));
  const icmpType = readNumber(fields["icmpType"], 255, (message) => problem("icmpType", message));
  const icmpCode = readNumber(fields["icmpCode"], 255, (message) => problem("icmpCode", message));
  if (from === undefined || to === undefined || protocol === undefined || problems.length > 0) return { ok: false, problems };
  const { egress, ingress } = decide(world, { from, to, protocol, port, sourcePort, icmpType, icmpCode });
  return { ok: true, result: { ...fields, verdict: egress.verdict === "allow" && ingress.verdict === "allow" ? "allow" : "deny", egress, ingress } };
}

interface Connection {
  readonly from: End;
  readonly to: End;
  readonly protocol: string;
  readonly port: number | undefined;
  readonly sourcePort: number | undefined;
  readonly icmpType: number | undefined;
  readonly icmpCode: number | undefined;
}

interface BothResults {
  readonly egress: DirectionResult;
  readonly ingress: DirectionResult;
}

function decide(world: World, { from, to, protocol, port, sourcePort, icmpType, icmpCode }: Connection): BothResults {
  for (const end of [from, to]) if (end.pod?.pod.isTerminated === true) return both("deny", `${end.text} has ended (its phase is Succeeded or Failed)`);
  if (from.pod !== undefined && from.pod === to.pod) return both("allow", `${from.text} reaches itself without leaving`);
  const addresses = commonAddresses(from.addresses, to.addresses);
  if (addresses === undefined) return both("deny", `${from.text} and ${to.text} have no address of the same family`);
  const packet: Packet = {
    sourceAddress: addresses.source,
    destinationAddress: addresses.destination,
    protocol: protocolNumber(protocol, addresses.destination),
    destinationPort: port,
    sourcePort,
    icmpType,
    icmpCode,
  };
  const egress = directionResult(world, from, "egress", packet);
  const isOwnNode = to.pod !== undefined && !to.pod.pod.hostNetwork && isNodeOf(world, from, to.pod.pod, addresses.source);
  const ingress = isOwnNode
    ? fixed("allow", `${from.text} is the node of ${to.text}: a node always reaches its own pods`)
    : directionResult(world, to, "ingress", packet);
  return { egress, ingress };
}

function directionResult(world: World, { text, pod }: End, direction: Direction, packet: Packet): DirectionResult {
  const isHost = pod === undefined || pod.pod.hostNetwork;
  const host = isHost ? hostOf(world, pod?.pod.node, direction === "ingress" ? packet.destinationAddress : packet.sourceAddress) : undefined;
  if (host === undefined && pod === undefined) return fixed("allow", `${text} is no pod: no policy applies to it`);
  if (host === undefined && isHost) return fixed("allow", `${text} is on the host's network: no policy applies to it`);
  const stack = host === undefined ? pod?.stack : host.stack;
  const decision = evaluate({ stack, policy: world.policy, sets: world.sets, direction, packet });
  const keys = [...(stack?.tiers ?? []).flatMap((tier) => tier[direction]), ...(stack?.profiles ?? [])];
  const policies = keys.map((key) => policyName(world, key));
  const { policy, rule, reason } = explain(world, decision, { text: host === undefined ? text : `${text} (HostEndpoint ${host.host.name})`, direction });
  return { verdict: decision.action, policy, rule, policies, reason };
}

/** The host endpoint that an address of a node is behind: one that has the address, else the node's one for all interfaces. Failsafe ports are not looked at. */
function hostOf(world: World, ofPod: NodeName | undefined, address: IpAddress): WorldHost | undefined {
  const node = ofPod ?? world.nodeOfAddress.get(address);
  const hosts = world.hosts.filter(({ host }) => host.node === node);
  return hosts.find(({ host }) => host.expectedIPs.includes(address)) ?? hosts.find(({ host }) => host.interfaceName === "*");
}

function explain(
  world: World,
  { action, by }: Decision,
  { text, direction }: { readonly text: string; readonly direction: Direction },
): Pick<DirectionResult, "policy" | "rule" | "reason"> {
  switch (by.kind) {
    case "rule": {
      const policy = policyName(world, by.policy);
      return { policy, rule: by.origin, reason: `${action === "allow" ? "allowed" : "denied"} by ${direction} rule ${by.origin} of ${recordName(by.policy)}` };
    }
    case "tier-default": {
      const policies = by.policies.map((key) => policyName(world, key));
      const [only] = policies;
      return {
        policy: policies.length === 1 ? (only ?? null) : null,
        rule: null,
        reason: `${text} is isolated, and no ${direction} rule of ${by.policies.map(recordName).join(", ")} allows it`,
      };
    }
    case "missing-policy":
      return { policy: policyName(world, by.policy), rule: null, reason: `${recordName(by.policy)} applies and is not known` };
    case "no-match":
      if (action === "deny") return { policy: null, rule: null, reason: `${text} is a host endpoint, and no policy or profile allows it` };
      return { policy: null, rule: null, reason: `no policy decides ${direction} of ${text}` };
    case "no-policy":
      return { policy: null, rule: null, reason: `no policy applies to ${direction} of ${text}` };
  }
}

function policyName(world: World, key: string): string {
  const policy = world.policy(key);
  if (policy === undefined) return key;
  const name = policy.namespace === "" ? policy.name : `${policy.namespace}/${policy.name}`;
  return policy.policyKind === NETWORK_POLICY_KIND ? name : `${policy.policyKind} ${name}`;
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
  if (protocol in PROTOCOL_NUMBERS || PORTLESS.has(protocol)) return protocol;
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1 || number > 255 || typeof value === "object")
    return report(`${JSON.stringify(value)} is not one of TCP, UDP, SCTP, ICMP, or a protocol number from 1 to 255`);
  return Object.entries(PROTOCOL_NUMBERS).find(([, known]) => known === number)?.[0] ?? String(number);
}

function readNumber(value: unknown, max: number, report: Report): number | undefined {
  if (value === undefined || value === null) return undefined;
  const isValid = typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max;
  return isValid ? value : report(`must be a whole number from 0 to ${max}, not ${JSON.stringify(value)}`);
}

/** A number, or a name that the destination pod gives to one. Without a port only rules that name no port match. */
function readPort(
  { port, protocol, to }: { readonly port: unknown; readonly protocol: string; readonly to: End | undefined },
  report: Report,
): number | undefined {
  if (!(protocol in PROTOCOL_NUMBERS) || port === undefined || port === null) return undefined;
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
  return PROTOCOL_NUMBERS[protocol as keyof typeof PROTOCOL_NUMBERS] ?? Number(protocol);
}
