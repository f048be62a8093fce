/** A rule of Calico's policies and profiles, with the checks between its fields that Calico makes. */
import { icmp, ports, prefixes, protocol } from "./network.ts";
import { type Rule, rule, type Schema } from "./schema.ts";
import { selector } from "./selector.ts";

type Direction = "ingress" | "egress";

const entity: Schema = {
  description: "One end of a packet; everything that is stated must hold.",
  type: "object",
  properties: {
    nets: prefixes("The address is in one of these prefixes, all of one family."),
    notNets: prefixes("The address is in none of these prefixes.", true),
    selector: selector("The address is one of an endpoint or network set with labels like this; in a namespaced policy, of its namespace."),
    notSelector: selector("The address is none of an endpoint or network set with labels like this."),
    namespaceSelector: selector("Namespaces, by their labels, that selector looks into; all() for any, global() for none."),
    services: {
      description: "The address (and, in egress, the port) is that of a ready endpoint of a Service.",
      type: "object",
      required: ["name"],
      properties: { name: { type: "string", minLength: 1, maxLength: 253 }, namespace: { type: "string", maxLength: 253 } },
    },
    ports: ports("Ports: numbers, ranges such as 80:90, or names."),
    notPorts: ports("Ports that it must not be."),
    serviceAccounts: {
      description: "The address is one of a pod that runs under one of these service accounts.",
      type: "object",
      properties: {
        names: { type: "array", maxItems: 256, items: { type: "string", minLength: 1, maxLength: 253 } },
        selector: selector("Service accounts by their labels."),
      },
    },
  },
  "x-kubernetes-validations": [
    rule(
      "!has(self.services) || !((has(self.selector) && self.selector != '') || (has(self.notSelector) && self.notSelector != '') || (has(self.namespaceSelector) && self.namespaceSelector != ''))",
      "services cannot be used together with selector, notSelector or namespaceSelector",
    ),
    rule(
      "!has(self.services) || !((has(self.nets) && size(self.nets) > 0) || (has(self.notNets) && size(self.notNets) > 0))",
      "services cannot be used together with nets or notNets",
    ),
    rule("!has(self.services) || !has(self.serviceAccounts)", "services cannot be used together with serviceAccounts"),
    rule(
      "!has(self.namespaceSelector) || !self.namespaceSelector.contains('global(') || self.namespaceSelector == 'global()'",
      "global() can only stand alone in namespaceSelector",
    ),
  ],
};

const PREFIX_LISTS: readonly (readonly [string, string])[] = ["source", "destination"].flatMap((end) =>
  ["nets", "notNets"].map((list) => [end, list] as const),
);
const has = ([end, list]: readonly [string, string]): string => `has(self.${end}) && has(self.${end}.${list}) && size(self.${end}.${list}) > 0`;
const isIpv6 = ([end, list]: readonly [string, string]): string => `self.${end}.${list}[0].contains(':')`;
/** Lists are of one family each, so their first entries tell. */
const ONE_FAMILY = PREFIX_LISTS.flatMap((a, i) => PREFIX_LISTS.slice(i + 1).map((b) => `(!(${has(a)} && ${has(b)}) || ${isIpv6(a)} == ${isIpv6(b)})`)).join(
  " && ",
);
const FITS_VERSION = PREFIX_LISTS.map((list) => `(!(${has(list)}) || ${isIpv6(list)} == (self.ipVersion == 6))`).join(" && ");
const HAS_PORTS = "has(self.protocol) && string(self.protocol) in ['TCP', 'UDP', 'SCTP', '6', '17', '132']";

/** The same for numbers in quotes, where an expression would be too dear: each port is no number, and no text of digits alone. */
const NAMES_ONLY = { items: { maximum: -1, pattern: "[^0-9:]" } };
const PORTS_NEED_PROTOCOL = [
  { required: ["protocol"], properties: { protocol: { enum: ["TCP", "UDP", "SCTP", 6, 17, 132, "6", "17", "132"] } } },
  {
    properties: {
      source: { properties: { ports: NAMES_ONLY, notPorts: NAMES_ONLY } },
      destination: { properties: { ports: NAMES_ONLY, notPorts: NAMES_ONLY } },
    },
  },
];

function numbersNeedProtocol(end: string, list: string): Rule {
  return rule(
    `!has(self.${end}) || !has(self.${end}.${list}) || (${HAS_PORTS}) || self.${end}.${list}.all(p, type(p) == string)`,
    `port numbers in ${end}.${list} need protocol TCP, UDP or SCTP`,
  );
}

function ruleChecks(direction: Direction): readonly Rule[] {
  const other = direction === "ingress" ? "destination" : "source";
  return [
    rule(
      "!has(self.icmp) && !has(self.notICMP) || has(self.protocol) && string(self.protocol) in ['ICMP', 'ICMPv6', '1', '58']",
      "icmp and notICMP need protocol ICMP or ICMPv6",
    ),
    rule(
      "!has(self.ipVersion) || self.ipVersion != 6 || !has(self.protocol) || !(string(self.protocol) in ['ICMP', '1'])",
      "protocol ICMP is of IPv4: write ipVersion 4, or protocol ICMPv6",
    ),
    rule(
      "!has(self.ipVersion) || self.ipVersion != 4 || !has(self.protocol) || !(string(self.protocol) in ['ICMPv6', '58'])",
      "protocol ICMPv6 is of IPv6: write ipVersion 6, or protocol ICMP",
    ),
    ...["source", "destination"].flatMap((end) => ["ports", "notPorts"].map((list) => numbersNeedProtocol(end, list))),
    rule(ONE_FAMILY, "the rule has prefixes of IPv4 and of IPv6; write a rule for each"),
    rule(`!has(self.ipVersion) || (${FITS_VERSION})`, "ipVersion does not fit the rule's prefixes"),
    rule(`!has(self.${other}) || !has(self.${other}.services)`, `services cannot be used in the ${other} of an ${direction} rule`),
    ...(direction === "egress" ? EGRESS_CHECKS : INGRESS_CHECKS),
  ];
}

const EGRESS_CHECKS: readonly Rule[] = [
  rule(
    "!has(self.destination) || !has(self.destination.services) || !((has(self.destination.ports) && size(self.destination.ports) > 0) || (has(self.destination.notPorts) && size(self.destination.notPorts) > 0))",
    "services in an egress rule brings its own ports",
  ),
  rule("!has(self.http)", "http is for ingress rules"),
];

const INGRESS_CHECKS: readonly Rule[] = [
  rule("!has(self.http) || self.action == 'Allow'", "http is for rules with action Allow"),
  rule("!has(self.http) || !has(self.protocol) || string(self.protocol) in ['TCP', '6']", "http needs protocol TCP"),
];

const httpPath: Schema = {
  type: "object",
  properties: { exact: { type: "string", maxLength: 1024, pattern: "^/" }, prefix: { type: "string", maxLength: 1024, pattern: "^/" } },
  "x-kubernetes-validations": [rule("has(self.exact) != has(self.prefix)", "must have exact or prefix, and not both")],
};

const ruleProperties: Schema = {
  action: {
    description: "What to do with a packet that matches. Pass leaves the tier; Log goes on with the next rule.",
    type: "string",
    enum: ["Allow", "Deny", "Log", "Pass"],
  },
  ipVersion: { description: "Only packets of this family.", type: "integer", enum: [4, 6] },
  protocol: protocol("By name or number."),
  notProtocol: protocol("Any but this one."),
  icmp: icmp("Only this ICMP type and code."),
  notICMP: icmp("Any ICMP type and code but this."),
  source: entity,
  destination: entity,
  http: {
    description: "Layer 7: without a proxy for it, the rule allows nothing.",
    type: "object",
    properties: {
      methods: { type: "array", maxItems: 20, items: { type: "string", minLength: 1, maxLength: 32 } },
      paths: { type: "array", maxItems: 20, items: httpPath },
    },
  },
  metadata: {
    description: "Annotations that explain the rule; sedge.network/rule-name and sedge.network/deny-action are understood.",
    type: "object",
    properties: { annotations: { type: "object", maxProperties: 64, additionalProperties: { type: "string", maxLength: 1024 } } },
  },
};

export function rules(direction: Direction): Schema {
  const description = `Rules for what ${direction === "ingress" ? "comes in" : "goes out"}, tried in order.`;
  const items = {
    type: "object",
    required: ["action"],
    properties: ruleProperties,
    anyOf: PORTS_NEED_PROTOCOL,
    "x-kubernetes-validations": ruleChecks(direction),
  };
  return { description, type: "array", maxItems: 1024, items };
}
