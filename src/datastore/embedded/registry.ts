/** Which kinds are served: the built-in ones, and those of the CustomResourceDefinitions in the store, followed as they are written. */
import type { SchemaDocument } from "./builtin-kinds.ts";
import { builtinKinds, loadSchemaDocuments, OBJECT_META } from "./builtin-kinds.ts";
import { customKinds } from "./crd.ts";
import type { JsonObject } from "./json.ts";
import { stringAt } from "./json.ts";
import type { ResourceType } from "./resource-type.ts";
import { storageName } from "./resource-type.ts";
import type { Schema } from "./schema.ts";
import type { Change, Store } from "./store.ts";

export const CRD_RESOURCE = "customresourcedefinitions.apiextensions.k8s.io";

export interface GroupVersion {
  readonly group: string;
  readonly version: string;
  readonly apiVersion: string;
  readonly types: readonly ResourceType[];
}

export class Registry {
  readonly documents: ReadonlyMap<string, SchemaDocument>;
  readonly metadataSchema: Schema;
  readonly #builtin: readonly ResourceType[];
  readonly #custom = new Map<string, readonly ResourceType[]>();

  constructor() {
    this.documents = loadSchemaDocuments();
    this.#builtin = builtinKinds(this.documents);
    const metadata = this.documents.get("v1")?.linked.get(OBJECT_META);
    if (metadata === undefined) throw new Error(`core.v1.json has no ${OBJECT_META}`);
    this.metadataSchema = metadata;
  }

  /** Serves what the store has now and follows it from here on. */
  follow(store: Store): void {
    for (const entry of store.list(CRD_RESOURCE)) this.#define(entry.object);
    store.observe((change) => this.#onChange(change));
  }

  all(): readonly ResourceType[] {
    return [...this.#builtin, ...[...this.#custom.keys()].sort().flatMap((name) => this.#custom.get(name) ?? [])];
  }

  find(group: string, version: string, plural: string): ResourceType | undefined {
    return this.all().find((type) => type.group === group && type.version === version && type.plural === plural);
  }

  /** One type for each stored resource. */
  stored(): readonly ResourceType[] {
    const seen = new Set<string>();
    return this.all().filter((type) => !seen.has(storageName(type)) && seen.add(storageName(type)));
  }

  groupVersions(): readonly GroupVersion[] {
    const found = new Map<string, ResourceType[]>();
    for (const type of this.all()) {
      const list = found.get(type.apiVersion);
      if (list === undefined) found.set(type.apiVersion, [type]);
      else list.push(type);
    }
    return [...found].map(([apiVersion, types]) => ({ apiVersion, types, group: types[0]?.group ?? "", version: types[0]?.version ?? "" }));
  }

  /** Why the names of a definition cannot be used; undefined when they can. */
  findNameConflict(crd: JsonObject): string | undefined {
    const group = stringAt(crd, "spec", "group");
    const plural = stringAt(crd, "spec", "names", "plural");
    const builtin = this.#builtin.find((type) => type.group === group);
    return builtin === undefined ? undefined : `${plural}.${group}: the group ${group} belongs to a built-in API`;
  }

  #onChange(change: Change): void {
    if (change.entry.key.resource !== CRD_RESOURCE) return;
    if (change.kind === "deleted") this.#custom.delete(change.entry.key.name);
    else this.#define(change.entry.object);
  }

  #define(crd: JsonObject): void {
    this.#custom.set(stringAt(crd, "metadata", "name"), customKinds(crd, this.metadataSchema));
  }
}
