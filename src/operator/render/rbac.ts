/**
 * Who may do what in the Kubernetes API: what the programs ask for and nothing else.
 *
 * Invariant: a kind that the server watches is on the server's list, because both are API_RESOURCES; the agent's and the relay's accounts are bound to nothing.
 * Rejected: a wildcard for projectcalico.org, which would also open kinds that others define there later.
 */
import { API_RESOURCES, type ApiResource } from "../../datastore/api-resources.ts";
import { STATUS_KINDS } from "../../model/policy-kinds.ts";
import type { ResourceKind } from "../../model/resource.ts";
import { AUTHORITY_NAME } from "./issuer.ts";
import { type Component, type KubeObject, metadata, nameOf, selectorLabels } from "./object.ts";
import type { RenderInput } from "./values.ts";

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

const COMPONENTS: readonly Component[] = ["fanout", "relay", "agent", "controllers", "issuer"];
const RBAC = "rbac.authorization.k8s.io";
const NODE_SIGNER = "sedge.network/node";

export function renderAccounts({ namespace }: RenderInput): readonly KubeObject[] {
  return COMPONENTS.map((component) => ({
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: metadata(component, namespace),
    automountServiceAccountToken: false,
  }));
}

export function renderRbac(input: RenderInput): readonly KubeObject[] {
  return [
    ...clusterRole("fanout", fanoutRules(), input),
    ...clusterRole("controllers", controllerRules(), input),
    ...leaseRole("fanout", input),
    ...leaseRole("controllers", input),
    ...clusterRole("issuer", issuerRules(), input),
    ...secretsRole(input),
  ];
}

/** All kinds are watched; blocks and affinities are claimed and reported by compare-and-swap, so they are also read alone. */
function fanoutRules(): readonly Rule[] {
  const of = (kind: ResourceKind, verbs: readonly string[]): Rule => rule([API_RESOURCES[kind]], verbs);
  return [
    ...watched(Object.values(API_RESOURCES)),
    { ...of("Namespace", ["get"]), resourceNames: ["default", "kube-system"] }, // the cluster's identity is the uid of the latter
    of("IPAMBlock", ["create", "delete", "get", "update"]),
    of("BlockAffinity", ["create", "delete", "get", "update"]),
    ...byGroup([...STATUS_KINDS].map((kind) => API_RESOURCES[kind])).map(statusRule),
    // The one object about the whole; creating cannot be limited to a name.
    { apiGroups: ["sedge.network"], resources: ["sedgestatuses"], verbs: ["create"] },
    { apiGroups: ["sedge.network"], resources: ["sedgestatuses"], resourceNames: ["default"], verbs: ["get"] },
    { apiGroups: ["sedge.network"], resources: ["sedgestatuses/status"], resourceNames: ["default"], verbs: ["update"] },
  ];
}

/** The leader applies conditions; it can change nothing else of a policy. */
function statusRule(resources: readonly ApiResource[]): Rule {
  const { apiGroups } = rule(resources, []);
  return { apiGroups, resources: resources.map(({ plural }) => `${plural}/status`).sort(), verbs: ["patch"] };
}

function controllerRules(): readonly Rule[] {
  const of = (kinds: readonly ResourceKind[], verbs: readonly string[]): readonly Rule[] =>
    byGroup(kinds.map((kind) => API_RESOURCES[kind])).map((resources) => rule(resources, verbs));
  return [
    ...of(["IPPool", "IPAMBlock", "BlockAffinity", "Pod", "Node"], ["list"]),
    ...of(["Pod", "Node"], ["get"]),
    ...of(["IPAMBlock", "BlockAffinity"], ["delete", "get", "update"]),
    ...of(["IPPool"], ["update"]),
    { apiGroups: [API_RESOURCES.IPPool.group], resources: [`${API_RESOURCES.IPPool.plural}/status`, `${API_RESOURCES.Tier.plural}/status`], verbs: ["update"] },
    ...of(["Tier"], ["create", "list", "update"]),
    ...of(["GlobalNetworkPolicy", "CalicoNetworkPolicy", "ClusterNetworkPolicy", "StagedGlobalNetworkPolicy", "StagedNetworkPolicy"], ["list"]),
  ];
}

/** Who bears a token, whether a node exists, and certificate signing requests of our own signer. */
function issuerRules(): readonly Rule[] {
  const requests = { apiGroups: ["certificates.k8s.io"] };
  return [
    { apiGroups: ["authentication.k8s.io"], resources: ["tokenreviews"], verbs: ["create"] },
    rule([API_RESOURCES.Node], ["get"]),
    { ...requests, resources: ["certificatesigningrequests"], verbs: ["create", "get", "list"] },
    { ...requests, resources: ["certificatesigningrequests/approval", "certificatesigningrequests/status"], verbs: ["update"] },
    { ...requests, resources: ["signers"], resourceNames: [NODE_SIGNER], verbs: ["approve", "sign"] },
  ];
}

/** The authority and what comes of it, by name; creating cannot be limited to a name. */
function secretsRole({ namespace }: RenderInput): readonly KubeObject[] {
  const core = { apiGroups: [""] };
  return namespacedRole("issuer", namespace, "sedge-issuer-secrets", [
    { ...core, resources: ["secrets", "configmaps"], verbs: ["create"] },
    { ...core, resources: ["secrets"], resourceNames: [AUTHORITY_NAME, "sedge-fanout-tls", "sedge-operator-tls", "sedge-relay-tls"], verbs: ["get", "update"] },
    { ...core, resources: ["configmaps"], resourceNames: [AUTHORITY_NAME], verbs: ["get", "update"] },
  ]);
}

/** One Lease of the component's name; creating cannot be limited to a name. */
function leaseRole(component: Component, { namespace }: RenderInput): readonly KubeObject[] {
  const leases = { apiGroups: ["coordination.k8s.io"], resources: ["leases"] };
  const rules: readonly Rule[] = [
    { ...leases, verbs: ["create"] },
    { ...leases, resourceNames: [nameOf(component)], verbs: ["get", "update"] },
  ];
  return namespacedRole(component, namespace, `${nameOf(component)}-lease`, rules);
}

function namespacedRole(component: Component, namespace: string, name: string, rules: readonly Rule[]): readonly KubeObject[] {
  const meta = metadata(component, namespace, name);
  return [
    { apiVersion: `${RBAC}/v1`, kind: "Role", metadata: meta, rules },
    {
      apiVersion: `${RBAC}/v1`,
      kind: "RoleBinding",
      metadata: meta,
      roleRef: { apiGroup: RBAC, kind: "Role", name: meta.name },
      subjects: subjects(component, namespace),
    },
  ];
}

function clusterRole(component: Component, rules: readonly Rule[], { namespace }: RenderInput): readonly KubeObject[] {
  const meta = { name: nameOf(component), labels: selectorLabels(component) };
  return [
    { apiVersion: `${RBAC}/v1`, kind: "ClusterRole", metadata: meta, rules },
    {
      apiVersion: `${RBAC}/v1`,
      kind: "ClusterRoleBinding",
      metadata: meta,
      roleRef: { apiGroup: RBAC, kind: "ClusterRole", name: meta.name },
      subjects: subjects(component, namespace),
    },
  ];
}

function subjects(component: Component, namespace: string): readonly unknown[] {
  return [{ kind: "ServiceAccount", name: nameOf(component), namespace }];
}

function watched(resources: readonly ApiResource[]): readonly Rule[] {
  return byGroup(resources).map((group) => rule(group, ["list", "watch"]));
}

function rule(resources: readonly ApiResource[], verbs: readonly string[]): Rule {
  return { apiGroups: [...new Set(resources.map(({ group }) => group))], resources: resources.map(({ plural }) => plural).sort(), verbs };
}

function byGroup(resources: readonly ApiResource[]): readonly (readonly ApiResource[])[] {
  const groups = new Map<string, ApiResource[]>();
  for (const resource of resources) groups.set(resource.group, [...(groups.get(resource.group) ?? []), resource]);
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => group);
}
