/** Kinds with Kubernetes' label selectors: StagedKubernetesNetworkPolicy, and ClusterNetworkPolicy of the network-policy-api. */
import { policyTypes, STAGED_ACTION_COLUMN, stagedAction, TIER_COLUMN } from "./calico-policies.ts";
import { PROGRAMMED_COLUMN } from "./conditions.ts";
import type { Definition } from "./definition.ts";
import { column, type Rule, rule, type Schema, validations } from "./schema.ts";

const QUALIFIED_NAME = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";
export const LABEL_VALUE = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";

const labelSelector: Schema = {
  description: "All of it must hold; empty for all.",
  type: "object",
  "x-kubernetes-map-type": "atomic",
  properties: {
    matchLabels: { type: "object", maxProperties: 64, additionalProperties: { type: "string", maxLength: 63, pattern: LABEL_VALUE } },
    matchExpressions: {
      type: "array",
      maxItems: 64,
      "x-kubernetes-list-type": "atomic",
      items: {
        type: "object",
        required: ["key", "operator"],
        properties: {
          key: { type: "string", minLength: 1, maxLength: 317, pattern: QUALIFIED_NAME },
          operator: { type: "string", enum: ["In", "NotIn", "Exists", "DoesNotExist"] },
          values: { type: "array", maxItems: 64, "x-kubernetes-list-type": "atomic", items: { type: "string", maxLength: 63, pattern: LABEL_VALUE } },
        },
        anyOf: [
          { required: ["values"], properties: { operator: { enum: ["In", "NotIn"] }, values: { minItems: 1 } } },
          { properties: { operator: { enum: ["Exists", "DoesNotExist"] }, values: { maxItems: 0 } } },
        ],
      },
    },
  },
};

const networkPolicyPeer: Schema = {
  type: "object",
  minProperties: 1,
  properties: {
    podSelector: labelSelector,
    namespaceSelector: labelSelector,
    ipBlock: {
      type: "object",
      required: ["cidr"],
      properties: {
        cidr: { type: "string", format: "cidr", maxLength: 49 },
        except: { type: "array", maxItems: 256, items: { type: "string", format: "cidr", maxLength: 49 } },
      },
    },
  },
  "x-kubernetes-validations": [
    rule(
      "!has(self.ipBlock) || !has(self.podSelector) && !has(self.namespaceSelector)",
      "ipBlock cannot be used together with podSelector or namespaceSelector",
    ),
  ],
};

const networkPolicyPort: Schema = {
  type: "object",
  properties: {
    protocol: { type: "string", enum: ["TCP", "UDP", "SCTP"], default: "TCP" },
    port: {
      "x-kubernetes-int-or-string": true,
      anyOf: [{ type: "integer" }, { type: "string" }],
      minimum: 1,
      maximum: 65535,
      maxLength: 15,
      pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    },
    endPort: { type: "integer", format: "int32", minimum: 1, maximum: 65535 },
  },
  "x-kubernetes-validations": [
    rule("!has(self.endPort) || has(self.port) && type(self.port) == int && self.port <= self.endPort", "endPort needs a port number that is not above it"),
  ],
};

function networkPolicyRules(peers: "from" | "to"): Schema {
  const properties = {
    [peers]: { type: "array", maxItems: 256, items: networkPolicyPeer },
    ports: { type: "array", maxItems: 256, items: networkPolicyPort },
  };
  return { type: "array", maxItems: 1024, items: { type: "object", properties } };
}

export const STAGED_KUBERNETES_NETWORK_POLICY: Definition = {
  kind: "StagedKubernetesNetworkPolicy",
  plural: "stagedkubernetesnetworkpolicies",
  shortNames: ["skp", "sknp"],
  isNamespaced: true,
  description: "A Kubernetes NetworkPolicy that is shown and compared, not enforced.",
  hasStatus: true,
  columns: [STAGED_ACTION_COLUMN],
  isSpecOptional: true,
  spec: {
    type: "object",
    properties: { stagedAction, podSelector: labelSelector, policyTypes, ingress: networkPolicyRules("from"), egress: networkPolicyRules("to") },
  },
};

const ONE_OF = { minProperties: 1, maxProperties: 1 };
const DOMAIN = "^(\\*\\.)?([a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\\.)+[a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\\.?$";

const namespacedPods: Schema = {
  description: "Pods by their labels, in namespaces by theirs.",
  type: "object",
  required: ["podSelector"],
  properties: { namespaceSelector: labelSelector, podSelector: labelSelector },
};
const portNumber: Schema = { type: "integer", format: "int32", minimum: 1, maximum: 65535 };
const destinationPort: Schema = {
  type: "object",
  ...ONE_OF,
  properties: {
    number: portNumber,
    range: {
      type: "object",
      required: ["start", "end"],
      properties: { start: portNumber, end: portNumber },
      "x-kubernetes-validations": [rule("self.start < self.end", "start must be less than end")],
    },
  },
};
const transport: Schema = { type: "object", properties: { destinationPort } };
const clusterProtocol: Schema = {
  type: "object",
  ...ONE_OF,
  properties: {
    tcp: transport,
    udp: transport,
    sctp: transport,
    destinationNamedPort: { description: "Name of a container port of the destination.", type: "string", minLength: 1, maxLength: 15 },
  },
};

const egressPeers: Schema = {
  nodes: labelSelector,
  networks: {
    description: "Prefixes, also those of pods.",
    type: "array",
    minItems: 1,
    maxItems: 25,
    "x-kubernetes-list-type": "set",
    items: { type: "string", maxLength: 43, "x-kubernetes-validations": [rule("isCIDR(self)", "must be a prefix, for example 10.0.0.0/8")] },
  },
  domainNames: {
    description: "Not enforced here: a rule with it accepts nothing.",
    type: "array",
    minItems: 1,
    maxItems: 25,
    "x-kubernetes-list-type": "set",
    items: { type: "string", maxLength: 253, pattern: DOMAIN },
  },
};

const EGRESS_RULES: readonly Rule[] = [
  rule(
    "!(self.to.exists(peer, has(peer.networks) || has(peer.nodes)) && has(self.protocols) && self.protocols.exists(protocol, has(protocol.destinationNamedPort)))",
    "networks and nodes have no named ports",
  ),
  rule("!self.to.exists(peer, has(peer.domainNames)) || self.action == 'Accept'", "domainNames is for rules with action Accept"),
];

function clusterRules(direction: "ingress" | "egress"): Schema {
  const peers = direction === "ingress" ? "from" : "to";
  const peer = { type: "object", ...ONE_OF, properties: { namespaces: labelSelector, pods: namespacedPods, ...(direction === "egress" ? egressPeers : {}) } };
  const properties = {
    name: { type: "string", maxLength: 100 },
    action: { description: "Accept and Deny decide; Pass goes on with the next tier.", type: "string", enum: ["Accept", "Deny", "Pass"] },
    [peers]: { type: "array", minItems: 1, maxItems: 25, items: peer },
    protocols: { type: "array", minItems: 1, maxItems: 25, items: clusterProtocol },
  };
  const items = { type: "object", required: ["action", peers], properties, ...validations(direction === "egress" ? EGRESS_RULES : []) };
  return { description: `Rules for what ${direction === "ingress" ? "comes in" : "goes out"}, tried in order.`, type: "array", maxItems: 25, items };
}

export const CLUSTER_NETWORK_POLICY: Definition = {
  kind: "ClusterNetworkPolicy",
  plural: "clusternetworkpolicies",
  api: { group: "policy.networking.k8s.io", version: "v1alpha2" },
  shortNames: ["cnp"],
  annotations: {
    "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/network-policy-api/pull/300",
    "policy.networking.k8s.io/channel": "experimental",
  },
  description: "An administrator's rules for the pods of the cluster, before (Admin) or after (Baseline) all other policies.",
  hasStatus: true,
  columns: [TIER_COLUMN, column("Priority", "string", ".spec.priority"), PROGRAMMED_COLUMN],
  spec: {
    type: "object",
    required: ["tier", "priority", "subject"],
    properties: {
      tier: { type: "string", enum: ["Admin", "Baseline"] },
      priority: { description: "Place in the tier, ascending.", type: "integer", format: "int32", minimum: 0, maximum: 1000 },
      subject: { description: "Pods that the policy applies to.", type: "object", ...ONE_OF, properties: { namespaces: labelSelector, pods: namespacedPods } },
      ingress: clusterRules("ingress"),
      egress: clusterRules("egress"),
    },
  },
};
