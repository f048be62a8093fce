/** The built-in kinds that the embedded API serves. Adding one: its schema (scripts/extract-api-schemas.mjs), a line in this table, rules if it has any. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  AGE,
  CRD_COLUMNS,
  EVENT_COLUMNS,
  LEASE_COLUMNS,
  NAME,
  NAMESPACE_COLUMNS,
  NETWORK_POLICY_COLUMNS,
  NODE_COLUMNS,
  POD_COLUMNS,
  SERVICE_ACCOUNT_COLUMNS,
  SERVICE_COLUMNS,
} from "./columns.ts";
import { customResourceDefinitionRules } from "./crd.ts";
import { ENDPOINT_SLICE_COLUMNS, endpointSliceRules } from "./endpoint-slice.ts";
import { pathLabel } from "./field-selector.ts";
import type { JsonObject } from "./json.ts";
import { arrayAt, ensureObject, isObject, stringAt, valueAt } from "./json.ts";
import { dnsLabelProblems, dnsSubdomainProblems } from "./names.ts";
import { networkPolicyRules } from "./network-policy.ts";
import { podRules } from "./pod.ts";
import { projectFile } from "./project-files.ts";
import type { Column, KindRules, ResourceType } from "./resource-type.ts";
import type { Schema } from "./schema.ts";
import { linkSchemas } from "./schema.ts";

export interface SchemaDocument {
  /** As published, references unresolved: what the OpenAPI documents serve. */
  readonly raw: JsonObject;
  readonly linked: ReadonlyMap<string, Schema>;
}

const DOCUMENTS: Readonly<Record<string, string>> = {
  v1: "core.v1.json",
  "networking.k8s.io/v1": "networking.v1.json",
  "coordination.k8s.io/v1": "coordination.v1.json",
  "discovery.k8s.io/v1": "discovery.v1.json",
  "apiextensions.k8s.io/v1": "apiextensions.v1.json",
};

export const OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

export function loadSchemaDocuments(): ReadonlyMap<string, SchemaDocument> {
  return new Map(
    Object.entries(DOCUMENTS).map(([apiVersion, file]) => {
      const raw = JSON.parse(readFileSync(projectFile(join("src/datastore/embedded/openapi", file)), "utf8")) as JsonObject;
      return [apiVersion, { raw, linked: linkSchemas(raw) }];
    }),
  );
}

interface Definition {
  readonly apiVersion: string;
  readonly kind: string;
  readonly plural: string;
  readonly shortNames?: readonly string[];
  readonly isNamespaced: boolean;
  readonly hasStatus?: boolean;
  readonly categories?: readonly string[];
  readonly fields?: readonly string[];
  readonly columns: readonly Column[];
  readonly rules: KindRules;
  readonly schemaPrefix: string;
}

const plainRules: KindRules = { nameProblems: dnsSubdomainProblems };

const namespaceRules: KindRules = {
  nameProblems: dnsLabelProblems,
  defaults(namespace) {
    ensureObject(ensureObject(namespace, "metadata"), "labels")["kubernetes.io/metadata.name"] = stringAt(namespace, "metadata", "name");
  },
  prepareForCreate(namespace) {
    ensureObject(namespace, "spec")["finalizers"] = ["kubernetes"];
    namespace["status"] = { phase: "Active" };
  },
};

const nodeRules: KindRules = {
  nameProblems: dnsSubdomainProblems,
  prepareForCreate(node) {
    ensureObject(node, "spec");
  },
};

const serviceRules: KindRules = {
  nameProblems: dnsLabelProblems,
  defaults(service) {
    const spec = ensureObject(service, "spec");
    spec["type"] ??= "ClusterIP";
    spec["sessionAffinity"] ??= "None";
    for (const port of arrayAt(spec, "ports")) {
      if (!isObject(port)) continue;
      port["protocol"] ??= "TCP";
      if (valueAt(port, "port") !== undefined) port["targetPort"] ??= valueAt(port, "port") ?? 0;
    }
  },
  prepareForCreate(service) {
    service["status"] = { loadBalancer: {} };
  },
};

/** Every rule about pods' fields by which kube-apiserver and kubectl select. */
const POD_FIELDS = [
  "spec.nodeName",
  "spec.restartPolicy",
  "spec.schedulerName",
  "spec.serviceAccountName",
  "status.phase",
  "status.podIP",
  "status.nominatedNodeName",
];
const EVENT_FIELDS = [
  "involvedObject.kind",
  "involvedObject.namespace",
  "involvedObject.name",
  "involvedObject.uid",
  "involvedObject.apiVersion",
  "involvedObject.resourceVersion",
  "involvedObject.fieldPath",
  "reason",
  "reportingComponent",
  "source",
  "type",
];

/** The others leave metadata.generation out, as kube-apiserver does. */
const KINDS_WITH_GENERATION: ReadonlySet<string> = new Set(["Pod", "NetworkPolicy", "EndpointSlice", "CustomResourceDefinition"]);

const core = { apiVersion: "v1", schemaPrefix: "io.k8s.api.core.v1" } as const;

const DEFINITIONS: readonly Definition[] = [
  {
    ...core,
    kind: "Node",
    plural: "nodes",
    shortNames: ["no"],
    isNamespaced: false,
    hasStatus: true,
    fields: ["spec.unschedulable"],
    columns: NODE_COLUMNS,
    rules: nodeRules,
  },
  {
    ...core,
    kind: "Namespace",
    plural: "namespaces",
    shortNames: ["ns"],
    isNamespaced: false,
    hasStatus: true,
    fields: ["status.phase"],
    columns: NAMESPACE_COLUMNS,
    rules: namespaceRules,
  },
  {
    ...core,
    kind: "Pod",
    plural: "pods",
    shortNames: ["po"],
    isNamespaced: true,
    hasStatus: true,
    categories: ["all"],
    fields: POD_FIELDS,
    columns: POD_COLUMNS,
    rules: podRules,
  },
  { ...core, kind: "ServiceAccount", plural: "serviceaccounts", shortNames: ["sa"], isNamespaced: true, columns: SERVICE_ACCOUNT_COLUMNS, rules: plainRules },
  {
    ...core,
    kind: "Service",
    plural: "services",
    shortNames: ["svc"],
    isNamespaced: true,
    hasStatus: true,
    categories: ["all"],
    fields: ["spec.clusterIP", "spec.type"],
    columns: SERVICE_COLUMNS,
    rules: serviceRules,
  },
  { ...core, kind: "Event", plural: "events", shortNames: ["ev"], isNamespaced: true, fields: EVENT_FIELDS, columns: EVENT_COLUMNS, rules: plainRules },
  {
    apiVersion: "networking.k8s.io/v1",
    schemaPrefix: "io.k8s.api.networking.v1",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    shortNames: ["netpol"],
    isNamespaced: true,
    columns: NETWORK_POLICY_COLUMNS,
    rules: networkPolicyRules,
  },
  {
    apiVersion: "discovery.k8s.io/v1",
    schemaPrefix: "io.k8s.api.discovery.v1",
    kind: "EndpointSlice",
    plural: "endpointslices",
    isNamespaced: true,
    columns: [NAME, ...ENDPOINT_SLICE_COLUMNS, AGE],
    rules: endpointSliceRules,
  },
  {
    apiVersion: "coordination.k8s.io/v1",
    schemaPrefix: "io.k8s.api.coordination.v1",
    kind: "Lease",
    plural: "leases",
    isNamespaced: true,
    columns: LEASE_COLUMNS,
    rules: plainRules,
  },
  {
    apiVersion: "apiextensions.k8s.io/v1",
    schemaPrefix: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    shortNames: ["crd", "crds"],
    isNamespaced: false,
    hasStatus: true,
    categories: ["api-extensions"],
    columns: CRD_COLUMNS,
    rules: customResourceDefinitionRules,
  },
];

export function builtinKinds(documents: ReadonlyMap<string, SchemaDocument>): ResourceType[] {
  return DEFINITIONS.map((definition) => {
    const schemaName = `${definition.schemaPrefix}.${definition.kind}`;
    const schema = documents.get(definition.apiVersion)?.linked.get(schemaName);
    if (schema === undefined) throw new Error(`src/datastore/embedded/openapi has no ${schemaName}: run scripts/extract-api-schemas.mjs`);
    const [group, version] = definition.apiVersion.includes("/") ? definition.apiVersion.split("/") : ["", definition.apiVersion];
    const fields = ["metadata.name", ...(definition.isNamespaced ? ["metadata.namespace"] : []), ...(definition.fields ?? [])];
    return {
      group: group ?? "",
      version: version ?? "v1",
      apiVersion: definition.apiVersion,
      kind: definition.kind,
      listKind: `${definition.kind}List`,
      plural: definition.plural,
      singular: definition.kind.toLowerCase(),
      shortNames: definition.shortNames ?? [],
      categories: definition.categories ?? [],
      isNamespaced: definition.isNamespaced,
      hasStatusSubresource: definition.hasStatus ?? false,
      isCustom: false,
      hasGeneration: KINDS_WITH_GENERATION.has(definition.kind),
      schemaName,
      schema,
      fieldLabels: new Map(fields.map(pathLabel)),
      columns: definition.columns,
      rules: definition.rules,
    };
  });
}
