/** An object of the API as the source tells of it: what it says when it can be read, and else what is wrong with it and what stands for it. */
import type { ClusterEvent } from "../../src/model/event.ts";
import { parseResource, resourceKeyOf, resourceKindOf } from "../../src/model/parse-resource.ts";
import type { ResourceKey } from "../../src/model/resource.ts";

export interface Arrived {
  readonly key: ResourceKey;
  readonly event: ClusterEvent;
}

/** Throws for an object of no known kind: of that no source tells. */
export function arrived(object: unknown): Arrived {
  const kind = resourceKindOf(object);
  const key = kind === undefined ? undefined : resourceKeyOf(kind, object);
  if (key === undefined) throw new Error(`of no known kind: ${JSON.stringify(object)}`);
  const parsed = parseResource(object);
  if (parsed.ok) return { key, event: { kind: "upsert", resource: parsed.value } };
  const { problems, closed } = parsed;
  return { key, event: { kind: "invalid", key, resourceVersion: "", problems, ...(closed === undefined ? {} : { closed }) } };
}
