import { describe, expect, it } from "vitest";
import type { ReplicaReport } from "../../src/wire/gen/sedge/sync/v1/introspection.ts";
import { CLUSTER_CONDITIONS, clusterStatus } from "./cluster-status.ts";
import { ClusterStatusPacer, type DatedStatus } from "./cluster-status-pace.ts";
import type { TierReport } from "./tier.ts";

const NOW = Date.UTC(2030, 0, 10);
const DAY = 86_400_000;

function report(fields: Partial<ReplicaReport> & { readonly stale?: boolean; readonly syncStatus?: string } = {}): ReplicaReport {
  const { stale = false, syncStatus = "in-sync", ...rest } = fields;
  const status = { server: "", version: "", epoch: "", clusterUid: "", revision: 1n, syncStatus, upstreamAgeMs: 0n, stale, clients: 0, clientsLevel: 0 };
  return {
    status: { ...status, recordsByKind: {}, invalid: [], unused: [], uptimeMs: 0n },
    nodes: [],
    behind: [],
    behindCount: 0,
    unenforced: [],
    certificates: [],
    draining: false,
    load: 0.25,
    clusterNodes: 4,
    ...rest,
  };
}
const tier = (replicas: Readonly<Record<string, ReplicaReport>>, rest: Partial<TierReport> = {}): TierReport => ({
  heard: Object.entries(replicas).map(([name, one], i) => ({ name, identity: `10.0.0.${i + 1}:5473`, isSelf: i === 0, report: one })),
  unheard: [],
  unready: [],
  ...rest,
});
const judge = (report_: TierReport, nodes = ["n1", "n2", "n3", "n4"]) => clusterStatus({ tier: report_, nodes, now: NOW });
const statuses = (one: ReturnType<typeof judge>): Readonly<Record<string, string>> =>
  Object.fromEntries(one.conditions.map(({ type, status, reason }) => [type, `${status} ${reason}`]));
const messageOf = (one: ReturnType<typeof judge>, type: string): string => one.conditions.find((condition) => condition.type === type)?.message ?? "";

describe("clusterStatus", () => {
  it("all is well: every condition true, counts of the whole tier", () => {
    const well = judge(tier({ a: report({ nodes: ["n1", "n2"] }), b: report({ nodes: ["n3", "n4"] }) }));
    expect(well.conditions.map(({ type, status }) => [type, status])).toEqual(CLUSTER_CONDITIONS.map((type) => [type, "True"]));
    expect(well).toMatchObject({
      servers: "2/2",
      nodes: "4/4",
      programmed: "4/4",
      replicas: [{ name: "a", state: "in-sync", nodes: 2, loadPercent: 25 }, { name: "b" }],
    });
  });

  it("nodes away, behind, policies not in force, certificates: each in its condition with names, and Ready stays", () => {
    const one = judge(
      tier({
        a: report({
          nodes: ["n1", "n2"],
          behind: [{ node: "n2", lagMs: 9_000n, reason: "2 records are not sent: it does not read" }],
          behindCount: 1,
          unenforced: [{ key: "policy/KubernetesNetworkPolicy/shop/web", nodes: 1, node: "n2", reason: "not sent" }],
        }),
        b: report({
          nodes: ["n3"],
          unenforced: [{ key: "policy/KubernetesNetworkPolicy/shop/web", nodes: 2, node: "n3", reason: "refused" }],
          certificates: [{ holder: "node n3", endsAtUnixMs: BigInt(NOW + DAY) }],
        }),
      }),
    );
    expect(statuses(one)).toEqual({
      Ready: "True Serving",
      ServersReady: "True AllReady",
      DataFresh: "True Fresh",
      NodesConnected: "False NodesMissing",
      NodesProgrammed: "False NodesBehind",
      PoliciesInForce: "False NotInForce",
      CertificatesValid: "False NearEnd",
    });
    expect(messageOf(one, "NodesConnected")).toBe("1 node has no server: n4");
    expect(messageOf(one, "PoliciesInForce")).toBe("1 policy is not in force everywhere: KubernetesNetworkPolicy/shop/web on 3 nodes (n2: not sent)");
    expect(messageOf(one, "CertificatesValid")).toContain("node n3 (2030-01-11T00:00Z)");
    expect([one.nodes, one.programmed]).toEqual(["3/4", "2/3"]);
  });

  it.each([
    ["no server is in sync", tier({ a: report({ syncStatus: "wait-for-datastore", nodes: ["n1", "n2", "n3", "n4"] }) }), "no server is ready"],
    ["the API is not heard", tier({ a: report({ stale: true, nodes: ["n1", "n2", "n3", "n4"] }) }), "nothing heard of the Kubernetes API"],
    ["most nodes are away", tier({ a: report({ nodes: ["n1"] }) }), "3 nodes have no server"],
    [
      "a certificate has expired",
      tier({ a: report({ nodes: ["n1", "n2", "n3", "n4"], certificates: [{ holder: "server a", endsAtUnixMs: BigInt(NOW - 1) }] }) }),
      "server a",
    ],
  ])("%s → not Ready, with the reason", (_, given, text) => {
    const one = judge(given);
    expect(statuses(one)["Ready"]).toBe("False NotServing");
    expect(messageOf(one, "Ready")).toContain(text);
  });

  it("a server that does not answer: its nodes may be well, so Unknown, and nobody is woken for them", () => {
    const one = judge(tier({ a: report({ nodes: ["n1"] }) }, { unheard: ["b"] }));
    expect(statuses(one)).toMatchObject({ Ready: "True Serving", ServersReady: "False ServersMissing", NodesConnected: "Unknown ServersUnheard" });
    expect(one).toMatchObject({ servers: "1/2", replicas: [{ name: "a" }, { name: "b", state: "no answer" }] });
  });

  it("ten thousand nodes away: a handful is named, the object stays small", () => {
    const nodes = Array.from({ length: 10_000 }, (_, i) => `node-${String(i).padStart(5, "0")}`);
    const behind = nodes.slice(0, 1_000).map((node) => ({ node, lagMs: 1n, reason: "x".repeat(300) }));
    const one = judge(tier({ a: report({ nodes: nodes.slice(0, 1_000), behind, behindCount: 1_000 }) }), nodes);
    expect(messageOf(one, "NodesConnected")).toContain("node-01000, node-01001, node-01002, node-01003, node-01004 and 8995 more");
    expect(JSON.stringify(one).length).toBeLessThan(6_000);
  });
});

describe("ClusterStatusPacer", () => {
  const good = judge(tier({ a: report({ nodes: ["n1", "n2", "n3", "n4"] }) }));
  const bad = judge(tier({ a: report({ nodes: ["n1", "n2", "n3"] }) }));
  const other = judge(tier({ a: report({ nodes: ["n1", "n2", "n3", "n4", "n5"] }) }), ["n1", "n2", "n3", "n4", "n5"]);
  const at = (ms: number): string => new Date(ms).toISOString();

  function started(): { pacer: ClusterStatusPacer; due(status: typeof good, now: number): DatedStatus | undefined } {
    const pacer = new ClusterStatusPacer();
    const due = (status: typeof good, now: number): DatedStatus | undefined => {
      const next = pacer.due(status, now, at(now));
      if (next !== undefined) pacer.written(next, now);
      return next;
    };
    expect(due(good, 0)?.summary).toBe("all is well");
    return { pacer, due };
  }
  const connectedOf = (status: DatedStatus | undefined): unknown => status?.conditions.find(({ type }) => type === "NodesConnected");

  it("bad news is written when it has lasted 15 s, good news after 5 s, each with its time", () => {
    const { due } = started();
    expect([1, 5, 10, 15].map((s) => due(bad, s * 1_000))).toEqual([undefined, undefined, undefined, undefined]);
    expect(connectedOf(due(bad, 16_001))).toMatchObject({ status: "False", lastTransitionTime: at(16_001) });
    expect(due(good, 20_000)).toBeUndefined();
    const back = due(good, 25_001);
    expect(connectedOf(back)).toMatchObject({ status: "True", lastTransitionTime: at(25_001) });
    expect(back?.summary).toBe("all is well");
  });

  it("what flaps faster is never written", () => {
    const { due } = started();
    let writes = 0;
    // Only counts go out, once a minute.
    for (let s = 1; s <= 300; s++) if (due(s % 20 < 10 ? bad : good, s * 1_000) !== undefined) writes++;
    expect(writes).toBeLessThanOrEqual(5);
  });

  it("counts alone are written once a minute; nothing that is the same is written", () => {
    const { due } = started();
    expect(due(good, 120_000)).toBeUndefined();
    expect(due(other, 30_000)).toBeUndefined();
    expect(due(other, 60_001)).toMatchObject({ nodes: "5/5" });
  });

  it("a new leader keeps the times of what it finds", () => {
    const { pacer } = started();
    const first = pacer.due(bad, 1, at(1)) ?? { ...good, conditions: good.conditions.map((one) => ({ ...one, lastTransitionTime: at(0) })), summary: "" };
    const next = new ClusterStatusPacer();
    next.written(first, 0);
    expect(next.due(other, 70_000, at(70_000))?.conditions.map(({ lastTransitionTime }) => lastTransitionTime)).toEqual(first.conditions.map(() => at(0)));
  });
});
