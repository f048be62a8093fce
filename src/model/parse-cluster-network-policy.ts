/**
 * policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy.
 *
 * The API asks implementations to fail closed on what they do not know: a peer or protocol of a kind not known here is kept as such, and conversion
 * makes the rule match nothing (Accept) or everything (Deny, Pass). It says this of peers; the same is done for a field that is not known anywhere in the
 * spec, and where tier, priority or subject cannot be read the policy is a stand-in (see resource.ts) for all that it may have meant.
 */
import type { Cidr } from "../net/cidr.ts";
import { tryParseCidr } from "../net/cidr.ts";
import type { Parsed } from "./event.ts";
import { type Field, type ParseOptions, parseClosed } from "./field.ts";
import { dnsSubdomainProblem } from "./name-syntax.ts";
import { TOP_LEVEL } from "./parse-calico-policy.ts";
import { OBJECT_META, readMetadata, reportIf } from "./parse-metadata.ts";
import { readLabelSelector } from "./parse-network-policy.ts";
import type { ClusterNetworkPolicy, ClusterPods, ClusterPolicyPeer, ClusterPolicyProtocol, ClusterPolicyRule, PortProtocol } from "./resource.ts";

const MAX_ENTRIES = 25;
const MAX_RULE_NAME = 100;
const DOMAIN_NAME = /^(\*\.)?([a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.)+[a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.?$/;
const PORTS = { min: 1, max: 65535 };

export function parseClusterNetworkPolicy(object: unknown, options: ParseOptions = {}): Parsed<ClusterNetworkPolicy> {
  return parseClosed(object, options, (root) => {
    root.object(TOP_LEVEL);
    root.child("metadata").object(OBJECT_META);
    const { name, resourceVersion } = readMetadata(root);
    if (name !== "") reportIf(root.child("metadata").child("name"), dnsSubdomainProblem(name));
    const before = root.problemCount;
    const spec = root.child("spec").exactly(["tier", "priority", "subject", "ingress", "egress"]);
    if (spec.isAbsent) spec.problem("is required: tier, priority and subject");
    for (const required of ["tier", "priority", "subject"]) if (spec.child(required).isAbsent) spec.child(required).problem("is required");
    const head = {
      tier: spec.child("tier").oneOf(["Admin", "Baseline"] as const) ?? "Admin",
      priority: spec.child("priority").integer({ min: 0, max: 1000 }) ?? 0,
      subject: readSubject(spec.child("subject")),
    };
    const isStandIn = root.problemCount > before;
    const ingress = spec.isMisshapen ? [unknownRule(spec)] : readRules(spec.child("ingress"), "from");
    const egress = spec.isMisshapen ? [unknownRule(spec)] : readRules(spec.child("egress"), "to");
    return {
      value: { kind: "ClusterNetworkPolicy", name, resourceVersion, ...head, ingress, egress, ...(isStandIn ? { isStandIn } : {}) },
      isUsable: name !== "",
    };
  });
}

function readSubject(field: Field): ClusterPods {
  field.exactly(["namespaces", "pods"]);
  const pods = field.child("pods");
  const namespaces = field.child("namespaces");
  if (!field.isAbsent && pods.isAbsent === namespaces.isAbsent) field.problem("must have namespaces or pods, and not both");
  if (!pods.isAbsent && !namespaces.isAbsent) return { namespaceSelector: { matchLabels: {}, matchExpressions: [] }, podSelector: undefined };
  return pods.isAbsent ? { namespaceSelector: readLabelSelector(namespaces), podSelector: undefined } : readNamespacedPods(pods);
}

function readNamespacedPods(field: Field): ClusterPods {
  field.exactly(["namespaceSelector", "podSelector"]);
  // Absent, the selector of namespaces means all of them.
  if (field.child("podSelector").isAbsent) field.child("podSelector").problem("is required; write {} for all");
  return { namespaceSelector: readLabelSelector(field.child("namespaceSelector")), podSelector: readLabelSelector(field.child("podSelector")) };
}

function readRules(field: Field, peersName: "from" | "to"): ClusterPolicyRule[] {
  const before = field.problemCount;
  const items = field.items();
  if (field.problemCount > before) return [unknownRule(field)];
  if (items.length > MAX_ENTRIES) field.problem(`must have at most ${MAX_ENTRIES} rules, not ${items.length}`);
  return items.map((item) => readRule(item, peersName));
}

/** Stands for rules of which not even the number is known. */
function unknownRule({ path }: Field): ClusterPolicyRule {
  return { name: "", action: "Deny", peers: [{ kind: "unknown", field: path }], protocols: [] };
}

function readRule(field: Field, peersName: "from" | "to"): ClusterPolicyRule {
  const before = field.problemCount;
  field.exactly(["name", "action", peersName, "protocols"]);
  if (field.child("action").isAbsent) field.child("action").problem("is required: one of Accept, Deny, Pass");
  const action = field.child("action").oneOf(["Accept", "Deny", "Pass"] as const) ?? "Deny";
  const name = field.child("name").string() ?? "";
  if (name.length > MAX_RULE_NAME) field.child("name").problem(`must have at most ${MAX_RULE_NAME} characters`);
  const peers = readList(field.child(peersName), { isRequired: true }).map((peer) => readPeer(peer, peersName, action));
  const protocols = field.child("protocols").isAbsent ? [] : readList(field.child("protocols"), { isRequired: true }).map(readProtocol);
  const isNameless = peers.some(({ kind }) => kind === "nodes" || kind === "networks");
  if (field.isStrict && isNameless && protocols.some(({ kind }) => kind === "named"))
    field.child("protocols").problem("nodes and networks have no named ports");
  if (field.problemCount > before) return { name, action, peers: [{ kind: "unknown", field: field.path }], protocols: [] };
  return { name, action, peers, protocols };
}

function readList(field: Field, { isRequired }: { readonly isRequired: boolean }): Field[] {
  const items = field.items();
  if (isRequired && items.length === 0) field.problem("must have at least one entry");
  if (items.length > MAX_ENTRIES) field.problem(`must have at most ${MAX_ENTRIES} entries, not ${items.length}`);
  return items;
}

function readPeer(field: Field, peersName: "from" | "to", action: ClusterPolicyRule["action"]): ClusterPolicyPeer {
  const known = peersName === "from" ? ["namespaces", "pods"] : ["namespaces", "pods", "nodes", "networks", "domainNames"];
  const stated = known.filter((name) => !field.child(name).isAbsent);
  if (stated.length === 0) field.object(known);
  else field.exactly(known);
  const [kind] = stated;
  if (stated.length > 1) field.problem(`must have only one of ${known.join(", ")}`);
  switch (kind) {
    case "namespaces":
      return { kind: "pods", namespaceSelector: readLabelSelector(field.child(kind)), podSelector: undefined };
    case "pods":
      return { kind: "pods", ...readNamespacedPods(field.child(kind)) };
    case "nodes":
      return { kind: "nodes", selector: readLabelSelector(field.child(kind)) };
    case "networks":
      return { kind: "networks", networks: readNetworks(field.child(kind)) };
    case "domainNames":
      if (action !== "Accept") field.child(kind).problem("is for rules with action Accept only");
      for (const name of readList(field.child(kind), { isRequired: true })) {
        if (!DOMAIN_NAME.test(name.string() ?? "")) name.problem("must be a domain name, for example example.com or *.example.com");
      }
      return { kind: "unknown", field: `${field.path}.domainNames` };
    default:
      if (field.isStrict) field.problem(`must have one of ${known.join(", ")}`);
      return { kind: "unknown", field: field.path };
  }
}

function readNetworks(field: Field): Cidr[] {
  const networks = readList(field, { isRequired: true }).flatMap((item) => {
    const text = item.requiredString("a prefix, for example 10.0.0.0/8 or fd00::/64");
    const cidr = tryParseCidr(text);
    if (cidr === undefined && text !== "") item.problem(`${JSON.stringify(text)} is not a prefix; write ADDRESS/LENGTH, for example 10.0.0.0/8 or fd00::/64`);
    return cidr ?? [];
  });
  return [...new Set(networks)];
}

const TRANSPORTS: readonly (readonly [field: string, protocol: PortProtocol])[] = [
  ["tcp", "TCP"],
  ["udp", "UDP"],
  ["sctp", "SCTP"],
];

function readProtocol(field: Field): ClusterPolicyProtocol {
  const known = ["tcp", "udp", "sctp", "destinationNamedPort"];
  const stated = known.filter((name) => !field.child(name).isAbsent);
  if (stated.length === 0) field.object(known);
  else field.exactly(known);
  if (stated.length > 1) field.problem(`must have only one of ${known.join(", ")}`);
  const named = field.child("destinationNamedPort");
  if (!named.isAbsent) return { kind: "named", name: named.requiredString("the name of a container port") };
  for (const [name, protocol] of TRANSPORTS) if (!field.child(name).isAbsent) return { kind: "ports", protocol, ...readPorts(field.child(name)) };
  if (field.isStrict) field.problem(`must have one of ${known.join(", ")}`);
  return { kind: "unknown", field: field.path };
}

function readPorts(field: Field): { readonly first: number; readonly last: number } {
  const port = field.exactly(["destinationPort"]).child("destinationPort").exactly(["number", "range"]);
  if (port.isAbsent) return { first: 0, last: 65535 };
  const range = port.child("range").exactly(["start", "end"]);
  const number = port.child("number").integer(PORTS);
  if (port.child("number").isAbsent === range.isAbsent) port.problem("must have number or range, and not both");
  if (range.isAbsent) return { first: number ?? 0, last: number ?? 0 };
  for (const required of ["start", "end"]) if (range.child(required).isAbsent) range.child(required).problem("is required");
  const first = range.child("start").integer(PORTS) ?? 0;
  const last = range.child("end").integer(PORTS) ?? 0;
  if (first >= last && !range.child("start").isAbsent && !range.child("end").isAbsent) range.problem("start must be less than end");
  return { first, last };
}
