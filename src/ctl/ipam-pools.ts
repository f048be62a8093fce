/**
 * `sedge ipam migrate` and `split`: pools that are in use, changed under running pods. Each says first what it would do; with --apply it does the next steps and says
 * what is left. Run again it goes on: all that it knows is in the API.
 *
 * Invariant: no pod is touched unless --evict is given, and then by the eviction API, which heeds disruption budgets. Rejected: deleting pods, or restarting what
 * made them (their owners' objects are for people to change).
 */
import { readNamespaces } from "../datastore/address-repair.ts";
import type { ApiClient } from "../datastore/api-client.ts";
import { ApiError } from "../datastore/api-error.ts";
import { API_RESOURCES, apiVersionOf } from "../datastore/api-resources.ts";
import { type JsonObject, objectAt } from "../datastore/json-object.ts";
import type { AddressSnapshot } from "../ipam/audit.ts";
import { planMigration, planSplit } from "../ipam/pool-change.ts";
import { POOL_FINALIZER } from "../model/parse-ip-pool.ts";
import type { IpPool, Pod } from "../model/resource.ts";
import { type Cidr, tryParseCidr } from "../net/cidr.ts";
import { ConfigError } from "../runtime/config.ts";
import { json, print } from "./output.ts";

export interface PoolChangeOptions {
  readonly client: ApiClient;
  readonly snapshot: AddressSnapshot;
  readonly isApply: boolean;
  readonly isJson: boolean;
}

/** One step of a plan: what, and what came of it. */
interface Step {
  readonly what: string;
  readonly outcome: "planned" | "done" | "was done" | "refused";
  readonly reason?: string;
}

const MAX_SHOWN = 20;

/** Exit code: 0 nothing is left to do (or only planned), 1 something is left or in the way. */
export async function migrateCommand(
  [fromName = "", toName = "", ...surplus]: readonly string[],
  options: PoolChangeOptions & { readonly isEvict: boolean; readonly isDelete: boolean },
): Promise<number> {
  if (fromName === "" || toName === "" || surplus.length > 0)
    throw new ConfigError(["migrate takes two pools: sedge ipam migrate FROM-POOL TO-POOL [--apply] [--evict] [--delete]"]);
  const { client, isApply, isDelete, isEvict, isJson, snapshot } = options;
  if ((isEvict || isDelete) && !isApply) throw new ConfigError([`${isEvict ? "--evict" : "--delete"} does something: it needs --apply`]);
  const [from, to] = [poolByName(snapshot, fromName), poolByName(snapshot, toName)];
  const plan = planMigration({ from, to, snapshot, namespaces: await readNamespaces(client) });
  if (plan.problems.length > 0) {
    tellProblems(plan.problems, isJson);
    return 1;
  }
  const steps: Step[] = [];
  const does = (what: string, isDone: boolean): Step => ({ what, outcome: isDone ? "was done" : isApply ? "done" : "planned" });
  if (isApply && plan.isDisableNeeded) await disable(client, from);
  steps.push(does(`disable ${from.name}: new pods have addresses of ${to.name}, running ones keep theirs`, !plan.isDisableNeeded));
  for (const pod of plan.pods) {
    const what = `${isEvict ? "evict" : "make again"} pod ${pod.namespace}/${pod.name} (node ${pod.node ?? "none"}, ${pod.addresses.join(" ")})`;
    steps.push(isEvict ? await evict(client, pod, what) : { what, outcome: "planned" });
  }
  const isDrained = plan.pods.length === 0 && plan.others.length === 0 && plan.blocksLeft === 0;
  if (isDelete && isDrained) await deletePool(client, from);
  steps.push(
    isDelete && isDrained
      ? { what: `delete ${from.name}`, outcome: "done" }
      : { what: `delete ${from.name} when nothing of it is in use (--delete, or kubectl delete ippool ${from.name}: it stays until then)`, outcome: "planned" },
  );
  const left = { pods: plan.pods.length, otherAddresses: plan.others.length, blocks: plan.blocksLeft };
  if (isJson) print(json({ from: from.name, to: to.name, applied: isApply, warnings: plan.warnings, steps, left }));
  else {
    for (const warning of plan.warnings) print(`note: ${warning}`);
    tellSteps(steps);
    print(
      `${left.pods} pods, ${left.otherAddresses} other addresses and ${left.blocks} blocks of ${from.name} are left${isApply ? "" : "; nothing was changed (--apply does)"}`,
    );
  }
  return isApply && !isDrained ? 1 : 0;
}

/** Exit code as `migrateCommand`. */
export async function splitCommand(
  [number = "", ...surplus]: readonly string[],
  options: PoolChangeOptions & { readonly name: string | undefined; readonly cidr: string | undefined },
): Promise<number> {
  const { cidr, client, isApply, isJson, name, snapshot } = options;
  const usage = "split takes the number of parts and one pool: sedge ipam split 4 (--name POOL | --cidr CIDR) [--apply]";
  if (!/^\d+$/.test(number) || surplus.length > 0 || (name === undefined) === (cidr === undefined)) throw new ConfigError([usage]);
  const prefix = cidr === undefined ? undefined : tryParseCidr(cidr);
  if (cidr !== undefined && prefix === undefined) throw new ConfigError([`--cidr ${cidr} is not a prefix, for example 10.65.0.0/16`]);
  const pool = prefix === undefined ? poolByName(snapshot, name ?? "") : poolByCidr(snapshot, prefix);
  const plan = planSplit({ pool, count: Number(number), snapshot });
  if (plan.problems.length > 0) {
    tellProblems(plan.problems, isJson);
    return 1;
  }
  const steps: Step[] = [];
  // The parts first: they give no address while the old pool is there, and take its place in the moment that it goes.
  const source = isApply ? await client.get(API_RESOURCES.IPPool, { name: pool.name }) : {};
  for (const part of plan.parts) {
    if (isApply && !part.isThere) await createPart(client, source, part);
    steps.push({
      what: `create IPPool ${part.name} (${part.cidr}), otherwise as ${pool.name}`,
      outcome: part.isThere ? "was done" : isApply ? "done" : "planned",
    });
  }
  if (isApply) await deletePool(client, pool);
  steps.push({ what: `delete IPPool ${pool.name}; its blocks are the parts' then, and pods keep their addresses`, outcome: isApply ? "done" : "planned" });
  if (isJson) print(json({ pool: pool.name, applied: isApply, steps }));
  else {
    tellSteps(steps);
    if (!isApply) print("nothing was changed (--apply does)");
  }
  return 0;
}

function poolByName({ pools }: AddressSnapshot, name: string): IpPool {
  const found = pools.find((pool) => pool.name === name);
  if (found === undefined) throw new ConfigError([`there is no IPPool ${name}; there are: ${pools.map((pool) => pool.name).join(", ") || "none"}`]);
  return found;
}

function poolByCidr({ pools }: AddressSnapshot, cidr: Cidr): IpPool {
  const found = pools.find((pool) => pool.cidr === cidr);
  if (found === undefined) throw new ConfigError([`there is no IPPool of ${cidr}; there are: ${pools.map((pool) => pool.cidr).join(", ") || "none"}`]);
  return found;
}

async function disable(client: ApiClient, { name }: IpPool): Promise<void> {
  await client.patch(API_RESOURCES.IPPool, { name }, { spec: { disabled: true } }, { type: "merge" });
}

async function createPart(client: ApiClient, source: JsonObject, { cidr, name }: { readonly name: string; readonly cidr: Cidr }): Promise<void> {
  const { annotations, labels } = objectAt(source, "metadata") ?? {};
  await client.create(API_RESOURCES.IPPool, {
    apiVersion: apiVersionOf(API_RESOURCES.IPPool),
    kind: "IPPool",
    metadata: { name, ...(labels === undefined ? {} : { labels }), ...(annotations === undefined ? {} : { annotations }) },
    spec: { ...objectAt(source, "spec"), cidr },
  });
}

/** Only the finalizer that waits for its addresses is taken: whoever calls knows that there are none, or that they are another pool's. */
async function deletePool(client: ApiClient, { name }: IpPool): Promise<void> {
  const object = await client.get(API_RESOURCES.IPPool, { name });
  const metadata = objectAt(object, "metadata");
  const finalizers: unknown = metadata?.["finalizers"];
  const others = Array.isArray(finalizers) ? finalizers.filter((finalizer) => finalizer !== POOL_FINALIZER) : [];
  await client.delete(API_RESOURCES.IPPool, { name });
  // Deleted first: no controller puts the finalizer on a pool that is being deleted.
  if (Array.isArray(finalizers) && others.length < finalizers.length)
    await client
      .patch(API_RESOURCES.IPPool, { name }, { metadata: { finalizers: others.length === 0 ? null : others } }, { type: "merge" })
      .catch((error: unknown) => (error instanceof ApiError && error.status === 404 ? undefined : Promise.reject(error)));
}

async function evict(client: ApiClient, { name, namespace }: Pod, what: string): Promise<Step> {
  const path = `/api/v1/namespaces/${namespace}/pods/${name}/eviction`;
  const body = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name, namespace } };
  try {
    await client.requestJson("POST", path, { body });
    return { what, outcome: "done" };
  } catch (error) {
    // 429: a disruption budget does not allow it now. 404: it is gone.
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 404 && !(await exists(client, { name, namespace }))) return { what, outcome: "was done" };
    return { what, outcome: "refused", reason: error.message };
  }
}

/** An API without evictions answers as one without the pod. */
async function exists(client: ApiClient, pod: { readonly name: string; readonly namespace: string }): Promise<boolean> {
  return await client.get(API_RESOURCES.Pod, pod).then(
    () => true,
    (error: unknown) => (error instanceof ApiError && error.status === 404 ? false : Promise.reject(error)),
  );
}

function tellProblems(problems: readonly string[], isJson: boolean): void {
  if (isJson) print(json({ problems }));
  else for (const problem of problems) process.stderr.write(`sedge ipam: ${problem}\n`);
}

function tellSteps(steps: readonly Step[]): void {
  for (const [i, { outcome, reason, what }] of steps.entries()) {
    if (i >= MAX_SHOWN && i < steps.length - 1) continue;
    if (i === steps.length - 1 && steps.length > MAX_SHOWN + 1) print(`    … ${steps.length - MAX_SHOWN - 1} more (-o json has all)`);
    print(`${String(i + 1).padStart(3)} ${outcome.padEnd(8)} ${what}${reason === undefined ? "" : `: ${reason}`}`);
  }
}
