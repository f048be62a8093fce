/** What the API says of itself: /api, /apis, /apis/<group>, the resources of a version, and all of it at once (aggregated discovery, v2). */
import type { JsonObject, JsonValue } from "./json.ts";
import type { GroupVersion, Registry } from "./registry.ts";
import type { ResourceType } from "./resource-type.ts";

const VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS = ["get", "patch", "update"];

/** Is this request for the aggregated form? */
export function wantsAggregated(accept: string | undefined): boolean {
  return (accept ?? "")
    .split(",")
    .some(
      (option) =>
        option.includes("as=APIGroupDiscoveryList") && option.includes("v=v2") && !option.includes("v=v2beta1") && option.trim().startsWith("application/json"),
    );
}

export const AGGREGATED_TYPE = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

export function apiVersions(address: string): JsonObject {
  return { kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [{ clientCIDR: "0.0.0.0/0", serverAddress: address }] };
}

function groupOf(name: string, versions: readonly GroupVersion[]): JsonObject {
  const listed = versions.map(({ apiVersion, version }): JsonObject => ({ groupVersion: apiVersion, version }));
  return { name, versions: listed, preferredVersion: listed[0] ?? {} };
}

function groups(registry: Registry): Map<string, GroupVersion[]> {
  const found = new Map<string, GroupVersion[]>();
  for (const item of registry.groupVersions()) if (item.group !== "") found.set(item.group, [...(found.get(item.group) ?? []), item]);
  return found;
}

export function groupList(registry: Registry): JsonObject {
  return { kind: "APIGroupList", apiVersion: "v1", groups: [...groups(registry)].map(([name, versions]) => groupOf(name, versions)) };
}

/** undefined when the group is not served. */
export function group(registry: Registry, name: string): JsonObject | undefined {
  const versions = groups(registry).get(name);
  return versions === undefined ? undefined : { kind: "APIGroup", apiVersion: "v1", ...groupOf(name, versions) };
}

function optional(key: string, values: readonly string[]): JsonObject {
  return values.length === 0 ? {} : { [key]: [...values] };
}

function resourceLines(type: ResourceType): JsonValue[] {
  const common = { singularName: type.singular, namespaced: type.isNamespaced, kind: type.kind } as const;
  const lines: JsonValue[] = [
    { name: type.plural, ...common, verbs: VERBS, ...optional("shortNames", type.shortNames), ...optional("categories", type.categories) },
  ];
  if (type.hasStatusSubresource) lines.push({ name: `${type.plural}/status`, ...common, singularName: "", verbs: STATUS_VERBS });
  if (type.group === "" && type.kind === "Pod") lines.push({ name: "pods/binding", singularName: "", namespaced: true, kind: "Binding", verbs: ["create"] });
  return lines;
}

/** undefined when the version is not served. */
export function resourceList(registry: Registry, apiVersion: string): JsonObject | undefined {
  const found = registry.groupVersions().find((item) => item.apiVersion === apiVersion);
  return found === undefined
    ? undefined
    : { kind: "APIResourceList", apiVersion: "v1", groupVersion: apiVersion, resources: found.types.flatMap(resourceLines) };
}

/** `isCore`: of the core group (at /api), else of the named groups (at /apis). */
export function aggregated(registry: Registry, isCore: boolean): JsonObject {
  const all: [string, readonly GroupVersion[]][] = isCore ? [["", registry.groupVersions().filter((item) => item.group === "")]] : [...groups(registry)];
  return {
    kind: "APIGroupDiscoveryList",
    apiVersion: "apidiscovery.k8s.io/v2",
    metadata: {},
    items: all.map(
      ([name, versions]): JsonObject => ({
        metadata: name === "" ? {} : { name },
        versions: versions.map(
          ({ version, types }): JsonObject => ({
            version,
            freshness: "Current",
            resources: types.map((type): JsonObject => {
              const responseKind = { group: type.group, version: type.version, kind: type.kind };
              return {
                resource: type.plural,
                responseKind,
                scope: type.isNamespaced ? "Namespaced" : "Cluster",
                singularResource: type.singular,
                verbs: VERBS,
                ...optional("shortNames", type.shortNames),
                ...optional("categories", type.categories),
                ...(type.hasStatusSubresource ? { subresources: [{ subresource: "status", responseKind, verbs: STATUS_VERBS }] } : {}),
              };
            }),
          }),
        ),
      }),
    ),
  };
}

export function serverVersion(): JsonObject {
  return {
    major: "1",
    minor: "37",
    gitVersion: "v1.37.2+sedge",
    gitCommit: "",
    gitTreeState: "clean",
    buildDate: "1970-01-01T00:00:00Z",
    goVersion: "",
    compiler: "",
    platform: `linux/${process.arch === "x64" ? "amd64" : process.arch}`,
  };
}
