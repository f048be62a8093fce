/** What the source tells compute, in order. */
import type { Resource, ResourceKey, ResourceVersion } from "./resource.ts";

/** wait-for-datastore: no complete list of every kind yet. resync: complete once, being listed again. in-sync: complete and watching. */
export type SyncStatus = "wait-for-datastore" | "resync" | "in-sync";

/** One thing that could not be understood in an object. */
export interface Problem {
  /** Path of the field, e.g. "spec.ingress[0].from[1].ipBlock.cidr". */
  readonly field: string;
  /** What is wrong, and what to write instead. */
  readonly message: string;
}

export type ClusterEvent =
  /** `generation`: metadata.generation, of kinds that have a status to say what was observed; absent: not known. */
  | { readonly kind: "upsert"; readonly resource: Resource; readonly generation?: number }
  | { readonly kind: "delete"; readonly key: ResourceKey }
  /** The object exists and cannot be understood: `closed` is in force; without it the last good value stays (a policy is in force nowhere then). */
  | {
      readonly kind: "invalid";
      readonly key: ResourceKey;
      readonly resourceVersion: ResourceVersion;
      readonly generation?: number;
      readonly problems: readonly Problem[];
      /** What could be read, with the rest left out: a policy then lets nothing more through than it may have meant. */
      readonly closed?: Resource;
    }
  | { readonly kind: "status"; readonly status: SyncStatus };

/** Result of parsing one object at the boundary. */
export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  /** `closed`: what could be read, with each part that could not replaced by one that lets nothing more through. */
  | { readonly ok: false; readonly problems: readonly Problem[]; readonly closed?: T };

/** Ends every exhaustive switch. */
export function assertNever(value: never): never {
  throw new Error(`unexpected value: ${JSON.stringify(value)}`);
}
