/** NetworkPolicy (networking.k8s.io/v1): its defaults and its validation, in kube-apiserver's words (pkg/apis/networking/validation). */
import { isIP } from "node:net";
import { cidrContainsCidr, cidrLength, hasHostBits, tryParseCidr } from "../../net/cidr.ts";
import type { JsonObject, JsonValue } from "./json.ts";
import { arrayAt, ensureObject, isObject, objectAt, plainText, stringAt, valueAt } from "./json.ts";
import { dnsSubdomainProblems, portNameProblems, portNumberProblems } from "./names.ts";
import { labelSelectorProblems } from "./object-meta.ts";
import type { KindRules } from "./resource-type.ts";
import type { Cause } from "./status.ts";
import { fieldForbidden, fieldInvalid, fieldNotSupported, fieldRequired } from "./status.ts";

export const networkPolicyRules: KindRules = { nameProblems: dnsSubdomainProblems, defaults: fillIn, validate: problems };

/** policyTypes: Ingress always, Egress when the policy has an egress section. */
function fillIn(policy: JsonObject): void {
  const spec = ensureObject(policy, "spec");
  ensureObject(spec, "podSelector");
  if (arrayAt(spec, "policyTypes").length === 0) spec["policyTypes"] = arrayAt(spec, "egress").length > 0 ? ["Ingress", "Egress"] : ["Ingress"];
  for (const rule of [...arrayAt(spec, "ingress"), ...arrayAt(spec, "egress")]) {
    for (const port of arrayAt(rule, "ports")) if (isObject(port)) port["protocol"] ??= "TCP";
  }
}

function problems(policy: JsonObject, before: JsonObject | undefined): Cause[] {
  const spec = objectAt(policy, "spec");
  const accepted = before === undefined ? new Set<string>() : cidrsOf(before);
  const causes = labelSelectorProblems(objectAt(spec, "podSelector"), "spec.podSelector");
  for (const [direction, peers] of [
    ["ingress", "from"],
    ["egress", "to"],
  ] as const) {
    for (const [index, rule] of arrayAt(spec, direction).entries()) {
      const path = `spec.${direction}[${index}]`;
      arrayAt(rule, "ports").forEach((port, at) => causes.push(...portProblems(port, `${path}.ports[${at}]`)));
      arrayAt(rule, peers).forEach((peer, at) => causes.push(...peerProblems(peer, `${path}.${peers}[${at}]`, accepted)));
    }
  }
  const types = arrayAt(spec, "policyTypes");
  if (types.length > 2) return [...causes, fieldInvalid("spec.policyTypes", types, "may not specify more than two policyTypes")];
  types.forEach((type, index) => {
    if (type !== "Ingress" && type !== "Egress") causes.push(fieldNotSupported(`spec.policyTypes[${index}]`, type, ["Egress", "Ingress"]));
  });
  return causes;
}

function portProblems(port: JsonValue, path: string): Cause[] {
  const causes: Cause[] = [];
  const protocol = valueAt(port, "protocol");
  if (protocol !== undefined && protocol !== "TCP" && protocol !== "UDP" && protocol !== "SCTP")
    causes.push(fieldNotSupported(`${path}.protocol`, protocol, ["SCTP", "TCP", "UDP"]));
  const number = valueAt(port, "port");
  const endPort = valueAt(port, "endPort");
  if (typeof number === "number") {
    causes.push(...portNumberProblems(number).map((problem) => fieldInvalid(`${path}.port`, number, problem)));
    if (typeof endPort === "number") {
      if (endPort < number) causes.push(fieldInvalid(`${path}.endPort`, endPort, "must be greater than or equal to `port`"));
      causes.push(...portNumberProblems(endPort).map((problem) => fieldInvalid(`${path}.endPort`, endPort, problem)));
    }
  } else if (typeof number === "string") {
    if (endPort !== undefined) causes.push(fieldInvalid(`${path}.endPort`, endPort, "may not be specified when `port` is non-numeric"));
    causes.push(...portNameProblems(number).map((problem) => fieldInvalid(`${path}.port`, number, problem)));
  } else if (endPort !== undefined) causes.push(fieldInvalid(`${path}.endPort`, endPort, "may not be specified when `port` is not specified"));
  return causes;
}

function peerProblems(peer: JsonValue, path: string, accepted: ReadonlySet<string>): Cause[] {
  const causes: Cause[] = [];
  const has = (field: string): boolean => valueAt(peer, field) !== undefined;
  for (const field of ["podSelector", "namespaceSelector"]) if (has(field)) causes.push(...labelSelectorProblems(objectAt(peer, field), `${path}.${field}`));
  if (has("ipBlock")) causes.push(...ipBlockProblems(objectAt(peer, "ipBlock"), `${path}.ipBlock`, accepted));
  if (!has("podSelector") && !has("namespaceSelector") && !has("ipBlock")) causes.push(fieldRequired(path, "must specify a peer"));
  else if (has("ipBlock") && (has("podSelector") || has("namespaceSelector")))
    causes.push(fieldForbidden(path, "may not specify both ipBlock and another peer"));
  return causes;
}

function ipBlockProblems(block: JsonObject, path: string, accepted: ReadonlySet<string>): Cause[] {
  const text = stringAt(block, "cidr");
  if (text === "") return [fieldRequired(`${path}.cidr`)];
  const causes = cidrProblems(text, `${path}.cidr`, accepted);
  const outer = tryParseCidr(text);
  if (outer === undefined) return causes;
  for (const [index, value] of arrayAt(block, "except").entries()) {
    const at = `${path}.except[${index}]`;
    causes.push(...cidrProblems(plainText(value), at, accepted));
    const inner = tryParseCidr(plainText(value));
    if (inner !== undefined && (!cidrContainsCidr(outer, inner) || cidrLength(outer) >= cidrLength(inner)))
      causes.push(fieldInvalid(at, value, "must be a strict subset of `cidr`"));
  }
  return causes;
}

function cidrProblems(text: string, path: string, accepted: ReadonlySet<string>): Cause[] {
  if (accepted.has(text)) return [];
  if (tryParseCidr(text) === undefined) {
    const [address = "", length = ""] = text.split("/");
    const family = isIP(address.replaceAll(/\b0+(?=\d)/g, ""));
    const isSloppy = family > 0 && /^\d+$/.test(length) && Number(length) <= (family === 4 ? 32 : 128);
    return [
      fieldInvalid(
        path,
        text,
        isSloppy ? "must not have leading 0s in IP or prefix length" : "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
      ),
    ];
  }
  if (/^::ffff:\d+\./i.test(text)) return [fieldInvalid(path, text, "must not have an IPv4-mapped IPv6 address")];
  return hasHostBits(text) ? [fieldInvalid(path, text, "must not have bits set beyond the prefix length")] : [];
}

/** What an update may keep although it would not be accepted anew. */
function cidrsOf(policy: JsonObject): Set<string> {
  const found = new Set<string>();
  for (const [direction, peers] of [
    ["ingress", "from"],
    ["egress", "to"],
  ] as const) {
    for (const rule of arrayAt(policy, "spec", direction)) {
      for (const peer of arrayAt(rule, peers)) {
        found.add(stringAt(peer, "ipBlock", "cidr"));
        for (const value of arrayAt(peer, "ipBlock", "except")) found.add(plainText(value));
      }
    }
  }
  return found;
}
