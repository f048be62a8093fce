/**
 * The verbs that write: create, update, patch, delete, one object at a time, synchronously against the store. No HTTP here.
 *
 * Every write goes through `#finish`: types, defaults, server-owned metadata, validation, ownership of fields, then one store change, or none
 * when nothing changed or the request is a dry run. So a patch needs no retry: reading and writing are one step.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { acceptedStatus } from "./crd.ts";
import { applySchemaDefaults, findTypeProblem, pruneUnknown } from "./decode.ts";
import type { JsonObject } from "./json.ts";
import { arrayAt, cloneJson, ensureObject, equalJson, isObject, objectAt, stringAt, valueAt } from "./json.ts";
import type { Manager } from "./managed-fields.ts";
import { applyConfiguration, recordUpdate, resetFields } from "./managed-fields.ts";
import { immutableMetadataProblems, metadataProblems } from "./object-meta.ts";
import type { Registry } from "./registry.ts";
import { CRD_RESOURCE } from "./registry.ts";
import type { ResourceType } from "./resource-type.ts";
import { storageName } from "./resource-type.ts";
import { ANYTHING } from "./schema.ts";
import { alreadyExists, badRequest, conflict, fieldInvalid, forbidden, invalid, notFound, STALE_VERSION } from "./status.ts";
import type { Entry, ObjectKey, Store } from "./store.ts";
import { isTerminating, Terminator } from "./termination.ts";

export type FieldValidation = "Strict" | "Warn" | "Ignore";

export interface WriteOptions {
  readonly fieldManager: string;
  readonly fieldValidation: FieldValidation;
  readonly isDryRun: boolean;
  /** Server-side apply only. */
  readonly isForced: boolean;
  /** Receives what is not refused and should be known. */
  warn(text: string): void;
}

export interface Preconditions {
  readonly uid: string | undefined;
  readonly resourceVersion: string | undefined;
}

const NO_PRECONDITIONS: Preconditions = { uid: undefined, resourceVersion: undefined };

export interface Written {
  readonly object: JsonObject;
  readonly isCreated: boolean;
}

/** "removed": gone. "terminating": waits for its finalizers or its contents. */
interface Deleted {
  readonly outcome: "removed" | "terminating";
  readonly object: JsonObject;
}

export interface Clock {
  /** Wall clock, milliseconds. */
  now(): number;
}

/** RFC 3339 in whole seconds, as metadata has it. */
export function timestamp(nowMs: number): string {
  return `${new Date(nowMs).toISOString().slice(0, 19)}Z`;
}

export class Objects {
  readonly #store: Store;
  readonly #registry: Registry;
  readonly #clock: Clock;
  readonly #terminator: Terminator;

  constructor({ store, registry, clock }: { readonly store: Store; readonly registry: Registry; readonly clock: Clock }) {
    this.#store = store;
    this.#registry = registry;
    this.#clock = clock;
    this.#terminator = new Terminator({
      store,
      registry,
      remove: (type, key) => void this.delete(type, key, { preconditions: NO_PRECONDITIONS, isDryRun: false }),
    });
  }

  /** Throws a 404 when it is not there. */
  get(type: ResourceType, namespace: string, name: string): Entry {
    const entry = this.#store.get(keyOf(type, namespace, name));
    if (entry === undefined) throw notFound(type, name);
    return entry;
  }

  create(type: ResourceType, namespace: string, body: JsonObject, options: WriteOptions): Written {
    const object = this.#decode(type, body, options);
    const metadata = ensureObject(object, "metadata");
    if (stringAt(metadata, "resourceVersion") !== "") throw badRequest("resourceVersion should not be set on objects to be created");
    this.#place(type, namespace, metadata);
    if (stringAt(metadata, "name") === "" && stringAt(metadata, "generateName") !== "") metadata["name"] = generatedName(stringAt(metadata, "generateName"));
    const name = stringAt(metadata, "name");
    if (name !== "" && this.#store.get(keyOf(type, namespace, name)) !== undefined) throw alreadyExists(type, name);
    if (type.isNamespaced) this.#requireNamespace(type, namespace, name);
    return { object: this.#insert(type, namespace, object, options, { operation: "Update", subresource: "" }), isCreated: true };
  }

  /** PUT. `subresource` is "" or "status". */
  update(
    type: ResourceType,
    at: { readonly namespace: string; readonly name: string; readonly subresource: string },
    body: JsonObject,
    options: WriteOptions,
  ): Written {
    const object = this.#decode(type, body, options);
    const metadata = ensureObject(object, "metadata");
    this.#place(type, at.namespace, metadata);
    const sentName = stringAt(metadata, "name");
    if (sentName !== at.name) throw badRequest(`the name of the object (${sentName}) does not match the name on the URL (${at.name})`);
    return { object: this.#replace(type, this.get(type, at.namespace, at.name), object, at.subresource, options), isCreated: false };
  }

  /** PATCH with a patch that is a function of the live object. */
  patch(
    type: ResourceType,
    at: { readonly namespace: string; readonly name: string; readonly subresource: string },
    apply: (live: JsonObject) => JsonObject,
    options: WriteOptions,
  ): Written {
    const live = this.get(type, at.namespace, at.name);
    const object = this.#decode(type, apply(cloneJson(this.present(type, live.object))), options);
    const metadata = ensureObject(object, "metadata");
    if (stringAt(metadata, "name") !== at.name)
      throw badRequest(`the name of the object (${stringAt(metadata, "name")}) does not match the name on the URL (${at.name})`);
    return { object: this.#replace(type, live, object, at.subresource, options), isCreated: false };
  }

  /** PATCH with a configuration: server-side apply. Creates the object when it is not there. */
  apply(
    type: ResourceType,
    at: { readonly namespace: string; readonly name: string; readonly subresource: string },
    body: JsonObject,
    options: WriteOptions,
  ): Written {
    if (arrayAt(body, "metadata", "managedFields").length > 0) throw badRequest("metadata.managedFields must be nil");
    const applied = this.#decode(type, body, options);
    const metadata = ensureObject(applied, "metadata");
    this.#place(type, at.namespace, metadata);
    metadata["name"] ??= at.name;
    if (stringAt(metadata, "name") !== at.name)
      throw badRequest(`the name of the object (${stringAt(metadata, "name")}) does not match the name on the URL (${at.name})`);
    const live = this.#store.get(keyOf(type, at.namespace, at.name));
    const version = stringAt(metadata, "resourceVersion");
    const uid = stringAt(metadata, "uid");
    if (live === undefined) {
      if (at.subresource !== "") throw notFound(type, at.name);
      if (version !== "" && version !== "0") throw conflict(type, at.name, STALE_VERSION);
      if (uid !== "") throw conflict(type, at.name, "uid mismatch: the provided object specified uid " + uid + ", and no existing object was found");
      if (type.isNamespaced) this.#requireNamespace(type, at.namespace, at.name);
      return { object: this.#insert(type, at.namespace, applied, options, { operation: "Apply", subresource: "" }), isCreated: true };
    }
    const merged = applyConfiguration({
      live: cloneJson(this.present(type, live.object)),
      applied,
      schema: type.schema,
      manager: this.#manager(type, options, "Apply", at.subresource),
      reset: resetFields({ hasStatusSubresource: type.hasStatusSubresource, subresource: at.subresource }),
      isForced: options.isForced,
    });
    return { object: this.#replace(type, live, merged, at.subresource, options, true), isCreated: false };
  }

  /** Throws a 409 when a precondition does not hold. Finalizers keep the object until they are taken off. */
  delete(
    type: ResourceType,
    at: { readonly namespace: string; readonly name: string },
    { preconditions, isDryRun }: { readonly preconditions: Preconditions; readonly isDryRun: boolean },
  ): Deleted {
    const live = this.get(type, at.namespace, at.name);
    const uid = stringAt(live.object, "metadata", "uid");
    if (preconditions.uid !== undefined && preconditions.uid !== uid)
      throw conflict(type, at.name, `Precondition failed: UID in precondition: ${preconditions.uid}, UID in object meta: ${uid}`);
    if (preconditions.resourceVersion !== undefined && preconditions.resourceVersion !== String(live.revision)) {
      throw conflict(
        type,
        at.name,
        `Precondition failed: ResourceVersion in precondition: ${preconditions.resourceVersion}, ResourceVersion in object meta: ${live.revision}`,
      );
    }
    const isNamespace = type.group === "" && type.kind === "Namespace";
    const isHeld = arrayAt(live.object, "metadata", "finalizers").length > 0 || isNamespace || storageName(type) === CRD_RESOURCE;
    if (isNamespace && (at.name === "default" || at.name === "kube-system" || at.name === "kube-public"))
      throw forbidden(type, at.name, "this namespace may not be deleted");
    if (isDryRun) return { outcome: isHeld ? "terminating" : "removed", object: live.object };
    if (!isHeld) {
      this.#store.remove(live.key);
      return { outcome: "removed", object: live.object };
    }
    let terminating = live.object;
    if (!isTerminating(live)) {
      terminating = cloneJson(live.object);
      const metadata = ensureObject(terminating, "metadata");
      metadata["deletionTimestamp"] = timestamp(this.#clock.now());
      metadata["deletionGracePeriodSeconds"] = 0;
      if (type.hasGeneration) metadata["generation"] = Number(metadata["generation"] ?? 0) + 1;
      if (isNamespace) ensureObject(terminating, "status")["phase"] = "Terminating";
      this.#store.put(live.key, terminating);
    }
    this.#terminator.resume(live.key);
    return { outcome: this.#store.get(live.key) === undefined ? "removed" : "terminating", object: terminating };
  }

  /** Finishes what a stop interrupted: contents of namespaces and definitions that are being deleted. */
  resumeTerminations(): void {
    this.#terminator.resumeAll();
  }

  /** The object in the version of the type: stored objects keep the version in which they were written. */
  present(type: ResourceType, object: JsonObject): JsonObject {
    return object["apiVersion"] === type.apiVersion ? object : { ...object, apiVersion: type.apiVersion };
  }

  #manager(type: ResourceType, options: WriteOptions, operation: Manager["operation"], subresource: string): Manager {
    return { name: options.fieldManager, operation, apiVersion: type.apiVersion, subresource, time: timestamp(this.#clock.now()) };
  }

  #decode(type: ResourceType, body: JsonObject, options: WriteOptions): JsonObject {
    const apiVersion = stringAt(body, "apiVersion");
    const kind = stringAt(body, "kind");
    if ((kind !== "" && kind !== type.kind) || (apiVersion !== "" && apiVersion !== type.apiVersion)) {
      throw badRequest(
        `${kind || type.kind} in version ${JSON.stringify(apiVersion)} cannot be handled as a ${type.kind}: the path is for ${type.apiVersion} ${type.plural}`,
      );
    }
    const { object, unknown } = pruneUnknown(body, type.schema);
    if (unknown.length > 0 && options.fieldValidation === "Strict")
      throw badRequest(
        `${type.isCustom ? "" : `${type.kind} in version ${JSON.stringify(type.version)} cannot be handled as a ${type.kind}: `}strict decoding error: ${unknown.map((path) => `unknown field ${JSON.stringify(path)}`).join(", ")}`,
      );
    if (options.fieldValidation === "Warn") for (const path of unknown) options.warn(`unknown field ${JSON.stringify(path)}`);
    const checked = type.isCustom ? { metadata: object["metadata"] ?? {} } : object;
    const problem = findTypeProblem(checked, type.schema);
    if (problem !== undefined) throw badRequest(`${type.kind} in version ${JSON.stringify(type.version)} cannot be handled as a ${type.kind}: ${problem}`);
    object["apiVersion"] = type.apiVersion;
    object["kind"] = type.kind;
    return orderedKeys(object);
  }

  #place(type: ResourceType, namespace: string, metadata: JsonObject): void {
    const sent = stringAt(metadata, "namespace");
    if (!type.isNamespaced) {
      delete metadata["namespace"];
      return;
    }
    if (sent !== "" && sent !== namespace)
      throw badRequest(`the namespace of the provided object does not match the namespace sent on the request: ${sent} is not ${namespace}`);
    metadata["namespace"] = namespace;
  }

  #requireNamespace(type: ResourceType, namespace: string, name: string): void {
    const entry = this.#store.get({ resource: "namespaces", namespace: "", name: namespace });
    if (entry === undefined) throw notFound({ group: "", plural: "namespaces", kind: "Namespace" }, namespace);
    if (!isTerminating(entry)) return;
    throw forbidden(type, name, `unable to create new content in namespace ${namespace} because it is being terminated`, [
      { reason: "NamespaceTerminating", message: `namespace ${namespace} is being terminated`, field: "metadata.namespace" },
    ]);
  }

  #insert(
    type: ResourceType,
    namespace: string,
    object: JsonObject,
    options: WriteOptions,
    { operation, subresource }: { readonly operation: Manager["operation"]; readonly subresource: string },
  ): JsonObject {
    const sent = cloneJson(object);
    const metadata = ensureObject(object, "metadata");
    for (const field of ["selfLink", "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"]) delete metadata[field];
    metadata["uid"] = randomUUID();
    metadata["creationTimestamp"] = timestamp(this.#clock.now());
    delete metadata["generation"];
    if (type.hasGeneration) metadata["generation"] = 1;
    // What a client sends as the status of a new Node is kept, as kube-apiserver does; every other kind starts with its own.
    if (type.hasStatusSubresource && type.kind !== "Node") delete object["status"];
    type.rules.prepareForCreate?.(object);
    this.#fillIn(type, object);
    this.#check(type, object, undefined);
    const manager = this.#manager(type, options, operation, subresource);
    const reset = resetFields({ hasStatusSubresource: type.hasStatusSubresource, subresource });
    if (operation === "Apply") {
      const owned = applyConfiguration({ live: undefined, applied: sent, schema: type.schema, manager, reset, isForced: true });
      metadata["managedFields"] = arrayAt(owned, "metadata", "managedFields");
    } else recordUpdate({ before: undefined, after: object, schema: type.schema, manager, reset });
    if (options.isDryRun) return object;
    return this.#store.put(keyOf(type, namespace, stringAt(metadata, "name")), object).object;
  }

  #replace(type: ResourceType, live: Entry, object: JsonObject, subresource: string, options: WriteOptions, hasOwners = false): JsonObject {
    const before = this.present(type, live.object);
    const name = live.key.name;
    const metadata = ensureObject(object, "metadata");
    const version = stringAt(metadata, "resourceVersion");
    if (version !== "" && version !== "0" && version !== String(live.revision)) throw conflict(type, name, STALE_VERSION);
    const uid = stringAt(metadata, "uid");
    if (uid !== "" && uid !== stringAt(before, "metadata", "uid"))
      throw conflict(type, name, `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${stringAt(before, "metadata", "uid")}`);
    const after = this.#merge(type, before, object, subresource);
    this.#fillIn(type, after);
    const afterMetadata = ensureObject(after, "metadata");
    delete afterMetadata["generation"];
    if (type.hasGeneration)
      afterMetadata["generation"] = Number(valueAt(before, "metadata", "generation") ?? 0) + (hasSpecChanged(type, before, after) ? 1 : 0);
    if (subresource === "") this.#check(type, after, before);
    else if (type.isCustom) this.#check(type, after, before);
    if (!hasOwners)
      recordUpdate({
        before,
        after,
        schema: type.schema,
        manager: this.#manager(type, options, "Update", subresource),
        reset: resetFields({ hasStatusSubresource: type.hasStatusSubresource, subresource }),
      });
    if (isSameButTimes(before, after)) return before;
    if (options.isDryRun) return after;
    const isOver = valueAt(after, "metadata", "deletionTimestamp") !== undefined && arrayAt(after, "metadata", "finalizers").length === 0;
    const entry = this.#store.put(live.key, after);
    if (isOver) this.#terminator.resume(live.key);
    return entry.object;
  }

  /** What a write may change: everything but the status, or nothing but the status; never the server's own metadata. */
  #merge(type: ResourceType, before: JsonObject, object: JsonObject, subresource: string): JsonObject {
    const metadata = ensureObject(object, "metadata");
    const had = objectAt(before, "metadata");
    for (const field of ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "generateName"]) {
      if (had[field] === undefined) delete metadata[field];
      else metadata[field] = had[field];
    }
    delete metadata["selfLink"];
    if (subresource === "status") {
      const after: JsonObject = { ...cloneJson(before), ...(object["status"] === undefined ? {} : { status: object["status"] }) };
      if (object["status"] === undefined) delete after["status"];
      ensureObject(after, "metadata")["managedFields"] = metadata["managedFields"] ?? had["managedFields"] ?? [];
      return after;
    }
    if (!type.hasStatusSubresource) return object;
    const after: JsonObject = { ...object };
    if (before["status"] === undefined) delete after["status"];
    else after["status"] = before["status"];
    return after;
  }

  #fillIn(type: ResourceType, object: JsonObject): void {
    type.rules.defaults?.(object);
    if (type.isCustom) applySchemaDefaults(object, { ...type.schema, properties: { ...type.schema.properties, metadata: ANYTHING } });
    if (storageName(type) === CRD_RESOURCE) object["status"] = acceptedStatus(object, timestamp(this.#clock.now()));
    for (const field of ["labels", "annotations", "finalizers", "ownerReferences"]) {
      const value = valueAt(object, "metadata", field);
      if ((isObject(value) && Object.keys(value).length === 0) || (Array.isArray(value) && value.length === 0)) delete ensureObject(object, "metadata")[field];
    }
  }

  #check(type: ResourceType, object: JsonObject, before: JsonObject | undefined): void {
    const causes = metadataProblems(object, type);
    if (before !== undefined) causes.push(...immutableMetadataProblems(object, before));
    causes.push(...(type.rules.validate?.(object, before) ?? []));
    if (storageName(type) === CRD_RESOURCE) {
      const taken = this.#registry.findNameConflict(object);
      if (taken !== undefined) causes.push(fieldInvalid("spec.group", stringAt(object, "spec", "group"), taken));
    }
    if (causes.length > 0) throw invalid(type, stringAt(object, "metadata", "name"), causes);
  }
}

export function keyOf(type: ResourceType, namespace: string, name: string): ObjectKey {
  return { resource: storageName(type), namespace: type.isNamespaced ? namespace : "", name };
}

function generatedName(prefix: string): string {
  const alphabet = "bcdfghjklmnpqrstvwxz2456789";
  return prefix.slice(0, 58) + [...randomBytes(5)].map((byte) => alphabet[byte % alphabet.length]).join("");
}

/** kind, apiVersion, metadata first: what people read. */
function orderedKeys(object: JsonObject): JsonObject {
  const { apiVersion = "", kind = "", metadata = {}, ...rest } = object;
  return { apiVersion, kind, metadata, ...rest };
}

function hasSpecChanged(type: ResourceType, before: JsonObject, after: JsonObject): boolean {
  const relevant = (object: JsonObject): JsonObject =>
    Object.fromEntries(Object.entries(object).filter(([key]) => key !== "metadata" && !(key === "status" && (type.hasStatusSubresource || !type.isCustom))));
  return !equalJson(relevant(before), relevant(after));
}

/** Nothing but the times of managedFields differs. */
function isSameButTimes(before: JsonObject, after: JsonObject): boolean {
  const comparable = (object: JsonObject): JsonObject => {
    const metadata: JsonObject = { ...objectAt(object, "metadata") };
    delete metadata["resourceVersion"];
    const managed = arrayAt(metadata, "managedFields").map((entry) => (isObject(entry) ? { ...entry, time: "" } : entry));
    if (managed.length > 0) metadata["managedFields"] = managed;
    else delete metadata["managedFields"];
    return { ...object, metadata };
  };
  return equalJson(comparable(before), comparable(after));
}
