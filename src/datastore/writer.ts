/**
 * Writes of address objects by compare-and-swap. What a competitor can cause (someone was first, it is gone, it has changed) is a result; everything else throws.
 *
 * Rejected: patches and server-side apply here. Two allocators that each apply their own fields would both succeed with the same address.
 */
import { assertNever, type Problem } from "../model/event.ts";
import { RESOURCE_INFO } from "../model/parse-resource.ts";
import type { Clock } from "../runtime/clock.ts";
import type { ApiClient, CallOptions } from "./api-client.ts";
import { ApiError } from "./api-error.ts";
import { API_RESOURCES } from "./api-resources.ts";
import { type JsonObject, objectAt, stringAt } from "./json-object.ts";
import { toApiObject, type WritableResource } from "./to-api-object.ts";

export type WritableKind = WritableResource["kind"];
export type WritableOf<Kind extends WritableKind> = Extract<WritableResource, { kind: Kind }>;

/** An object as it was read: the value, and everything else that was in it, which a write keeps. */
export interface Stored<Kind extends WritableKind> {
  readonly value: WritableOf<Kind>;
  readonly object: JsonObject;
}

export type ReadResult<Kind extends WritableKind> =
  | ({ readonly kind: "found" } & Stored<Kind>)
  | { readonly kind: "not-found" }
  /** It exists and cannot be understood: it must not be overwritten. */
  | { readonly kind: "invalid"; readonly problems: readonly Problem[] };

export type CreateResult<Kind extends WritableKind> = ({ readonly kind: "written" } & Stored<Kind>) | { readonly kind: "already-exists" };
export type UpdateResult<Kind extends WritableKind> =
  | ({ readonly kind: "written" } & Stored<Kind>)
  | { readonly kind: "conflict" }
  | { readonly kind: "not-found" };
export type DeleteResult = { readonly kind: "deleted" } | { readonly kind: "conflict" } | { readonly kind: "not-found" };

export interface AddressWriterOptions {
  readonly client: ApiClient;
  readonly clock: Clock;
}

export class AddressWriter {
  readonly #client: ApiClient;
  readonly #clock: Clock;

  constructor({ client, clock }: AddressWriterOptions) {
    this.#client = client;
    this.#clock = clock;
  }

  async read<Kind extends WritableKind>(kind: Kind, name: string, options: CallOptions = {}): Promise<ReadResult<Kind>> {
    const object = await this.#expect(() => this.#client.get(API_RESOURCES[kind], { name }, options), ["not-found"]);
    if (typeof object === "string") return { kind: "not-found" };
    const parsed = RESOURCE_INFO[kind].parse(object);
    return parsed.ok ? { kind: "found", value: parsed.value as WritableOf<Kind>, object } : { kind: "invalid", problems: parsed.problems };
  }

  /** The value's resourceVersion is not looked at. */
  async create<Kind extends WritableKind>(resource: WritableOf<Kind>, options: CallOptions = {}): Promise<CreateResult<Kind>> {
    const object = toApiObject({ ...resource, resourceVersion: "" }, { firstSequenceNumber: Math.floor(this.#clock.wallTime() * 1000) });
    const written = await this.#expect(() => this.#client.create(API_RESOURCES[resource.kind], object, options), ["already-exists"]);
    return typeof written === "string" ? { kind: "already-exists" } : stored(resource, written);
  }

  /**
   * Replaces the object if it still has the value's resourceVersion. `previous` (from `read` or an earlier write) saves reading it first;
   * throws RangeError when it is of another version than the value.
   */
  async update<Kind extends WritableKind>(resource: WritableOf<Kind>, previous?: Stored<Kind>, options: CallOptions = {}): Promise<UpdateResult<Kind>> {
    if (resource.resourceVersion === "") throw new RangeError(`${resource.kind} ${resource.name}: an update needs the resourceVersion that was read`);
    if (previous !== undefined && previous.value.resourceVersion !== resource.resourceVersion) {
      throw new RangeError(
        `${resource.kind} ${resource.name}: previous is version ${previous.value.resourceVersion}, the value is of ${resource.resourceVersion}`,
      );
    }
    let before = previous?.object;
    if (before === undefined) {
      const found = await this.#expect(() => this.#client.get(API_RESOURCES[resource.kind], resource, options), ["not-found"]);
      if (typeof found === "string") return { kind: "not-found" };
      if (stringAt(objectAt(found, "metadata"), "resourceVersion") !== resource.resourceVersion) return { kind: "conflict" };
      before = found;
    }
    const object = toApiObject(resource, { previous: before });
    const written = await this.#expect(() => this.#client.update(API_RESOURCES[resource.kind], object, options), ["not-found", "conflict"]);
    if (typeof written !== "string") return stored(resource, written);
    return { kind: written === "not-found" ? "not-found" : "conflict" };
  }

  /** Deletes the object if it still has this version. */
  async delete(
    kind: WritableKind,
    { name, resourceVersion }: { readonly name: string; readonly resourceVersion: string },
    options: CallOptions = {},
  ): Promise<DeleteResult> {
    const deleted = await this.#expect(() => this.#client.delete(API_RESOURCES[kind], { name }, { ...options, resourceVersion }), ["not-found", "conflict"]);
    if (typeof deleted !== "string") return { kind: "deleted" };
    return { kind: deleted === "not-found" ? "not-found" : "conflict" };
  }

  /** Turns the errors that the caller has a result for into their names. */
  async #expect(call: () => Promise<JsonObject>, expected: readonly Expected[]): Promise<JsonObject | Expected> {
    try {
      return await call();
    } catch (error) {
      const outcome = error instanceof ApiError ? expected.find((one) => isOutcome(error, one)) : undefined;
      if (outcome === undefined) throw error;
      return outcome;
    }
  }
}

type Expected = "not-found" | "conflict" | "already-exists";

function isOutcome({ status, reason }: ApiError, outcome: Expected): boolean {
  switch (outcome) {
    case "not-found":
      // A 404 without the reason is a path that is not served: the custom resource is not installed, which no caller can treat as "gone".
      return status === 404 && reason === "NotFound";
    case "conflict":
      return status === 409 && reason !== "AlreadyExists";
    case "already-exists":
      return status === 409 && reason === "AlreadyExists";
    default:
      return assertNever(outcome);
  }
}

/** What the server answered to a write; when that cannot be understood, what was written with the version that it got. */
function stored<Kind extends WritableKind>(resource: WritableOf<Kind>, object: JsonObject): { kind: "written" } & Stored<Kind> {
  const parsed = RESOURCE_INFO[resource.kind].parse(object);
  const resourceVersion = stringAt(objectAt(object, "metadata"), "resourceVersion") ?? "";
  return { kind: "written", value: parsed.ok ? (parsed.value as WritableOf<Kind>) : { ...resource, resourceVersion }, object };
}
