import { describe, expect, it } from "vitest";
import { type NodeName, type PodKey, podKey } from "../../src/model/names.ts";
import { type Policy, type RecordKey, type RecordValue, type RuleSide, recordKey, type Stack } from "../../src/model/record.ts";
import { parseIp } from "../../src/net/ip.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { FakeNft } from "../../test/fakes/fake-nft.ts";
import { NftTransactionError } from "../drivers/nftables/error.ts";
import type { NftOperation, NftTransaction } from "../plan/nft/ruleset.ts";
import type { LocalEndpoint } from "./local-endpoints.ts";
import { type ProgrammedState, Reconciler } from "./reconciler.ts";

const TABLE = { family: "inet", name: "sedge" } as const;
const NOTHING: RuleSide = { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };

/** A kernel that refuses operations for a reason of its own. */
class PickyNft extends FakeNft {
  refuses: (operation: NftOperation) => boolean = () => false;
  /** Refused as a whole, without a word on what it is about. */
  refusesSilently: (operation: NftOperation) => boolean = () => false;
  trials = 0;

  override async apply(transaction: NftTransaction): Promise<void> {
    this.trials += 1;
    if (transaction.operations.some((operation) => this.refusesSilently(operation)))
      throw new NftTransactionError([{ index: -1, operation: undefined, errno: 22, code: "EINVAL", reason: "silent" }]);
    const index = transaction.operations.findIndex((operation) => this.refuses(operation));
    if (index >= 0) throw new NftTransactionError([{ index, operation: transaction.operations[index], errno: 22, code: "EINVAL", reason: "picky" }]);
    await super.apply(transaction);
  }

  async ports(chain: string): Promise<readonly string[]> {
    const rules = this.applied.flatMap(({ operations }) => operations).filter((operation) => operation.kind === "add-rule" && operation.chain === chain);
    const table = await this.readTable(TABLE);
    if (table?.chains.has(chain) !== true) return [];
    return rules.slice(-(table.chains.get(chain)?.rules.length ?? 0)).map((operation) => JSON.stringify(operation));
  }
}

function allow(port: number, name = "p"): Policy {
  return {
    kind: "policy",
    policyKind: "K",
    namespace: "shop",
    name,
    tier: "default",
    egress: [],
    ingress: [{ action: "allow", protocol: 6, source: NOTHING, destination: { ...NOTHING, ports: [{ first: port, last: port }] }, origin: 0 }],
  };
}
const stack = (...policies: readonly string[]): Stack => ({
  kind: "stack",
  id: "x",
  tiers: [{ name: "default", defaultAction: "deny", ingress: policies, egress: [] }],
  noMatchAction: "allow",
});
const POD: RecordValue = { kind: "endpoint", namespace: "shop", pod: "a", uid: "", stack: "stack/x", addresses: [] };
const A: LocalEndpoint = { podKey: podKey("shop", "a"), interfaceName: "calia", addresses: [parseIp("10.0.0.1")], mac: "", containerId: "c1" };

function start(values: readonly RecordValue[], nft = new PickyNft()) {
  const source = {
    records: new Map<RecordKey, RecordValue>(),
    undecodable: new Map<RecordKey, string>(),
    outdated: new Map<RecordKey, string>(),
    revision: 0n,
    epoch: "e",
    isComplete: true,
  };
  const clock = new ManualClock();
  const stop = new AbortController();
  const states: ProgrammedState[] = [];
  let failures = 0;
  const reconciler = new Reconciler({
    nft,
    rtnetlink: undefined,
    source,
    settings: { nodeName: "n1", interfacePrefix: "cali" },
    clock,
    log: silentLogger(),
    observer: { applied: () => undefined, failed: () => failures++, repaired: () => undefined, programmed: () => undefined, podProtected: () => undefined },
    onProgrammed: (state) => states.push(state),
    checkIntervalMs: 60_000,
  });
  const set = (next: readonly RecordValue[]): void => {
    source.records = new Map(next.map((value) => [recordKey(value), value]));
    source.revision++;
    reconciler.viewChanged({ committedAtUnixUs: 0n, receivedAt: 0 });
  };
  set(values);
  const running = reconciler.run(stop.signal);
  return {
    reconciler,
    nft,
    source,
    clock,
    set,
    failures: () => failures,
    state: () => states.at(-1),
    /** All that waits for nothing but promises has run. */
    settle: async () => {
      for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
    },
    end: async () => {
      stop.abort();
      await running;
    },
  };
}

describe("Reconciler", () => {
  it("before the pods of the last run are known: without a table one that drops everything of ours, with one nothing", async () => {
    const agent = start([stack(), POD]);
    await agent.settle();
    expect([agent.nft.applied.length, (await agent.nft.readTable(TABLE))?.sets.get("interfaces")?.elements, agent.state()]).toEqual([1, [], undefined]);
    agent.reconciler.endpoints.restore([A]);
    await agent.settle();
    expect([agent.nft.applied.length, agent.state()?.revision, agent.state()?.failures]).toEqual([2, 1n, []]);
    await agent.end();
    const second = start([stack(), POD], agent.nft);
    await second.settle();
    expect(agent.nft.applied.length).toBe(2);
    await second.end();
  });

  it("settings that the cluster states come and go with their record, in one transaction each", async () => {
    const agent = start([stack("policy/K/shop/p"), allow(1), POD]);
    agent.reconciler.endpoints.restore([A]);
    await agent.settle();
    const isClosed = async (): Promise<boolean> => (await agent.nft.ports("pod-to-host")).some((rule) => rule.includes("pods do not reach their host"));
    expect(await isClosed()).toBe(false);
    const stated: RecordValue = { kind: "node-settings", node: "n1" as NodeName, endpointToHostAction: "drop", denyAction: "reject" };
    const before = agent.nft.applied.length;
    agent.set([stack("policy/K/shop/p"), allow(1), POD, stated]);
    await agent.settle();
    expect([await isClosed(), agent.state()?.revision, agent.state()?.failures]).toEqual([true, 2n, []]);
    expect((await agent.nft.readTable(TABLE))?.chains.has("stack/x/ingress/rejecting")).toBe(true);
    agent.set([stack("policy/K/shop/p"), allow(1), POD]);
    await agent.settle();
    expect([await isClosed(), agent.state()?.revision]).toEqual([false, 3n]);
    expect((await agent.nft.readTable(TABLE))?.chains.has("stack/x/ingress/rejecting")).toBe(false);
    expect(agent.nft.applied.length - before).toBeLessThanOrEqual(4);
    await agent.end();
  });

  it("a policy that the kernel refuses → its last good rules stay, the rest goes in, reported; a new value has a new chance", async () => {
    const agent = start([stack("policy/K/shop/p"), allow(1), POD]);
    agent.reconciler.endpoints.restore([A]);
    await agent.settle();
    agent.nft.refuses = (operation) => JSON.stringify(operation).includes('"2"');
    agent.set([stack("policy/K/shop/p", "policy/K/shop/q"), allow(2), allow(7, "q"), POD]);
    await agent.settle();
    expect(await agent.nft.ports("policy/K/shop/p/ingress")).toEqual([expect.stringContaining('"1"')]);
    expect(await agent.nft.ports("policy/K/shop/q/ingress")).toEqual([expect.stringContaining('"7"')]);
    expect(agent.state()).toMatchObject({ revision: 2n, failures: [{ key: "policy/K/shop/p", reason: expect.stringContaining("EINVAL") as string }] });
    agent.set([stack("policy/K/shop/p"), allow(3), POD]);
    await agent.settle();
    expect(await agent.nft.ports("policy/K/shop/p/ingress")).toEqual([expect.stringContaining('"3"')]);
    expect(agent.state()).toMatchObject({ revision: 3n, failures: [] });
    await agent.end();
  });

  it("what others have changed is told with the record whose it is, and not repaired for having been asked", async () => {
    const agent = start([stack("policy/K/shop/p"), allow(1), POD]);
    expect(await agent.reconciler.kernelDrift()).toBeUndefined();
    agent.reconciler.endpoints.restore([A]);
    await agent.settle();
    await agent.end();
    expect(await agent.reconciler.kernelDrift()).toEqual([]);
    const chain = "policy/K/shop/p/ingress";
    await agent.nft.apply({ operations: [{ kind: "flush-chain", table: TABLE, chain }] });
    const told = [{ what: `chain ${chain}: other rules`, record: "policy/K/shop/p" }];
    expect(await agent.reconciler.kernelDrift()).toEqual(told);
    expect(await agent.reconciler.kernelDrift()).toEqual(told);
    await agent.nft.apply({ operations: [{ kind: "delete-table", table: TABLE }] });
    expect(await agent.reconciler.kernelDrift()).toEqual([{ what: "the table is missing" }]);
  });

  it("the kernel refuses a transaction and does not say for what → found by halves among hundreds, named, the rest goes in", async () => {
    const nft = new PickyNft();
    nft.refusesSilently = (operation) => JSON.stringify(operation).includes('"666"');
    const names = Array.from({ length: 600 }, (_, i) => `p${i}`);
    const agent = start([stack(...names.map((name) => `policy/K/shop/${name}`)), ...names.map((name, i) => allow(i === 123 ? 666 : 7, name)), POD], nft);
    agent.reconciler.endpoints.restore([A]);
    for (let i = 0; i < 40; i++) await agent.settle();
    expect(agent.state()?.failures).toEqual([
      expect.objectContaining({ key: "policy/K/shop/p123", reason: expect.stringContaining("refuses all transactions with it") as string }),
    ]);
    expect(await nft.ports("policy/K/shop/p124/ingress")).toEqual([expect.stringContaining('"7"')]);
    // The first table, the whole, the search, and the whole without it.
    expect(nft.trials).toBeLessThan(2 + 1 + Math.ceil(Math.log2(601)) + 2);
    await agent.end();
  }, 30_000);

  it("host endpoints that the kernel refuses do not keep the pods' policy out", async () => {
    const nft = new PickyNft();
    nft.refusesSilently = (operation) => JSON.stringify(operation).includes("host-input");
    const host: RecordValue = {
      kind: "host",
      name: "n1",
      interfaceName: "eth0",
      addresses: [],
      stack: "stack/x",
      forwardStack: "",
      preDnatStack: "",
      untrackedStack: "",
    };
    const agent = start([stack("policy/K/shop/p"), allow(1), POD, host], nft);
    agent.reconciler.endpoints.restore([A]);
    await agent.settle();
    await agent.settle();
    expect(agent.state()?.failures.map(({ key }) => key)).toEqual(["host"]);
    expect(await nft.ports("policy/K/shop/p/ingress")).toEqual([expect.stringContaining('"1"')]);
    await agent.end();
  });

  it("a policy that is refused and was never good → a drop in its place", async () => {
    const nft = new PickyNft();
    nft.refuses = (operation) => JSON.stringify(operation).includes('"2"');
    const agent = start([stack("policy/K/shop/p"), allow(2), POD], nft);
    agent.reconciler.endpoints.restore([A]);
    await agent.settle();
    const stackRules = await agent.nft.ports("stack/x/ingress");
    expect(stackRules[0]).toContain('"drop"');
    expect(agent.state()?.failures.map(({ key }) => key)).toContain("policy/K/shop/p");
    await agent.end();
  });

  it("a kernel that refuses everything → nothing is called programmed, tried again with back-off until it takes it", async () => {
    const nft = new PickyNft();
    nft.refuses = ({ kind }) => kind === "add-table";
    const agent = start([stack(), POD], nft);
    agent.reconciler.endpoints.restore([A]);
    await agent.settle();
    await agent.clock.advance(1_000);
    await agent.settle();
    expect([agent.state(), agent.failures() > 1, agent.reconciler.lastError]).toEqual([undefined, true, expect.stringContaining("EINVAL")]);
    nft.refuses = () => false;
    await agent.clock.advance(10_000);
    await agent.settle();
    expect([agent.state()?.revision, agent.reconciler.lastError]).toEqual([1n, undefined]);
    await agent.end();
  });

  it("upsert: resolves with the policy in the kernel; without a record it waits its time and says so; then opens by itself", async () => {
    const agent = start([stack()]);
    agent.reconciler.endpoints.restore([]);
    await agent.settle();
    const results: (readonly [PodKey, boolean])[] = [];
    void agent.reconciler.endpoints.upsert(A, { waitForPolicyMs: 500 }).then(({ hasPolicy }) => results.push([A.podKey, hasPolicy]));
    await agent.settle();
    const verdicts = async (): Promise<unknown> => (await agent.nft.readTable(TABLE))?.sets.get("to-endpoint")?.elements.map(({ key, data }) => [key, data]);
    expect([results, await verdicts()]).toEqual([[], [["calia", { kind: "drop" }]]]);
    await agent.clock.advance(600);
    await agent.settle();
    expect(results).toEqual([[A.podKey, false]]);
    agent.set([stack(), POD]);
    await agent.settle();
    expect(await verdicts()).toEqual([["calia", { kind: "goto", chain: "stack/x/ingress" }]]);
    expect(await agent.reconciler.endpoints.upsert(A)).toEqual({ hasPolicy: true });
    await agent.end();
  });

  it("remove: of an older sandbox changes nothing; of the present one takes it out; an upsert that is given up rejects", async () => {
    const agent = start([stack(), POD]);
    agent.reconciler.endpoints.restore([A]);
    await agent.settle();
    await agent.reconciler.endpoints.remove(A.podKey, "older");
    expect(agent.reconciler.endpoints.list()).toEqual([A]);
    await agent.reconciler.endpoints.remove(A.podKey, "c1");
    expect((await agent.nft.readTable(TABLE))?.sets.get("interfaces")?.elements).toEqual([]);
    const stop = new AbortController();
    const waiting = agent.reconciler.endpoints.upsert(
      { ...A, podKey: podKey("shop", "z"), interfaceName: "caliz" },
      { waitForPolicyMs: 10_000, signal: stop.signal },
    );
    stop.abort();
    await expect(waiting).rejects.toThrow(/shop\/z/);
    await agent.end();
  });

  it("an empty view that was never complete does not touch a table that is there", async () => {
    const first = start([stack("policy/K/shop/p"), allow(1), POD]);
    first.reconciler.endpoints.restore([A]);
    await first.settle();
    await first.end();
    const before = first.nft.applied.length;
    const second = start([], first.nft);
    second.source.isComplete = false;
    second.reconciler.endpoints.restore([]);
    await second.settle();
    expect([first.nft.applied.length, second.state()]).toEqual([before, undefined]);
    second.source.isComplete = true;
    second.set([stack()]);
    await second.settle();
    expect((await first.nft.readTable(TABLE))?.chains.has("policy/K/shop/p/ingress")).toBe(false);
    await second.end();
  });

  it("a set of prefixes between the limits → a start without memory leaves it in the form that it has", async () => {
    const denied: Policy = { ...allow(80), ingress: [{ action: "deny", protocol: 0, source: { ...NOTHING, sets: ["n:s"] }, destination: NOTHING, origin: 0 }] };
    const view = (count: number): readonly RecordValue[] => [
      stack("policy/K/shop/p"),
      denied,
      POD,
      { kind: "set", id: "n:s", shard: "n", type: "prefix", members: Array.from({ length: count }, (_, i) => `10.${i >> 8}.${i & 255}.0/24`) },
    ];
    for (const first of [2_100, 1_000]) {
      const agent = start(view(first));
      agent.reconciler.endpoints.restore([A]);
      await agent.settle();
      agent.set(view(1_500));
      await agent.settle();
      await agent.end();
      const applied = agent.nft.applied.length;
      const names = [...((await agent.nft.readTable(TABLE))?.sets.keys() ?? [])].filter((name) => name.startsWith("nets/n.s/v4"));
      expect(names).toEqual([first === 2_100 ? "nets/n.s/v4/24" : "nets/n.s/v4"]);
      const second = start(view(1_500), agent.nft);
      second.reconciler.endpoints.restore([A]);
      await second.settle();
      expect([second.state()?.failures, agent.nft.applied.length]).toEqual([[], applied]);
      await second.end();
    }
  });
});
