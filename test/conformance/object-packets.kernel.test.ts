/**
 * Calico's kinds and ClusterNetworkPolicies by real packets: the rule-level tables and the conformance suite's one, each case's own rows and a share of all
 * probes between the places. What the packets do, the evaluator says beforehand. Host endpoints: of the node's own traffic, before NAT, untracked, forwarded.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { canUseNetns } from "../kernel/netns.ts";
import { describeProbe, type PacketProbe } from "../kernel/packets.ts";
import { calicoManifests } from "./calico-manifests.ts";
import { CALICO_CASES, CLUSTER_POLICY_CASES, type ObjectCase } from "./cases/calico.ts";
import { CALICO_CORNERS } from "./cases/calico-corners.ts";
import { calicoObject } from "./cases/calico-validation.ts";
import { type CaseProbe, probesOf } from "./cases/case.ts";
import { CLUSTER_POLICY_SUITE, HOUSE_PLACES, HOUSE_PORTS } from "./cases/cluster-policy-suite.ts";
import { HOST_CASES, HOST_PLACES } from "./cases/hosts.ts";
import { UNREADABLE_CASES } from "./cases/unreadable.ts";
import { houseManifests, houseWorld, literalHouseVerdicts } from "./cluster-policy-world.ts";
import { type CalicoWorld, passes } from "./naive-calico.ts";
import { PacketCluster } from "./packet-cluster.ts";
import { packetProbes, packetVerdicts } from "./packet-judge.ts";
import { allProbes, caseWorld, endOf, evaluatedVerdicts, isOwnNode, worldManifests } from "./packet-world.ts";
import { randomCalicoWorld } from "./random-calico.ts";
import { randomHousePolicies, randomHouseProbes } from "./random-cluster-policies.ts";
import { randomProbes } from "./random-policies.ts";

const execute = promisify(execFile);

/** As a proxy has it: the Service's address becomes the pod's, and the sender the node, so that the answer comes back this way. */
const HAIRPIN = `table ip hairpin {
  chain services { type nat hook prerouting priority -100; ip daddr 10.96.0.1 tcp dport 80 dnat to 10.65.1.1; }
  chain senders { type nat hook postrouting priority 99; ip saddr 10.65.1.1 ip daddr 10.65.1.1 masquerade; }
}`;

/** Besides its own rows, each case makes one in so many of all probes, the next case others. */
const SHARE = 29;
const RANDOM_SETS = 30;
const PROBES_PER_SET = 300;
/** SEDGE_RUNS: more of them, for as long as one has. */
const RANDOM_CALICO_SETS = Number(process.env["SEDGE_RUNS"] ?? 60);

/** Rows as written, with what the packets did. */
function checkRows(cluster: PacketCluster, rows: readonly CaseProbe[]): void {
  const expected = rows.map(({ verdict }) => verdict);
  const packets = packetVerdicts(cluster, packetProbes(rows), expected);
  expect(rows.map(({ text }, i) => `${text}: ${packets[i]}`)).toEqual(rows.map(({ text, verdict }) => `${text}: ${verdict}`));
}

function mismatches(cluster: PacketCluster, probes: readonly PacketProbe[], expected: readonly ("allow" | "deny")[]): string[] {
  const packets = packetVerdicts(cluster, probes, expected);
  return probes.flatMap((probe, i) => (packets[i] === expected[i] ? [] : [`${describeProbe(probe)}: evaluate ${expected[i]}, packets ${packets[i]}`]));
}

const share = (probes: readonly PacketProbe[], index: number): PacketProbe[] => probes.filter((_, i) => i % SHARE === index % SHARE);

/** A node reaches its own pods whatever their ingress says. */
function literalVerdict(given: CalicoWorld, probe: PacketProbe): "allow" | "deny" {
  const { from, to, version, protocol, port } = probe;
  const [source, destination] = [from, to].map((name) => endOf(caseWorld([]), name, version).address) as [string, string];
  const connection = { source, destination, protocol, port: protocol === "ICMP" ? undefined : port };
  return passes(given, connection) || isOwnNode(caseWorld([]), probe) ? "allow" : "deny";
}

describe.skipIf(!canUseNetns())("the cases' world", () => {
  let cluster: PacketCluster;
  const world = caseWorld([]);
  const all = allProbes(world);
  beforeAll(async () => {
    cluster = await PacketCluster.create("sedge-op", world);
  });
  afterAll(async () => {
    await cluster[Symbol.asyncDispose]();
  });

  const cases = [
    ...CALICO_CASES.map((given) => ({ kind: "Calico", given })),
    ...CALICO_CORNERS.map((given) => ({ kind: "corner", given })),
    ...CLUSTER_POLICY_CASES.map((given) => ({ kind: "cluster", given })),
  ];
  it.each(cases.map(({ kind, given }, index) => [kind, given.name, given, index] as const))("%s: %s", async (_kind, _name, given, index) => {
    const manifests = [...worldManifests(world), ...given.objects];
    await cluster.applyObjects(manifests, { mayBeNarrower: true });
    checkRows(cluster, probesOf(given));
    const probes = share(all, index);
    expect(mismatches(cluster, probes, evaluatedVerdicts(world, probes, manifests))).toEqual([]);
  });

  it.each(UNREADABLE_CASES.map((given) => [given.name, given] as const))("cannot be read: %s", async (_name, given) => {
    const before = [...worldManifests(world), ...given.objects.slice(1)];
    const wanted = [...worldManifests(world), ...given.objects];
    // After a version that could be read, and as a server that never saw one.
    for (const first of [[...before, given.earlier], before]) {
      await cluster.applyObjects(first);
      await cluster.applyObjects(wanted, { mayBeUnreadable: true });
      checkRows(cluster, probesOf(given));
    }
  });

  it("FelixConfiguration: failsafe ports and what pods may of their host change live, node by node", async () => {
    const host = (node: string): unknown => calicoObject("HostEndpoint", { node, interfaceName: "eth0" }, { name: node });
    const felix = (name: string, spec: object): unknown => calicoObject("FelixConfiguration", spec, { name });
    // The echoes of the probers' own hosts.
    const pings = ["ICMP", "ICMPv6"].map((protocol) => ({ action: "Allow", protocol }));
    const echoes = calicoObject("GlobalNetworkPolicy", { selector: "!has(projectcalico.org/namespace)", ingress: pings, egress: pings }, { name: "echoes" });
    const ports = (...list: number[]): object => ({ failsafeInboundHostPorts: list.map((port) => ({ protocol: "TCP", port })) });
    const base = [...worldManifests(world), host("n1"), host("n2"), echoes];
    const steps: readonly (readonly [objects: readonly unknown[], rows: Pick<ObjectCase, "allow" | "deny">])[] = [
      [[], { allow: ["x/a > n1 80/TCP"], deny: ["outside > n1 80/TCP", "outside > n2 80/TCP"] }],
      [[felix("default", ports(80))], { allow: ["outside > n1 80/TCP", "outside > n2 80/TCP v6"], deny: ["outside > n1 81/TCP", "outside > n1 80/UDP"] }],
      [
        [felix("default", ports(80)), felix("node.n1", { ...ports(81), defaultEndpointToHostAction: "Drop" })],
        { allow: ["outside > n1 81/TCP", "outside > n2 80/TCP"], deny: ["outside > n1 80/TCP", "outside > n2 81/TCP", "x/a > n1 80/TCP"] },
      ],
      [
        [felix("east", { ...ports(82), nodeSelector: "kubernetes.io/hostname == 'n2'" }), felix("default", ports(80))],
        { allow: ["outside > n2 82/TCP", "outside > n1 80/TCP", "x/a > n1 80/TCP"], deny: ["outside > n2 80/TCP"] },
      ],
      [[], { allow: ["x/a > n1 80/TCP"], deny: ["outside > n1 80/TCP", "outside > n2 82/TCP"] }],
    ];
    for (const [objects, rows] of steps) {
      await cluster.applyObjects([...base, ...objects]);
      checkRows(cluster, probesOf(rows, HOST_PLACES));
    }
  });

  it.each(HOST_CASES.map((given) => [given.name, given] as const))("host endpoints: %s", async (_name, given) => {
    await cluster.applyObjects([...worldManifests(world), ...given.objects]);
    checkRows(cluster, probesOf(given, HOST_PLACES));
  });

  it("random policies, tiers and sets: packets, the program's evaluator and the independent one agree", async () => {
    const counts = { allow: 0, deny: 0 };
    for (let seed = 1; seed <= RANDOM_CALICO_SETS; seed++) {
      const given = randomCalicoWorld(seed);
      const manifests = [...worldManifests(world), ...calicoManifests(given)];
      const probes = randomProbes(world, seed, PROBES_PER_SET);
      await cluster.applyObjects(manifests);
      const expected = evaluatedVerdicts(world, probes, manifests);
      const literal = probes.map((probe) => literalVerdict(given, probe));
      const wrong = probes.flatMap((probe, i) => (expected[i] === literal[i] ? [] : [`${describeProbe(probe)}: ${expected[i]}, literally ${literal[i]}`]));
      expect([...wrong, ...mismatches(cluster, probes, expected)], `seed ${seed}: ${JSON.stringify(calicoManifests(given))}`).toEqual([]);
      for (const verdict of expected) counts[verdict]++;
    }
    expect(Math.min(counts.allow, counts.deny) / (counts.allow + counts.deny)).toBeGreaterThan(0.2);
  });

  it("a pod that reaches itself by a Service: as its policies say, whatever is on the way", async () => {
    const node = cluster.netns("n1");
    const { path: nodePath } = node;
    const pod = cluster.places.get("x/a");
    await execute("nsenter", [`--net=${nodePath}`, "nft", HAIRPIN]);
    const reaches = async (): Promise<boolean> => {
      const tries = ["timeout", "0.5", "bash", "-c", "exec 3<>/dev/tcp/10.96.0.1/80"];
      return await execute("nsenter", [`--net=${pod?.netns ?? ""}`, ...tries]).then(
        () => true,
        () => false,
      );
    };
    const rule = (direction: "ingress" | "egress", action: string, selector: string): unknown =>
      calicoObject(
        "GlobalNetworkPolicy",
        {
          selector: "pod == 'a'",
          types: [direction === "ingress" ? "Ingress" : "Egress"],
          [direction]: [{ action, [direction === "ingress" ? "source" : "destination"]: { selector } }],
        },
        { name: direction },
      );
    try {
      const results: boolean[] = [];
      for (const objects of [
        [],
        [rule("ingress", "Allow", "pod == 'a'")],
        [rule("ingress", "Allow", "pod == 'a'"), rule("egress", "Allow", "pod == 'a'")],
        [rule("ingress", "Allow", "pod == 'b'")],
        [rule("egress", "Allow", "pod == 'b'")],
      ]) {
        await cluster.applyObjects([...worldManifests(world), ...objects]);
        results.push(await reaches());
      }
      expect(results).toEqual([true, true, true, false, false]);
    } finally {
      await execute("nsenter", [`--net=${nodePath}`, "nft", "delete table ip hairpin"]);
    }
  });

  it("what is in the kernel after all that is what an agent with no memory wants", async () => {
    await cluster.restartAgents();
  });
});

describe.skipIf(!canUseNetns())("the houses", () => {
  let cluster: PacketCluster;
  beforeAll(async () => {
    cluster = await PacketCluster.create("sedge-oh", houseWorld({}), { ports: HOUSE_PORTS });
  });
  afterAll(async () => {
    await cluster[Symbol.asyncDispose]();
  });

  it.each(CLUSTER_POLICY_SUITE.map((given) => [given.name, given] as const))("%s", async (_name, given) => {
    await cluster.applyObjects(houseManifests(given));
    checkRows(cluster, probesOf(given, HOUSE_PLACES));
  });

  it("random policies: packets, the program's evaluator and the independent one agree", async () => {
    for (let seed = 1; seed <= RANDOM_SETS; seed++) {
      const given = randomHousePolicies(seed);
      const probes = randomHouseProbes(seed, PROBES_PER_SET);
      await cluster.applyObjects(houseManifests(given));
      const expected = evaluatedVerdicts(houseWorld(given), probes, houseManifests(given));
      expect(expected, `seed ${seed}`).toEqual(literalHouseVerdicts(given, probes));
      expect(mismatches(cluster, probes, expected), `seed ${seed}: ${JSON.stringify(given)}`).toEqual([]);
    }
  });
});
