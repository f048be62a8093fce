import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AddressRepair, readAddresses } from "../datastore/address-repair.ts";
import { ApiClient } from "../datastore/api-client.ts";
import { API_RESOURCES } from "../datastore/api-resources.ts";
import { fixedConnection } from "../datastore/connection.ts";
import { type EmbeddedApi, startEmbeddedApi } from "../datastore/embedded/start.ts";
import type { JsonObject } from "../datastore/json-object.ts";
import { findConnection } from "../datastore/kubeconfig.ts";
import { Leader } from "../datastore/lease.ts";
import { AddressWriter } from "../datastore/writer.ts";
import { affinityName, blockName } from "../ipam/block.ts";
import { type NodeName, podKey } from "../model/names.ts";
import type { ResourceKind } from "../model/resource.ts";
import { parseCidr } from "../net/cidr.ts";
import { parseIp } from "../net/ip.ts";
import { ManualClock, systemClock } from "../runtime/clock.ts";
import { silentLogger } from "../runtime/log.ts";
import { Collector } from "./collector.ts";

const GRACE_MS = 1_000;
let api: EmbeddedApi;
let directory: string;
let client: ApiClient;
let writer: AddressWriter;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sedge-collector-"));
  api = await startEmbeddedApi({ dataDir: directory });
  const file = join(directory, "kubeconfig");
  await writeFile(file, api.kubeconfig);
  client = new ApiClient({ connection: await findConnection({ file, environment: {} }) });
  writer = new AddressWriter({ client, clock: systemClock });
  await create("IPPool", { metadata: { name: "p" }, spec: { cidr: "10.65.0.0/16" } });
});

afterAll(async () => {
  client.close();
  await api.close();
  await rm(directory, { recursive: true, force: true });
});

async function create(kind: ResourceKind, object: JsonObject): Promise<void> {
  const { group, version } = API_RESOURCES[kind];
  await client.create(API_RESOURCES[kind], { apiVersion: group === "" ? version : `${group}/${version}`, kind, ...object });
}

async function makePod(name: string, node: string): Promise<void> {
  await create("Pod", { metadata: { name, namespace: "default" }, spec: { nodeName: node, containers: [{ name: "c", image: "i" }] } });
}

/** A confirmed block of the node, with an address for each of the pods. */
async function makeBlock(node: string, cidr: string, pods: readonly string[]): Promise<void> {
  const block = parseCidr(cidr);
  const owner = node as NodeName;
  const base = { resourceVersion: "", node: owner, cidr: block, isDeleted: false } as const;
  await writer.create<"BlockAffinity">({ kind: "BlockAffinity", name: affinityName(node, block), state: "confirmed", ...base });
  await writer.create<"IPAMBlock">({
    kind: "IPAMBlock",
    name: blockName(block),
    ...base,
    allocations: pods.map((pod, i) => ({
      address: parseIp(`${cidr.slice(0, cidr.lastIndexOf("."))}.${i + 1}`),
      handle: `net.${pod}`,
      pod: podKey("default", pod),
      node: owner,
    })),
  });
}

function collector(clock: ManualClock, maxRepairs = 100): Collector {
  return new Collector({
    read: (signal) => readAddresses(client, signal),
    repair: new AddressRepair({ client, writer }),
    clock,
    log: silentLogger(),
    intervalMs: 1,
    leakGraceMs: GRACE_MS,
    nodeGraceMs: GRACE_MS,
    maxRepairs,
    isDryRun: false,
  });
}

const used = async (): Promise<readonly string[]> =>
  (await readAddresses(client)).blocks.flatMap(({ allocations }) => allocations.map(({ address }) => address)).sort();
const { signal } = new AbortController();

describe("collector", () => {
  it("frees what pods and nodes that are gone had, after the grace period, and never a live pod's", async () => {
    await create("Node", { metadata: { name: "n1" } });
    await create("Node", { metadata: { name: "n2" } });
    await makePod("live", "n1");
    await makePod("unreported", "n1");
    await makeBlock("n1", "10.65.1.0/26", ["live", "unreported", "gone"]);
    await makeBlock("n2", "10.65.2.0/26", ["was-on-n2"]);
    await client.delete(API_RESOURCES.Node, { name: "n2" });
    const clock = new ManualClock();
    const collecting = collector(clock);
    expect(await collecting.pass(signal)).toMatchObject({ freed: 0, kept: 0 });
    await clock.advance(GRACE_MS);
    expect(await collecting.pass(signal)).toMatchObject({ freed: 2, failed: 0 });
    expect(await used()).toEqual(["10.65.1.1", "10.65.1.2"]);
    // The block of the node that is gone is empty now: it goes with its affinity.
    await collecting.pass(signal);
    await clock.advance(GRACE_MS);
    await collecting.pass(signal);
    const { blocks, affinities } = await readAddresses(client);
    expect([blocks.map(({ cidr }) => cidr), affinities.map(({ cidr }) => cidr)]).toEqual([["10.65.1.0/26"], ["10.65.1.0/26"]]);
  });

  it("a pod that appears between the reading and the repair keeps its address", async () => {
    await makeBlock("n1", "10.65.3.0/26", ["late"]);
    const clock = new ManualClock();
    const collecting = new Collector({
      read: (stop) => readAddresses(client, stop),
      repair: {
        repair: async (finding) => {
          await makePod("late", "n1");
          return new AddressRepair({ client, writer }).repair(finding);
        },
      },
      clock,
      log: silentLogger(),
      intervalMs: 1,
      leakGraceMs: GRACE_MS,
      nodeGraceMs: GRACE_MS,
      maxRepairs: 1,
      isDryRun: false,
    });
    await collecting.pass(signal);
    await clock.advance(GRACE_MS);
    expect(await collecting.pass(signal)).toMatchObject({ freed: 0, kept: 1 });
    expect(await used()).toContain("10.65.3.1");
  });

  it("a borrowed address stays on loan while its borrower exists, whoever's pod is gone; with the borrower it is free, and so is a question to a node that is gone", async () => {
    await create("Node", { metadata: { name: "b1" } });
    await create("Node", { metadata: { name: "b2" } });
    const cidr = parseCidr("10.65.9.0/26");
    const name = blockName(cidr);
    const pod = podKey("default", "borrowers-pod");
    const [lender, borrower] = ["b1" as NodeName, "b2" as NodeName];
    const loan = { id: "l", claim: "c", isAgreed: true };
    await writer.create<"BlockAffinity">({
      kind: "BlockAffinity",
      name: affinityName(lender, cidr),
      resourceVersion: "",
      node: lender,
      cidr,
      state: "confirmed",
      isDeleted: false,
    });
    await writer.create<"IPAMBlock">({
      kind: "IPAMBlock",
      name,
      resourceVersion: "",
      node: lender,
      cidr,
      isDeleted: false,
      allocations: [
        { address: parseIp("10.65.9.7"), handle: "net.x", pod, node: borrower, loan },
        { address: parseIp("10.65.9.8"), handle: "h", pod: undefined, node: borrower, loan: { ...loan, isAgreed: false } },
      ],
    });
    const clock = new ManualClock();
    const collecting = collector(clock);
    const collect = async (): Promise<readonly object[]> => {
      await collecting.pass(signal);
      await clock.advance(GRACE_MS);
      await collecting.pass(signal);
      const { blocks } = await readAddresses(client);
      return (blocks.find((block) => block.name === name)?.allocations ?? []).map(({ address, handle, pod: owner, loan: lent }) => [
        address,
        handle,
        owner,
        lent?.isAgreed,
      ]);
    };
    const question = ["10.65.9.8", "h", undefined, false];
    expect(await collect()).toEqual([["10.65.9.7", "sedge-loan-b2", undefined, true], question]);
    expect(await new AddressRepair({ client, writer }).release(name, parseIp("10.65.9.7"), "sedge-loan-b2")).toMatchObject({
      kind: "kept",
      reason: expect.stringContaining("gives it back itself") as string,
    });
    await client.delete(API_RESOURCES.Node, { name: "b1" });
    expect(await collect()).toEqual([["10.65.9.7", "sedge-loan-b2", undefined, true]]);
    await client.delete(API_RESOURCES.Node, { name: "b2" });
    expect(await collect()).toEqual([]);
  });

  it("an affinity that a release left behind is taken away", async () => {
    await create("Node", { metadata: { name: "b3" } });
    const [cidr, node] = [parseCidr("10.65.10.0/26"), "b3" as NodeName];
    const name = affinityName(node, cidr);
    await writer.create<"BlockAffinity">({ kind: "BlockAffinity", name, resourceVersion: "", node, cidr, state: "pendingDeletion", isDeleted: false });
    const clock = new ManualClock();
    const collecting = collector(clock);
    await collecting.pass(signal);
    await clock.advance(GRACE_MS);
    await collecting.pass(signal);
    expect((await readAddresses(client)).affinities.map((affinity) => affinity.name)).not.toContain(name);
  });

  it("an address that was given again since the finding is not freed", async () => {
    const repair = new AddressRepair({ client, writer });
    expect(await repair.release(blockName(parseCidr("10.65.3.0/26")), parseIp("10.65.3.1"), "net.older")).toMatchObject({ kind: "kept" });
  });

  it("an API that cannot be read frees nothing", async () => {
    const dead = new ApiClient({ connection: fixedConnection("http://127.0.0.1:1"), timeoutMs: 500 });
    await expect(readAddresses(dead)).rejects.toThrow("127.0.0.1:1");
  });
});

describe("leader", () => {
  it("one of two works; the other follows when it stops", async () => {
    const working = new Set<string>();
    const overlaps: string[] = [];
    const stops: Record<string, AbortController> = { a: new AbortController(), b: new AbortController() };
    let announce: (name: string) => void = () => undefined;
    const started = (name: string): Promise<void> => new Promise((resolve) => (announce = (who) => who === name && resolve()));
    const run = (name: string): Promise<void> =>
      new Leader({
        client,
        clock: systemClock,
        log: silentLogger(),
        namespace: "kube-system",
        name: "test",
        identity: name,
        leaseMs: 600,
        work: async (stop) => {
          if (working.size > 0) overlaps.push(name);
          working.add(name);
          announce(name);
          await systemClock.sleep(60_000, stop);
          working.delete(name);
        },
      }).run(stops[name]?.signal ?? signal);
    const first = started("a");
    const a = run("a");
    await first;
    const second = started("b");
    const b = run("b");
    stops["a"]?.abort();
    await a;
    await second;
    stops["b"]?.abort();
    await b;
    expect(overlaps).toEqual([]);
  });
});
