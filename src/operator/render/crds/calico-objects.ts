/** Kinds of projectcalico.org/v3 around the policies: tiers, network sets, host endpoints, profiles. */
import { BUILT_IN_TIERS } from "../../../model/parse-tier.ts";
import { ORDER_COLUMN } from "./calico-policies.ts";
import type { Definition } from "./definition.ts";
import { LABEL_VALUE } from "./kubernetes-policies.ts";
import { prefixPattern } from "./network.ts";
import { rules } from "./rule.ts";
import { column, rule, type Schema } from "./schema.ts";

const TIER: Definition = {
  kind: "Tier",
  plural: "tiers",
  description: "A group of policies, evaluated as one.",
  hasStatus: true,
  columns: [ORDER_COLUMN, column("Default action", "string", ".spec.defaultAction")],
  isSpecOptional: true,
  spec: {
    type: "object",
    default: {},
    properties: {
      order: { description: "Place among the tiers, ascending; tiers without are last.", type: "number" },
      defaultAction: {
        description: "What becomes of a packet that a policy of the tier applies to and none decides.",
        type: "string",
        enum: ["Deny", "Pass"],
        default: "Deny",
      },
    },
  },
  rootRules: [
    rule(
      "size(self.metadata.name) <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
      "the name of a tier is at most 63 of a-z, 0-9 and -, without dots",
    ),
    ...[...BUILT_IN_TIERS].map(([name, { order, defaultAction }]) =>
      rule(
        `self.metadata.name != '${name}' || (has(self.spec.order) && self.spec.order == ${order}.0 && self.spec.defaultAction == '${defaultAction}')`,
        `the tier ${name} has order ${order} and default action ${defaultAction}; they cannot be changed`,
      ),
    ),
  ],
};

const setSpec: Schema = {
  type: "object",
  properties: {
    nets: {
      description: "Prefixes, or addresses; they may overlap.",
      type: "array",
      maxItems: 100000,
      items: { type: "string", maxLength: 49, pattern: prefixPattern(false) },
      "x-kubernetes-list-type": "atomic",
    },
  },
};
const NETS_COLUMN = column("Nets", "string", ".spec.nets", 1);

const hostPort: Schema = {
  type: "object",
  required: ["name", "protocol", "port"],
  properties: {
    name: { type: "string", minLength: 1, maxLength: 128, pattern: "^[a-zA-Z0-9_.-]+$" },
    protocol: { type: "string", enum: ["TCP", "UDP", "SCTP"] },
    port: { type: "integer", minimum: 1, maximum: 65535 },
  },
};

const HOST_ENDPOINT: Definition = {
  kind: "HostEndpoint",
  plural: "hostendpoints",
  shortNames: ["hep", "heps"],
  description: "An interface of a node, or all of them, as policies see it.",
  columns: [
    column("Node", "string", ".spec.node"),
    column("Interface", "string", ".spec.interfaceName"),
    column("Expected IPs", "string", ".spec.expectedIPs", 1),
  ],
  spec: {
    type: "object",
    required: ["node"],
    properties: {
      node: { description: "The node that the interface is on.", type: "string", minLength: 1, maxLength: 253, pattern: "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$" },
      interfaceName: { description: "Name of the interface, or * for all.", type: "string", maxLength: 15, pattern: "^(\\*|[a-zA-Z0-9_.-]{1,15})?$" },
      expectedIPs: {
        description: "Addresses; without interfaceName they say which interface it is.",
        type: "array",
        maxItems: 64,
        items: { type: "string", maxLength: 45, "x-kubernetes-validations": [rule("isIP(self)", "must be an IP address")] },
      },
      profiles: {
        description: "Profiles that apply after all tiers, in order.",
        type: "array",
        maxItems: 64,
        items: { type: "string", minLength: 1, maxLength: 253 },
      },
      ports: { description: "Names for ports of the host.", type: "array", maxItems: 256, items: hostPort },
    },
    "x-kubernetes-validations": [
      rule(
        "(has(self.interfaceName) && self.interfaceName != '') || (has(self.expectedIPs) && size(self.expectedIPs) > 0)",
        "must have interfaceName or expectedIPs",
      ),
    ],
  },
};

const anyCase = (...words: string[]): Schema => ({ type: "string", pattern: `^(?i:${words.join("|")})?$` });

const failsafePorts = (description: string): Schema => ({
  description,
  type: "array",
  maxItems: 1000,
  items: {
    type: "object",
    required: ["port"],
    properties: {
      protocol: { ...anyCase("TCP", "UDP", "SCTP"), maxLength: 4 },
      port: { type: "integer", minimum: 1, maximum: 65535 },
      net: { type: "string", maxLength: 49 },
    },
  },
});

/** Every field of Calico's is kept, so that its manifests apply as they are; `sedge status` names those that mean nothing here. */
const FELIX_CONFIGURATION: Definition = {
  kind: "FelixConfiguration",
  plural: "felixconfigurations",
  shortNames: ["felixconfig", "felixconfigs"],
  description: "Settings of agents: default, node.NAME, or of the nodes that nodeSelector matches. They hold before the agents' own, live.",
  columns: [],
  spec: {
    type: "object",
    "x-kubernetes-preserve-unknown-fields": true,
    properties: {
      nodeSelector: { type: "string", maxLength: 1024 },
      failsafeInboundHostPorts: failsafePorts("Ports of a host that no host endpoint closes; an empty list for none."),
      failsafeOutboundHostPorts: failsafePorts("Ports elsewhere that a host always reaches; an empty list for none."),
      defaultEndpointToHostAction: {
        description: "What becomes of a pod's packet to its own host that its policy allows.",
        ...anyCase("Drop", "Accept", "Return"),
      },
      logPrefix: { description: "What a line of a Log rule begins with; %t tier, %k kind, %n name, %p namespace and name.", type: "string", maxLength: 80 },
      nftablesFilterDenyAction: { description: "What a deny of a policy is; Reject tells the sender.", ...anyCase("Drop", "Reject") },
      iptablesFilterDenyAction: { description: "The same, where nftablesFilterDenyAction is not set.", ...anyCase("Drop", "Reject") },
      floatingIPs: {
        description: "Whether pods get the floating addresses that they ask for; in default only.",
        type: "string",
        enum: ["Enabled", "Disabled"],
      },
    },
  },
};

export const CALICO_OBJECTS: readonly Definition[] = [
  TIER,
  FELIX_CONFIGURATION,
  {
    kind: "GlobalNetworkSet",
    plural: "globalnetworksets",
    shortNames: ["gns"],
    description: "Prefixes under labels, for rules of every policy.",
    columns: [NETS_COLUMN],
    isSpecOptional: true,
    spec: setSpec,
  },
  {
    kind: "NetworkSet",
    plural: "networksets",
    shortNames: ["netsets"],
    isNamespaced: true,
    description: "Prefixes under labels, in a namespace.",
    columns: [NETS_COLUMN],
    isSpecOptional: true,
    spec: setSpec,
  },
  HOST_ENDPOINT,
  {
    kind: "Profile",
    plural: "profiles",
    description: "Rules and labels for host endpoints that name it. Those of namespaces and service accounts follow from these objects.",
    columns: [],
    isSpecOptional: true,
    spec: {
      type: "object",
      properties: {
        ingress: rules("ingress"),
        egress: rules("egress"),
        labelsToApply: {
          description: "Labels that the endpoints get.",
          type: "object",
          maxProperties: 256,
          additionalProperties: { type: "string", maxLength: 63, pattern: LABEL_VALUE },
        },
      },
    },
  },
];
