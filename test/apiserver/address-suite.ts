/** Pools and their blocks over an API: conditions, the end of a pool, and every verb of `sedge ipam`. The same on the embedded API and on a real kube-apiserver. */
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { PoolController } from "../../src/controllers/pools.ts";
import { ipamCommand } from "../../src/ctl/ipam.ts";
import { readBlocks } from "../../src/datastore/address-repair.ts";
import { ApiClient } from "../../src/datastore/api-client.ts";
import { ApiError } from "../../src/datastore/api-error.ts";
import { API_RESOURCES, apiVersionOf } from "../../src/datastore/api-resources.ts";
import { type JsonObject, objectAt } from "../../src/datastore/json-object.ts";
import { findConnection } from "../../src/datastore/kubeconfig.ts";
import { AddressWriter } from "../../src/datastore/writer.ts";
import { affinityName, blockName } from "../../src/ipam/block.ts";
import { type NodeName, podKey } from "../../src/model/names.ts";
import type { BlockAllocation, ResourceKind } from "../../src/model/resource.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";

export interface AddressApi extends AsyncDisposable {
  readonly kubeconfig: string;
  readonly hasEviction: boolean;
}

const { signal } = new AbortController();

export function describeAddresses(what: string, start: () => Promise<AddressApi>): void {
  describe(`addresses on ${what}`, () => {
    let api: AddressApi;
    let client: ApiClient;
    let writer: AddressWriter;
    let controller: PoolController;

    beforeAll(async () => {
      api = await start();
      client = new ApiClient({ connection: await findConnection({ file: api.kubeconfig, environment: {} }) });
      writer = new AddressWriter({ client, clock: systemClock });
      controller = new PoolController({ client, clock: systemClock, log: silentLogger(), intervalMs: 1_000, readBlocks: (stop) => readBlocks(client, stop) });
      for (const name of ["n1", "n2"]) await create("Node", { metadata: { name } });
    }, 60_000);

    afterAll(async () => {
      client.close();
      await api[Symbol.asyncDispose]();
    }, 60_000);

    async function create(kind: ResourceKind, object: JsonObject): Promise<void> {
      await client.create(API_RESOURCES[kind], { apiVersion: apiVersionOf(API_RESOURCES[kind]), kind, ...object });
    }

    const makePool = (name: string, cidr: string, spec: JsonObject = {}): Promise<void> =>
      create("IPPool", { metadata: { name }, spec: { cidr, blockSize: 28, ...spec } });

    async function find(name: string): Promise<JsonObject | undefined> {
      return await client.get(API_RESOURCES.IPPool, { name }).catch((error: unknown) => {
        if (error instanceof ApiError && error.status === 404) return undefined;
        throw error;
      });
    }

    /** "reason status" of the condition. */
    async function condition(name: string): Promise<string> {
      const found: unknown = objectAt(await find(name), "status")?.["conditions"];
      const [first] = Array.isArray(found) ? (found as JsonObject[]) : [];
      return `${String(first?.["reason"])} ${String(first?.["status"])}`;
    }

    /** A confirmed block with an address for each of the pods ("namespace/name"), from its first on. */
    async function makeBlock(node: string, cidr: string, pods: readonly string[], more: readonly BlockAllocation[] = []): Promise<void> {
      const block = parseCidr(cidr);
      const owner = node as NodeName;
      const base = { resourceVersion: "", node: owner, cidr: block, isDeleted: false } as const;
      await writer.create<"BlockAffinity">({ kind: "BlockAffinity", name: affinityName(node, block), state: "confirmed", ...base });
      const [head = ""] = cidr.split("/");
      const first = Number(head.slice(head.lastIndexOf(".") + 1));
      const allocations = pods.map((pod, i): BlockAllocation => {
        const [namespace = "", name = ""] = pod.split("/");
        const address = parseIp(`${head.slice(0, head.lastIndexOf("."))}.${first + i}`);
        return { address, handle: `net.${name}`, pod: podKey(namespace, name), node: owner };
      });
      await writer.create<"IPAMBlock">({ kind: "IPAMBlock", name: blockName(block), ...base, allocations: [...allocations, ...more] });
    }

    /** As the node does when the block is empty. */
    async function dropBlock(node: string, cidr: string): Promise<void> {
      const block = parseCidr(cidr);
      await client.delete(API_RESOURCES.IPAMBlock, { name: blockName(block) });
      await client.delete(API_RESOURCES.BlockAffinity, { name: affinityName(node, block) });
    }

    async function makePod(name: string, node: string, ip: string, annotations: JsonObject = {}): Promise<void> {
      await create("Pod", {
        metadata: { name, namespace: "default", annotations },
        spec: { nodeName: node, containers: [{ name: "c", image: "i" }], automountServiceAccountToken: false },
      });
      await client.patch(
        API_RESOURCES.Pod,
        { namespace: "default", name },
        { status: { phase: "Running", podIP: ip, podIPs: [{ ip }] } },
        { type: "merge", subresource: "status" },
      );
    }

    async function ipam(...argv: readonly string[]): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
      const texts = { out: "", err: "" };
      const spies = (["stdout", "stderr"] as const).map((stream) =>
        vi.spyOn(process[stream], "write").mockImplementation((chunk: string | Uint8Array) => {
          texts[stream === "stdout" ? "out" : "err"] += String(chunk);
          return true;
        }),
      );
      try {
        return { code: await ipamCommand([...argv, "--kubeconfig", api.kubeconfig], {}), ...texts };
      } finally {
        for (const spy of spies) spy.mockRestore();
      }
    }

    describe("pools", () => {
      it("condition Allocatable: OK, PoolDisabled, CIDROverlap of the younger until the older is gone", async () => {
        await makePool("c-ok", "10.1.0.0/24");
        await makePool("c-off", "10.2.0.0/24", { disabled: true });
        await controller.pass(signal);
        expect([await condition("c-ok"), await condition("c-off")]).toEqual(["OK True", "PoolDisabled False"]);
        // Names break the tie of one second.
        await makePool("d-over", "10.1.0.0/25");
        await controller.pass(signal);
        expect([await condition("c-ok"), await condition("d-over")]).toEqual(["OK True", "CIDROverlap False"]);
        await client.delete(API_RESOURCES.IPPool, { name: "c-ok" });
        await controller.pass(signal);
        await controller.pass(signal);
        expect([await find("c-ok"), await condition("d-over")]).toEqual([undefined, "OK True"]);
      });

      it("a pass that finds all as it should be writes nothing", async () => {
        await controller.pass(signal);
        const version = async (): Promise<unknown> => objectAt(await find("d-over"), "metadata")?.["resourceVersion"];
        const before = await version();
        await controller.pass(signal);
        expect(await version()).toBe(before);
      });

      it("deleted under running pods: it stays, closed, until its last block is gone", async () => {
        await makePool("e-end", "10.3.0.0/24");
        await makeBlock("n1", "10.3.0.16/28", ["default/x"]);
        await controller.pass(signal);
        await client.delete(API_RESOURCES.IPPool, { name: "e-end" });
        await controller.pass(signal);
        await controller.pass(signal);
        expect(await condition("e-end")).toBe("Terminating False");
        await dropBlock("n1", "10.3.0.16/28");
        await controller.pass(signal);
        expect(await find("e-end")).toBeUndefined();
      });
    });

    describe("sedge ipam", () => {
      it("show: pools, blocks, one address, what is borrowed", async () => {
        await makePool("s-show", "10.4.0.0/24");
        const loan = { id: "l", claim: "c", isAgreed: true };
        await makeBlock(
          "n1",
          "10.4.0.0/28",
          ["default/s1", "default/s2"],
          [{ address: parseIp("10.4.0.9"), handle: "net.b", pod: podKey("default", "b"), node: "n2" as NodeName, loan }],
        );
        expect((await ipam("show")).out).toMatch(/pool s-show +10\.4\.0\.0\/24 +256 +3 +1/);
        expect((await ipam("show", "--show-blocks")).out).toMatch(/block +10\.4\.0\.0\/28 +16 +3 +node n1, 1 borrowed/);
        expect((await ipam("show", "--ip", "10.4.0.1")).out).toBe("10.4.0.1: pod default/s2, node n1, handle net.s2, block 10.4.0.0/28\n");
        expect((await ipam("show", "--ip", "10.4.0.7")).out).toBe("10.4.0.7 is not in use\n");
        expect((await ipam("show", "--show-borrowed")).out).toMatch(/10\.4\.0\.9 +n2 +default\/b +10\.4\.0\.0\/28 +n1 +on loan/);
        expect(JSON.parse((await ipam("show", "--show-borrowed", "-o", "json")).out)).toMatchObject([{ address: "10.4.0.9", node: "n2", owner: "n1" }]);
      });

      it("check finds, doctor --fix frees and finds nothing more, what a person has to judge stays", async () => {
        await makePod("s1", "n1", "10.4.0.0");
        await makePod("b", "n2", "10.4.0.9");
        const found = await ipam("check");
        expect(found.code).toBe(1);
        expect(found.out).toContain("10.4.0.1 (net.s2) belongs to pod default/s2, which does not exist on node n1: can be freed");
        expect(found.out).not.toContain("10.4.0.0 (net.s1)");
        expect((await ipam("doctor")).code).toBe(1);
        const fixed = await ipam("doctor", "--fix");
        expect(fixed.out).toContain("net.s2) belongs to pod default/s2, which does not exist on node n1: freed");
        expect((await ipam("check")).out).toContain("0 problems, 0 left");
        await makePod("lost", "n1", "10.4.0.77");
        const untracked = await ipam("doctor", "--fix", "-o", "json");
        expect([untracked.code, JSON.parse(untracked.out)]).toMatchObject([1, { findings: [{ kind: "untracked", outcome: "look at it" }] }]);
        await client.delete(API_RESOURCES.Pod, { namespace: "default", name: "lost" });
      });

      it("release: only with the handle that has it; what is on loan is its borrower's", async () => {
        expect((await ipam("release", "--ip", "10.4.0.0", "--handle", "net.other")).err).toContain("net.other does not have 10.4.0.0");
        expect((await ipam("release", "--ip", "10.4.0.0")).code).toBe(2);
        expect(await ipam("release", "--ip", "10.4.0.0", "--handle", "net.s1")).toMatchObject({ code: 0 });
        expect(await ipam("release", "--ip", "10.4.0.9", "--handle", "net.b")).toMatchObject({ code: 0 });
        const again = await ipam("release", "--ip", "10.4.0.9", "--handle", "sedge-loan-n2");
        expect([again.code, again.err]).toEqual([1, expect.stringContaining("gives it back itself")]);
      });

      it("migrate: a plan first; then disabled, pods followed until none is left, deleted; each run goes on", async () => {
        await makePool("m-old", "10.5.0.0/24", { natOutgoing: true });
        await makePool("m-new", "10.6.0.0/24");
        await makeBlock("n1", "10.5.0.0/28", ["default/m1", "default/m2"]);
        await makePod("m1", "n1", "10.5.0.0");
        await makePod("m2", "n1", "10.5.0.1", { "cni.projectcalico.org/ipv4pools": '["m-old"]' });
        const plan = await ipam("migrate", "m-old", "m-new");
        expect(plan).toMatchObject({ code: 0, err: "" });
        for (const text of [
          "planned  disable m-old",
          "make again pod default/m1 (node n1, 10.5.0.0)",
          "natOutgoing differs",
          "pod default/m2 asks for m-old by annotation",
          "2 pods, 0 other addresses and 1 blocks of m-old are left; nothing was changed",
        ])
          expect(plan.out).toContain(text);
        expect(objectAt(await find("m-old"), "spec")?.["disabled"]).toBe(false);
        const begun = await ipam("migrate", "m-old", "m-new", "--apply");
        expect([begun.code, begun.out]).toEqual([1, expect.stringContaining("done     disable m-old")]);
        expect(objectAt(await find("m-old"), "spec")?.["disabled"]).toBe(true);
        expect((await ipam("migrate", "m-old", "m-new", "--apply", "--delete")).out).toContain("was done disable m-old");
        expect(await find("m-old")).toBeDefined();
        const evicted = await ipam("migrate", "m-old", "m-new", "--apply", "--evict");
        if (api.hasEviction) expect(evicted.out).toContain("done     evict pod default/m1");
        else expect(evicted.out).toMatch(/refused {2}evict pod default\/m1 .*: .+/);
        for (const name of ["m1", "m2"])
          await client.requestJson("DELETE", `/api/v1/namespaces/default/pods/${name}`, { query: { gracePeriodSeconds: 0 } }).catch(() => undefined);
        await dropBlock("n1", "10.5.0.0/28");
        const done = await ipam("migrate", "m-old", "m-new", "--apply", "--delete", "-o", "json");
        expect([done.code, JSON.parse(done.out)]).toMatchObject([0, { left: { pods: 0, otherAddresses: 0, blocks: 0 } }]);
        expect(await find("m-old")).toBeUndefined();
      });

      it("migrate: what cannot be is said before anything is done", async () => {
        await makePool("w-six", "fd00:7::/112", { blockSize: 122 });
        await makePool("w-small", "10.7.0.0/28");
        await makePool("w-big", "10.8.0.0/24");
        await makeBlock(
          "n1",
          "10.8.0.0/28",
          Array.from({ length: 16 }, (_, i) => `default/w${i}`),
        );
        await makeBlock("n1", "10.8.0.16/28", ["default/w16"]);
        const refusals: readonly (readonly [string, string, string])[] = [
          ["w-big", "w-big", "both are the same pool"],
          ["w-big", "w-six", "of two address families"],
          ["w-big", "c-off", "gives no addresses"],
          ["w-big", "w-small", "w-small has 16 free addresses, w-big has 17 in use"],
        ];
        for (const [from, to, text] of refusals)
          expect(await ipam("migrate", from, to, "--apply")).toMatchObject({ code: 1, err: expect.stringContaining(text) as string });
        await makePool("w-within", "10.8.0.128/25");
        expect((await ipam("migrate", "w-big", "w-within")).err).toContain("overlaps w-big");
        await client.delete(API_RESOURCES.IPPool, { name: "w-within" });
        await controller.pass(signal);
      });

      it("split: parts with the pool's settings take its place under its blocks; a run that broke off goes on", async () => {
        await makePool("a-whole", "10.9.0.0/24", { natOutgoing: true, nodeSelector: "zone == 'x'" });
        await makeBlock("n1", "10.9.0.128/28", ["default/x1"]);
        await controller.pass(signal);
        const plan = await ipam("split", "2", "--name", "a-whole");
        expect([plan.code, plan.out]).toEqual([0, expect.stringContaining("create IPPool split-10-9-0-128-25 (10.9.0.128/25), otherwise as a-whole")]);
        expect(await find("split-10-9-0-0-25")).toBeUndefined();
        // As if it had ended after the first part.
        await makePool("split-10-9-0-0-25", "10.9.0.0/25");
        await controller.pass(signal);
        expect(await condition("split-10-9-0-0-25")).toBe("CIDROverlap False");
        const done = await ipam("split", "2", "--cidr", "10.9.0.0/24", "--apply");
        expect([done.code, done.out]).toEqual([0, expect.stringContaining("was done create IPPool split-10-9-0-0-25")]);
        expect(await find("a-whole")).toBeUndefined();
        expect(objectAt(await find("split-10-9-0-128-25"), "spec")).toMatchObject({
          cidr: "10.9.0.128/25",
          natOutgoing: true,
          nodeSelector: "zone == 'x'",
          blockSize: 28,
        });
        await controller.pass(signal);
        expect([await condition("split-10-9-0-0-25"), await condition("split-10-9-0-128-25")]).toEqual(["OK True", "OK True"]);
        expect((await ipam("split", "64", "--name", "split-10-9-0-0-25")).err).toContain("smaller than a block");
        expect((await ipam("split", "3", "--name", "split-10-9-0-0-25")).err).toContain("3 is not 2, 4, 8");
      });

      it.each<[readonly string[], string]>([
        [["show", "extra"], "unexpected argument extra"],
        [["show", "--fix"], "--fix is for sedge ipam doctor, not for show"],
        [["check", "--ip", "10.0.0.1"], "--ip is for sedge ipam show and release, not for check"],
        [["show", "--ip", "10.0.0.300"], "--ip 10.0.0.300 is not an address"],
        [["migrate", "one"], "migrate takes two pools"],
        [["migrate", "a", "b", "c"], "unexpected argument c"],
        [["migrate", "nowhere", "w-big"], "there is no IPPool nowhere; there are: "],
        [["migrate", "w-big", "w-six", "--evict"], "--evict does something: it needs --apply"],
        [["split", "two", "--name", "w-big"], "split takes the number of parts and one pool"],
        [["split", "2"], "split takes the number of parts and one pool"],
        [["split", "2", "--cidr", "10.8.0.0"], "--cidr 10.8.0.0 is not a prefix"],
        [["split", "2", "--cidr", "192.0.2.0/24"], "there is no IPPool of 192.0.2.0/24"],
      ])("%j → %s", async (argv, text) => {
        await expect(ipam(...argv)).rejects.toThrow(text);
      });

      it("no verb, or one that there is not: the usage", async () => {
        for (const argv of [[], ["defrag"]])
          expect(await ipam(...argv)).toMatchObject({ code: 2, err: expect.stringContaining("usage: sedge ipam show") as string });
        expect(await ipam("--help")).toMatchObject({ code: 0, out: expect.stringContaining("sedge ipam migrate FROM-POOL TO-POOL") as string });
      });
    });
  });
}
