/** Address objects in memory with the API's compare-and-swap: versions, AlreadyExists, Conflict. `before` lets a test act between any two calls, or fail one. */
import type { AddressStore } from "../../fanout/claims/address-store.ts";
import type { WritableResource } from "../../src/datastore/to-api-object.ts";
import type { CreateResult, DeleteResult, ReadResult, Stored, UpdateResult, WritableKind, WritableOf } from "../../src/datastore/writer.ts";
import type { ClusterEvent } from "../../src/model/event.ts";

export type StoreCall = { readonly verb: "read" | "create" | "update" | "delete"; readonly kind: WritableKind; readonly name: string };

export class MemoryAddressStore implements AddressStore {
  readonly objects = new Map<string, WritableResource>();
  readonly calls: StoreCall[] = [];
  /** Called at the start of each call; a rejection is the API's failure. */
  before: (call: StoreCall) => Promise<void> | void = () => undefined;
  /** Told each change, as a watch would. */
  written: (event: ClusterEvent) => void = () => undefined;
  #version = 0;

  /** Writes as somebody else would. */
  put(resource: WritableResource): WritableResource {
    const written = { ...resource, resourceVersion: String(++this.#version) };
    this.objects.set(`${resource.kind}/${resource.name}`, written);
    this.written({ kind: "upsert", resource: written });
    return written;
  }

  find<Kind extends WritableKind>(kind: Kind, name: string): WritableOf<Kind> | undefined {
    return this.objects.get(`${kind}/${name}`) as WritableOf<Kind> | undefined;
  }

  async read<Kind extends WritableKind>(kind: Kind, name: string): Promise<ReadResult<Kind>> {
    await this.#enter({ verb: "read", kind, name });
    const value = this.find(kind, name);
    return value === undefined ? { kind: "not-found" } : { kind: "found", value, object: {} };
  }

  async create<Kind extends WritableKind>(resource: WritableOf<Kind>): Promise<CreateResult<Kind>> {
    await this.#enter({ verb: "create", kind: resource.kind, name: resource.name });
    if (this.objects.has(`${resource.kind}/${resource.name}`)) return { kind: "already-exists" };
    return { kind: "written", value: this.put(resource) as WritableOf<Kind>, object: {} };
  }

  async update<Kind extends WritableKind>(resource: WritableOf<Kind>, _previous?: Stored<Kind>): Promise<UpdateResult<Kind>> {
    await this.#enter({ verb: "update", kind: resource.kind, name: resource.name });
    const now = this.objects.get(`${resource.kind}/${resource.name}`);
    if (now === undefined) return { kind: "not-found" };
    if (now.resourceVersion !== resource.resourceVersion) return { kind: "conflict" };
    return { kind: "written", value: this.put(resource) as WritableOf<Kind>, object: {} };
  }

  async delete(kind: WritableKind, { name, resourceVersion }: { readonly name: string; readonly resourceVersion: string }): Promise<DeleteResult> {
    await this.#enter({ verb: "delete", kind, name });
    const now = this.objects.get(`${kind}/${name}`);
    if (now === undefined) return { kind: "not-found" };
    if (now.resourceVersion !== resourceVersion) return { kind: "conflict" };
    this.objects.delete(`${kind}/${name}`);
    this.written({ kind: "delete", key: { kind, namespace: "", name } });
    return { kind: "deleted" };
  }

  async #enter(call: StoreCall): Promise<void> {
    this.calls.push(call);
    await this.before(call);
  }
}
