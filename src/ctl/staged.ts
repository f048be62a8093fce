/**
 * Staged policies promoted: what a cluster would enforce if its staged policies were made real.
 *
 * stagedAction says what that is: Set (and Learn, which a tool proposed) puts the policy where the enforced one of the name is, or adds it; Delete takes
 * that one away; Ignore does nothing. Pure, on objects as they are written, so that what is promoted is parsed and enforced as any other.
 */
import { API_RESOURCES, apiVersionOf } from "../datastore/api-resources.ts";
import { type JsonObject, objectAt, stringAt, tryJsonObject } from "../datastore/json-object.ts";
import { resourceKindOf } from "../model/parse-resource.ts";
import type { PolicyKindName } from "../model/policy-kinds.ts";
import type { ResourceKind } from "../model/resource.ts";
import type { SourcedObject } from "./manifests.ts";
import type { PolicyName } from "./object-name.ts";

const ENFORCED = {
  StagedGlobalNetworkPolicy: "GlobalNetworkPolicy",
  StagedNetworkPolicy: "CalicoNetworkPolicy",
  StagedKubernetesNetworkPolicy: "NetworkPolicy",
} as const satisfies Partial<Record<PolicyKindName, ResourceKind>>;

type StagedKind = keyof typeof ENFORCED;

export interface Promotion {
  /** "StagedNetworkPolicy shop/web", for people. */
  readonly staged: string;
  readonly action: string;
  /** The object that would be enforced; undefined: the one of that name would go, or nothing happens. */
  readonly becomes: SourcedObject | undefined;
  /** The object that would go. */
  readonly removes: SourcedObject | undefined;
}

/** `names`: which of them; undefined: all. In the order of the objects. */
export function promotionsOf(objects: readonly SourcedObject[], names?: readonly PolicyName[]): readonly Promotion[] {
  return objects.flatMap((entry) => {
    const kind = resourceKindOf(entry.object);
    const object = tryJsonObject(entry.object);
    if (object === undefined || kind === undefined || !isStaged(kind)) return [];
    const metadata = objectAt(object, "metadata");
    const name = stringAt(metadata, "name") ?? "";
    const namespace = API_RESOURCES[kind].isNamespaced ? (stringAt(metadata, "namespace") ?? "default") : "";
    if (names !== undefined && !names.some((one) => isNamed(one, { kind, namespace, name }))) return [];
    const { stagedAction: written, ...spec } = objectAt(object, "spec") ?? {};
    const action = typeof written === "string" && written !== "" ? written : "Set";
    const resource = API_RESOURCES[ENFORCED[kind]];
    const head = { apiVersion: apiVersionOf(resource), kind: resource.kind };
    const own = { name, ...(namespace === "" ? {} : { namespace }), ...rulesAnnotations(metadata) };
    const staged = `${kind} ${namespace === "" ? "" : `${namespace}/`}${name}`;
    const target: SourcedObject = { source: `${entry.source} (${kind} ${name} promoted)`, object: { ...head, metadata: own, spec } };
    const isSet = action === "Set" || action === "Learn";
    return [{ staged, action, becomes: isSet ? target : undefined, removes: action === "Delete" ? target : undefined }];
  });
}

function isStaged(kind: ResourceKind): kind is StagedKind {
  return Object.hasOwn(ENFORCED, kind);
}

/** By the staged kind, by the enforced one that it is for, or by name alone. */
function isNamed(wanted: PolicyName, { kind, namespace, name }: { readonly kind: StagedKind; readonly namespace: string; readonly name: string }): boolean {
  return (
    wanted.name === name &&
    (wanted.namespace === "" || wanted.namespace === namespace) &&
    (wanted.kind === undefined || wanted.kind === kind || wanted.kind === ENFORCED[kind])
  );
}

/** Annotations mean something to enforcement (sedge.network/deny-action). */
function rulesAnnotations(metadata: JsonObject | undefined): { readonly annotations?: JsonObject } {
  const annotations = objectAt(metadata, "annotations");
  return annotations === undefined ? {} : { annotations };
}
