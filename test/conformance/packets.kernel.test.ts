/** Policies by real packets: the table of cases, the matrix, random ones, and what surrounds policy: hosts, forged sources, errors, fragments, open connections. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseIp } from "../../src/net/ip.ts";
import { Connection } from "../kernel/connection.ts";
import { canUseNetns } from "../kernel/netns.ts";
import type { PacketProbe, PlaceSpec, SctpOddity } from "../kernel/packets.ts";
import { policy, policyManifest, probesOf } from "./cases/case.ts";
import { PORT_AND_BLOCK_CASES } from "./cases/ports-and-blocks.ts";
import { SELECTOR_CASES } from "./cases/selectors.ts";
import { PODS } from "./cases/world.ts";
import type { NaivePolicy } from "./naive-network-policy.ts";
import { PacketCluster } from "./packet-cluster.ts";
import { judge, packetProbes, shrink } from "./packet-judge.ts";
import { allProbes, caseWorld } from "./packet-world.ts";
import { matrixProbes, policyMatrix } from "./policy-matrix.ts";
import { randomProbes, randomWorld } from "./random-policies.ts";

const CASES = [...SELECTOR_CASES, ...PORT_AND_BLOCK_CASES];
/** Each case of the matrix makes one in so many of its probes, the next case others. */
const MATRIX_SHARE = 3;
const RANDOM_SETS = 60;
const PROBES_PER_SET = 600;

const CLOSED = ["x", "y", "z"].map((namespace) => policy({ podSelector: {}, policyTypes: ["Ingress", "Egress"] }, { namespace }));
const CLOSED_INGRESS = ["x", "y", "z"].map((namespace) => policy({ podSelector: {} }, { namespace }));

describe.skipIf(!canUseNetns())("NetworkPolicy by packets", () => {
  let cluster: PacketCluster;
  beforeAll(async () => {
    cluster = await PacketCluster.create("sedge-pk", caseWorld([]));
  });
  afterAll(async () => {
    await cluster[Symbol.asyncDispose]();
  });

  const use = (policies: readonly NaivePolicy[]): Promise<void> => cluster.apply(caseWorld(policies));
  const verdicts = (probes: readonly PacketProbe[]): string[] => cluster.prober.probe(probes).map(({ verdict, detail }) => `${verdict} ${detail}`.trim());
  const place = (name: string): PlaceSpec => {
    const found = cluster.places.get(name);
    if (found === undefined) throw new RangeError(`no place ${name}`);
    return found;
  };

  it.each(CASES.map((given) => [given.name, given] as const))("%s", async (_name, given) => {
    await use(given.policies);
    const probes = packetProbes(probesOf(given));
    const outcomes = verdicts(probes);
    const silent = probes.filter((_, i) => outcomes[i] === "deny");
    cluster.prober.settle();
    expect(cluster.prober.late.filter((probe) => silent.includes(probe))).toEqual([]);
    expect(probesOf(given).map(({ text }, i) => `${text}: ${outcomes[i]}`)).toEqual(probesOf(given).map(({ text, verdict }) => `${text}: ${verdict}`));
  });

  it("all pairs, without policies and with everything closed: passes, and silence except for a node and its own pods", async () => {
    const probes = allProbes(caseWorld([]));
    expect(await judge(cluster, caseWorld([]), probes)).toEqual([]);
    expect(await judge(cluster, caseWorld(CLOSED), probes)).toEqual([]);
    const outcomes = verdicts(probes);
    const open = probes.filter((_, i) => outcomes[i] !== "deny");
    expect(new Set(open.map(({ from, to }) => `${from} > ${to}`))).toEqual(new Set(PODS.map(({ namespace, name, node }) => `${node} > ${namespace}/${name}`)));
  });

  it("the matrix of peers, ports, types and pairs", async () => {
    const probes = matrixProbes();
    for (const [index, { name, policies }] of policyMatrix().entries()) {
      const mismatches = await judge(
        cluster,
        caseWorld(policies),
        probes.filter((_, i) => i % MATRIX_SHARE === index % MATRIX_SHARE),
      );
      expect(
        mismatches.map(({ text }) => text),
        `${name}: ${JSON.stringify(policies.map(policyManifest))}`,
      ).toEqual([]);
    }
  });

  it("random policies, labels and ports", async () => {
    for (let seed = 1; seed <= RANDOM_SETS; seed++) {
      const world = randomWorld(seed);
      const mismatches = await judge(cluster, world, randomProbes(world, seed, PROBES_PER_SET));
      if (mismatches.length === 0) continue;
      const probes = mismatches.map(({ probe }) => probe);
      const smallest = await shrink(cluster, world, probes);
      const left = await judge(cluster, smallest, probes);
      expect(left, `seed ${seed}: ${JSON.stringify({ ...smallest, policies: smallest.policies.map(policyManifest) })}`).toEqual([]);
    }
  });

  it("what is in the kernel after all that is what an agent with no memory wants", async () => {
    await use(CLOSED_INGRESS);
    await cluster.restartAgents();
  });

  it("a forged source goes nowhere, whatever the policy", async () => {
    await use([]);
    const forged = (to: string, source: string): PacketProbe => ({
      from: "x/a",
      to,
      version: source.includes(":") ? 6 : 4,
      protocol: "UDP",
      port: 80,
      source: parseIp(source),
    });
    // Its own, made by hand in the same way: this must arrive, or the rest says nothing.
    expect(verdicts([forged("y/b", "10.65.1.1"), forged("y/b", "fd00:65::1:1")])).toEqual(["allow", "allow"]);
    const sources = ["10.65.2.1", "10.65.1.2", "10.65.9.9", "172.31.0.1", "172.30.90.11", "fd00:65::2:1", "fd00:65::1:2", "fd00:31::1", "fd30:90::11"];
    for (const to of ["y/b", "y/a", "outside", "n1", "n2"]) {
      expect(
        sources.map((source) => `${source} ${verdicts([forged(to, source)])[0]}`),
        `to ${to}`,
      ).toEqual(sources.map((source) => `${source} deny`));
    }
  });

  it("an interface of ours that no pod is known for: nothing in, nothing out, the others as before", async () => {
    const world = caseWorld([]);
    await cluster.apply(world);
    const pod = PODS[0];
    if (pod === undefined) throw new Error("a world without pods");
    const probes = allProbes(world);
    await cluster.setConnected(pod, false);
    try {
      const outcomes = verdicts(probes);
      // What the host itself sends, its kernel refuses with an error to the sender; on the wire it is silence too.
      const closed = (from: string): readonly string[] => (from === pod.node ? ["deny", "refused EPERM"] : ["deny"]);
      expect(probes.filter(({ from, to }, i) => !(from === "x/a" || to === "x/a" ? closed(from) : ["allow"]).includes(outcomes[i] ?? ""))).toEqual([]);
    } finally {
      await cluster.setConnected(pod, true);
    }
    expect(await judge(cluster, world, probes)).toEqual([]);
  });

  it("datagrams in fragments: whole when allowed, silence when not", async () => {
    const large = ([4, 6] as const).map((version): PacketProbe => ({ from: "x/a", to: "y/b", version, protocol: "UDP", port: 80, size: 9_000 }));
    await use([policy({ podSelector: {}, ingress: [{ from: [{ namespaceSelector: {} }], ports: [{ protocol: "UDP", port: 80 }] }] }, { namespace: "y" })]);
    expect(verdicts(large)).toEqual(["allow", "allow"]);
    await use([policy({ podSelector: {}, ingress: [{ from: [{ namespaceSelector: {} }], ports: [{ protocol: "UDP", port: 81 }] }] }, { namespace: "y" })]);
    expect(verdicts(large)).toEqual(["deny", "deny"]);
  });

  it.each((["TCP", "UDP"] as const).flatMap((protocol) => ([4, 6] as const).map((version) => [protocol, version] as const)))(
    "an open %s connection over IPv%s stays when a policy would deny it anew; its answers need no policy",
    async (protocol, version) => {
      // The answers go from a pod that may send nothing to one that may receive nothing.
      const allowed = [
        policy({ podSelector: {}, policyTypes: ["Ingress", "Egress"], egress: [{}] }),
        policy({ podSelector: {}, policyTypes: ["Ingress", "Egress"], ingress: [{}] }, { namespace: "y" }),
      ];
      await use(allowed);
      const spec = { from: place("x/a"), to: place("y/b"), version, protocol, port: 90 } as const;
      using connection = new Connection(spec);
      expect(connection.passes()).toBe(true);
      await use(CLOSED);
      expect(connection.passes()).toBe(true);
      const anew: PacketProbe = { from: "x/a", to: "y/b", version, protocol, port: 80 };
      expect(verdicts([anew])).toEqual(["deny"]);
      await use(allowed);
      expect([connection.passes(), ...verdicts([anew])]).toEqual([true, "allow"]);
    },
  );

  it("errors about an allowed packet come back to a pod that nobody may send to", async () => {
    await use(CLOSED_INGRESS.filter(({ metadata }) => metadata.namespace === "x"));
    for (const version of [4, 6] as const) {
      using connection = new Connection({ from: place("x/a"), to: place("y/b"), version, protocol: "UDP", port: 91 });
      expect(connection.passes()).toBe(true);
      connection.closeServer();
      connection.send(Buffer.from("to nobody"));
      expect(connection.error()).toBe("ECONNREFUSED");
    }
  });

  it("packet too big from a router on the way comes back, and the pod learns the path's MTU", async () => {
    await use(CLOSED_INGRESS.filter(({ metadata }) => metadata.namespace === "x"));
    const node = cluster.netns("n3");
    const link = cluster.interfaceOf({ namespace: "y", name: "c" });
    await node.ip("link", "set", link, "mtu", "1300");
    try {
      for (const version of [4, 6] as const) {
        using connection = new Connection({ from: place("x/b"), to: place("y/c"), version, protocol: "UDP", port: 92 });
        expect(connection.passes()).toBe(true);
        expect(connection.send(Buffer.alloc(1_400))).toBeUndefined();
        expect(connection.error()).toBe("EMSGSIZE");
      }
    } finally {
      await node.ip("link", "set", link, "mtu", "1500");
    }
  });

  it("SCTP packets that conntrack cannot place go as the policy says", async () => {
    await use([policy({ podSelector: {}, ingress: [{ ports: [{ protocol: "SCTP", port: 80 }] }] }, { namespace: "y" })]);
    const oddities: SctpOddity[] = ["checksum left out", "chunk of an unknown association", "header alone"];
    const odd = (port: number): PacketProbe[] =>
      oddities.flatMap((sctp) => ([4, 6] as const).map((version): PacketProbe => ({ from: "x/a", to: "y/b", version, protocol: "SCTP", port, sctp })));
    expect(new Set(verdicts(odd(80)))).toEqual(new Set(["allow"]));
    expect(new Set(verdicts(odd(81)))).toEqual(new Set(["deny"]));
  });

  it("neighbours are found anew with everything closed but one port", async () => {
    await use(
      ["x", "y", "z"].map((namespace) =>
        policy(
          { podSelector: {}, policyTypes: ["Ingress", "Egress"], ingress: [{ ports: [{ port: 80 }] }], egress: [{ ports: [{ port: 80 }] }] },
          { namespace },
        ),
      ),
    );
    for (const name of ["n1", "n2", "n3"]) await cluster.netns(name).ip("neigh", "flush", "all");
    const probes = allProbes(caseWorld([])).filter(
      ({ from, to, protocol, port }) => protocol === "TCP" && port === 80 && from.includes("/") && to.includes("/"),
    );
    expect(cluster.prober.passesAll(probes)).toBe(true);
  });
});
