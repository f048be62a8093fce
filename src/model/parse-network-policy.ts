/**
 * networking.k8s.io/v1 NetworkPolicy, checked as the API server checks it and with its defaults filled in.
 *
 * One bad peer or port makes the whole object invalid: to leave it out and keep the rest would be another policy than the one that was written.
 */
import { type Cidr, cidrContainsCidr, cidrLength, tryParseCidr } from "../net/cidr.ts";
import type { Parsed } from "./event.ts";
import { type Field, type ParseOptions, parseFields } from "./field.ts";
import { dnsSubdomainProblem, labelKeyProblem, labelValueProblem, portNameProblem } from "./name-syntax.ts";
import { OBJECT_META, readCheckedLabels, readMetadata, readNamespace, reportIf } from "./parse-metadata.ts";
import { PORT_PROTOCOLS } from "./parse-pod.ts";
import type { LabelRequirement, LabelSelector, Labels, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicyRule } from "./resource.ts";

const OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"] as const;
const PORT_RANGE = { min: 1, max: 65535 };

export function parseNetworkPolicy(object: unknown, options: ParseOptions = {}): Parsed<NetworkPolicy> {
  return parseFields(object, options, (root) => readNetworkPolicy(root, []));
}

/** `more`: fields of spec that a staged form has besides. */
export function readNetworkPolicy(root: Field, more: readonly string[]): NetworkPolicy {
  root.object(["apiVersion", "kind", "metadata", "spec", "status"]);
  root.child("metadata").object(OBJECT_META);
  const { name, resourceVersion } = readMetadata(root);
  if (name !== "") reportIf(root.child("metadata").child("name"), dnsSubdomainProblem(name));
  const spec = root.child("spec").object(["podSelector", "policyTypes", "ingress", "egress", ...more]);
  const ingress = spec
    .child("ingress")
    .items()
    .map((rule) => readRule(rule, "from"));
  const egress = spec
    .child("egress")
    .items()
    .map((rule) => readRule(rule, "to"));
  return {
    kind: "NetworkPolicy",
    namespace: readNamespace(root),
    name,
    resourceVersion,
    podSelector: readLabelSelector(spec.child("podSelector")),
    policyTypes: readPolicyTypes(spec.child("policyTypes"), egress.length > 0),
    ingress,
    egress,
  };
}

/** None written: Ingress, and Egress when there are egress rules. */
function readPolicyTypes(field: Field, hasEgress: boolean): ("Ingress" | "Egress")[] {
  const items = field.items();
  if (items.length === 0) return hasEgress ? ["Ingress", "Egress"] : ["Ingress"];
  if (items.length > 2) field.problem("must not have more than two entries");
  const types = items.flatMap((item) => {
    if (item.isAbsent) item.problem("must be Ingress or Egress");
    return item.oneOf(["Ingress", "Egress"] as const) ?? [];
  });
  return [...new Set(types)];
}

function readRule(field: Field, peersName: "from" | "to"): NetworkPolicyRule {
  field.object(["ports", peersName]);
  return { peers: field.child(peersName).items().flatMap(readPeer), ports: field.child("ports").items().flatMap(readPort) };
}

function readPeer(field: Field): NetworkPolicyPeer | [] {
  field.object(["podSelector", "namespaceSelector", "ipBlock"]);
  const ipBlock = field.child("ipBlock");
  const podSelector = field.child("podSelector");
  const namespaceSelector = field.child("namespaceSelector");
  if (ipBlock.isAbsent) {
    if (podSelector.isAbsent && namespaceSelector.isAbsent)
      field.problem("must have podSelector, namespaceSelector or ipBlock (to allow any peer, leave the whole list out)");
    return {
      kind: "pods",
      podSelector: podSelector.isAbsent ? undefined : readLabelSelector(podSelector),
      namespaceSelector: namespaceSelector.isAbsent ? undefined : readLabelSelector(namespaceSelector),
    };
  }
  if (!podSelector.isAbsent || !namespaceSelector.isAbsent)
    field.problem("must not have ipBlock together with podSelector or namespaceSelector; write two peers");
  ipBlock.object(["cidr", "except"]);
  const cidr = readCidr(ipBlock.child("cidr"));
  const except = ipBlock
    .child("except")
    .items()
    .flatMap((item) => {
      const inner = readCidr(item);
      if (inner !== undefined && cidr !== undefined && (!cidrContainsCidr(cidr, inner) || cidrLength(inner) === cidrLength(cidr))) {
        item.problem(`${inner} must be inside ${cidr}, and smaller`);
      }
      return inner ?? [];
    });
  return cidr === undefined ? [] : { kind: "ipBlock", cidr, except: [...new Set(except)] };
}

/** Host bits are cleared, as the API server takes them. */
function readCidr(field: Field): Cidr | undefined {
  const text = field.requiredString("a prefix, for example 10.0.0.0/8 or fd00::/64");
  const cidr = tryParseCidr(text);
  if (cidr === undefined && text !== "") field.problem(`${JSON.stringify(text)} is not a prefix; write ADDRESS/LENGTH, for example 10.0.0.0/8 or fd00::/64`);
  return cidr;
}

function readPort(field: Field): NetworkPolicyPort | [] {
  field.object(["protocol", "port", "endPort"]);
  const protocol = field.child("protocol").isAbsent ? "TCP" : field.child("protocol").oneOf(PORT_PROTOCOLS);
  const port = readPortNumberOrName(field.child("port"));
  const endPort = field.child("endPort").integer(PORT_RANGE);
  if (endPort !== undefined && typeof port !== "number") {
    field.child("endPort").problem(port === undefined ? "needs port, the first port of the range" : "needs a port number in port, not a name");
  } else if (endPort !== undefined && typeof port === "number" && endPort < port) {
    field.child("endPort").problem(`${endPort} must not be less than port ${port}`);
  }
  return protocol === undefined ? [] : { protocol, port, endPort };
}

function readPortNumberOrName(field: Field): number | string | undefined {
  if (typeof field.value !== "string") return field.integer(PORT_RANGE);
  reportIf(field, portNameProblem(field.value));
  return field.value;
}

/** A requirement that cannot be read is a problem and left out: what is returned then matches more than was written, and nothing less. */
export function readLabelSelector(field: Field): LabelSelector {
  field.object(["matchLabels", "matchExpressions"]);
  return { matchLabels: readMatchLabels(field.child("matchLabels")), matchExpressions: field.child("matchExpressions").items().flatMap(readRequirement) };
}

function readMatchLabels(field: Field): Labels {
  const before = field.problemCount;
  const labels = readCheckedLabels(field);
  if (field.problemCount === before) return labels;
  const readable = field.entries().filter(([key, { value }]) => typeof value === "string" && (labelKeyProblem(key) ?? labelValueProblem(value)) === undefined);
  return Object.fromEntries(readable.map(([key]) => [key, labels[key] ?? ""]));
}

function readRequirement(field: Field): LabelRequirement | [] {
  const before = field.problemCount;
  field.object(["key", "operator", "values"]);
  const key = field.child("key").requiredString("the label's key");
  if (key !== "") reportIf(field.child("key"), labelKeyProblem(key));
  if (field.child("operator").isAbsent) field.child("operator").problem(`is required: one of ${OPERATORS.join(", ")}`);
  const operator = field.child("operator").oneOf(OPERATORS);
  const values = field
    .child("values")
    .items()
    .map((item) => {
      const value = item.string() ?? "";
      reportIf(item, labelValueProblem(value));
      return value;
    });
  const needsValues = operator === "In" || operator === "NotIn";
  if (operator !== undefined && needsValues && values.length === 0) field.child("values").problem(`operator ${operator} needs at least one value`);
  if (operator !== undefined && !needsValues && values.length > 0) field.child("values").problem(`operator ${operator} takes no values`);
  return operator === undefined || field.problemCount > before ? [] : { key, operator, values };
}
