/**
 * Compute by example: what each change of the cluster makes of records and problems. That the result does not depend on the way there is
 * compute-paths.test.ts. Above 500 lines: all examples are told to one Compute and read from its commits by the same few functions.
 */
import { describe, expect, it } from "vitest";
import { calicoPolicy, calicoRule, globalPolicy, globalSet, tier } from "../../test/fakes/calico-objects.ts";
import { affinity, block, namespace, node, peer, pod, policy, pool, selector, tcp } from "../../test/fakes/cluster-objects.ts";
import type { ClusterEvent, Problem } from "../model/event.ts";
import { type NodeName, podKey } from "../model/names.ts";
import { brokenRule } from "../model/parse-calico-rule.ts";
import type { RecordValue } from "../model/record.ts";
import { type IpamBlock, keyOf, type Resource, type ResourceKey } from "../model/resource.ts";
import { parseIp } from "../net/ip.ts";
import { type Commit, Compute } from "./compute.ts";

const upsert = (resource: Resource): ClusterEvent => ({ kind: "upsert", resource });
const deletion = (resource: Resource): ClusterEvent => ({ kind: "delete", key: keyOf(resource) });
const PROBLEM: Problem = { field: "spec.ingress[0]", message: "is not a rule" };
const invalid = (key: ResourceKey): ClusterEvent => ({ kind: "invalid", key, resourceVersion: "2", problems: [PROBLEM] });

/** A compute that has taken these in and flushed them. */
function started(...resources: readonly Resource[]): Compute {
  const compute = new Compute();
  for (const resource of resources) compute.apply(upsert(resource));
  compute.flush();
  return compute;
}

function after(compute: Compute, ...events: readonly ClusterEvent[]): Commit {
  for (const event of events) compute.apply(event);
  return compute.flush();
}

/** One line a change: "=" a value, ">" only another audience, "-" gone; then the nodes that enter (+) and leave (-). Hashes are left out. */
function lines({ changes }: Commit): readonly string[] {
  return changes.map(({ key, value, isRemoved, entered, left }) => {
    const sign = isRemoved ? "-" : value === undefined ? ">" : "=";
    const moves = [...entered.map((name) => `+${name}`), ...left.map((name) => `-${name}`)].join(" ");
    return `${sign} ${key.replace(/[sn]:[\w-]{8,}/, "ID").replace(/stack\/\w+/, "stack/ID")}${moves === "" ? "" : ` ${moves}`}`;
  });
}

function valueOf<Kind extends RecordValue["kind"]>(commit: Commit, kind: Kind): Extract<RecordValue, { readonly kind: Kind }> {
  const values = commit.changes.map(({ value }) => value).filter((value): value is Extract<RecordValue, { readonly kind: Kind }> => value?.kind === kind);
  const [value] = values;
  if (value === undefined || values.length > 1) throw new Error(`${values.length} records of kind ${kind}`);
  return value;
}

const web = pod("web", { on: "n1", ips: ["10.0.0.1"], labels: { app: "web" } });
const db = pod("db", { on: "n2", ips: ["10.0.0.2"], labels: { app: "db" } });
const webFromDb = policy("web-from-db", { podSelector: selector({ app: "web" }), ingress: [{ peers: [peer(selector({ app: "db" }))], ports: [] }] });

describe("Compute: which pods are endpoints", () => {
  it.each([
    ["scheduled", web, ["= endpoint/shop/web +n1"]],
    ["scheduled, without an address", { ...web, addresses: [] }, ["= endpoint/shop/web +n1"]],
    ["not scheduled", { ...web, node: undefined }, []],
    ["on the host's network", { ...web, hostNetwork: true }, []],
    ["over", { ...web, isTerminated: true }, []],
  ])("%s", (_, item, expected) => expect(lines(after(new Compute(), upsert(item)))).toEqual(expected));

  it("no policy: no stack, and no other records", () => {
    expect(valueOf(after(new Compute(), upsert(web)), "endpoint").stack).toBe("");
  });

  it("limits of a pod: with its record, changed with its annotations, gone with them", () => {
    const limited = (text: string): Resource => ({ ...web, trafficAnnotations: { "qos.projectcalico.org/ingressPacketRate": text } });
    const compute = started(web);
    const first = after(compute, upsert(limited("10")));
    expect(lines(first)).toEqual(["= endpoint/shop/web"]);
    expect(valueOf(first, "endpoint").limits).toEqual({ ingress: { packetsPerSecond: 10, packetBurst: 5 }, egress: {}, problems: [] });
    expect(lines(after(compute, upsert(limited("10"))))).toEqual([]);
    const wrong = after(compute, upsert(limited("x")));
    // What it had before it is not understood stays, and is said with the record and with the object.
    const problem = 'qos.projectcalico.org/ingressPacketRate: "x" is no quantity, for example 10M; "10" of before stays in force';
    expect(valueOf(wrong, "endpoint").limits).toEqual({ ingress: { packetsPerSecond: 10, packetBurst: 5 }, egress: {}, problems: [problem] });
    expect(wrong.problems).toEqual([
      { key: { kind: "Pod", namespace: "shop", name: "web" }, outcome: "narrowed", problems: [{ field: "metadata.annotations", message: problem }] },
    ]);
    // Another pod of the same name begins anew.
    const reborn = after(compute, upsert({ ...limited("x"), uid: "another" } as Resource));
    expect(valueOf(reborn, "endpoint").limits?.problems).toEqual([expect.stringContaining('"x" is no quantity, for example 10M; it limits nothing')]);
    expect(after(compute, upsert(limited("20"))).problems).toEqual([]);
    expect(valueOf(after(compute, upsert(web)), "endpoint")).not.toHaveProperty("limits");
  });

  it("deletes of what is not known, and repeats, change nothing", () => {
    const compute = started(web, webFromDb);
    expect(
      lines(
        after(
          compute,
          upsert(web),
          upsert(webFromDb),
          deletion(db),
          deletion(policy("none", {})),
          deletion(node("n9")),
          deletion(pool("none", "10.0.0.0/8", false)),
        ),
      ),
    ).toEqual([]);
  });

  it("add and remove between two flushes is nothing", () => {
    expect(lines(after(started(web), upsert(db), upsert(webFromDb), deletion(webFromDb), deletion(db)))).toEqual([]);
  });

  it("a pod made again on another node moves its record", () => {
    expect(lines(after(started(db), deletion(db), upsert({ ...db, uid: "again", node: web.node })))).toEqual(["= endpoint/shop/db +n1 -n2"]);
  });
});

describe("Compute: policies", () => {
  it("reach the nodes of their subjects, with the sets that they name", () => {
    expect(lines(after(new Compute(), upsert(web), upsert(db), upsert(webFromDb)))).toEqual([
      "= endpoint/shop/db +n2",
      "= endpoint/shop/web +n1",
      "= policy/KubernetesNetworkPolicy/shop/web-from-db +n1",
      "= set/ID/ +n1",
      "= stack/ID +n1",
    ]);
  });

  it("that apply to no pod are no records", () => {
    expect(lines(after(new Compute(), upsert(db), upsert(webFromDb)))).toEqual(["= endpoint/shop/db +n2"]);
  });

  it("a policy more on a known subject changes the stack and no endpoint", () => {
    const compute = started(web, db, webFromDb);
    expect(lines(after(compute, upsert({ ...webFromDb, name: "another" })))).toEqual(["= policy/KubernetesNetworkPolicy/shop/another +n1", "= stack/ID"]);
  });

  it("other rules change the policy alone", () => {
    const compute = started(web, db, webFromDb);
    const rules = [{ peers: [peer(selector({ app: "db" }))], ports: [tcp(80)] }];
    expect(lines(after(compute, upsert({ ...webFromDb, ingress: rules })))).toEqual(["= policy/KubernetesNetworkPolicy/shop/web-from-db"]);
  });

  it("a peer that gets an address changes one shard, on the nodes that use it", () => {
    const compute = started(web, { ...db, addresses: [] }, webFromDb);
    expect(lines(after(compute, upsert(db)))).toEqual(["= endpoint/shop/db", "= set/ID/ +n1"]);
  });

  it("a second subject on another node brings everything there, unchanged", () => {
    const compute = started(web, db, webFromDb);
    expect(lines(after(compute, upsert(pod("web-2", { on: "n3", labels: { app: "web" } }))))).toEqual([
      "= endpoint/shop/web-2 +n3",
      "> policy/KubernetesNetworkPolicy/shop/web-from-db +n3",
      "> set/ID/ +n3",
      "> stack/ID +n3",
    ]);
  });

  it("stand in the stack by name; each direction has its own", () => {
    const ingress = policy("b", { policyTypes: ["Ingress"] });
    const both = policy("a", { policyTypes: ["Ingress", "Egress"] });
    const stack = valueOf(after(new Compute(), upsert(web), upsert(ingress), upsert(both)), "stack");
    expect(stack.noMatchAction).toBe("allow");
    expect(stack.tiers).toEqual([
      {
        name: "default",
        defaultAction: "deny",
        ingress: ["policy/KubernetesNetworkPolicy/shop/a", "policy/KubernetesNetworkPolicy/shop/b"],
        egress: ["policy/KubernetesNetworkPolicy/shop/a"],
      },
    ]);
  });

  it("2,000 on one selector and 2,000 pods are one selector and one stack", () => {
    const compute = new Compute();
    for (let i = 0; i < 2_000; i++) compute.apply(upsert(pod(`p-${i}`, { on: `n${i % 20}` })));
    for (let i = 0; i < 2_000; i++) compute.apply(upsert(policy(`p-${i}`, {})));
    const { changes } = compute.flush();
    expect(changes.filter(({ value }) => value?.kind !== "policy-list")).toHaveLength(2_000 + 2_000 + 1);
    expect(compute.sizes()).toMatchObject({ endpoints: 2_000, selectors: 1, stacks: 1 });
  });
});

describe("Compute: named ports", () => {
  const http = policy("http", { podSelector: selector({ app: "web" }), ingress: [{ peers: [], ports: [tcp("http")] }] });
  const serving = { ...web, addresses: [...web.addresses, ...pod("x", { ips: ["fd00::1"] }).addresses] };

  it("are members of address and port, for the protocol asked for", () => {
    const namedPorts = [
      { name: "http", protocol: "TCP" as const, port: 8080 },
      { name: "http", protocol: "UDP" as const, port: 9 },
      { name: "https", protocol: "TCP" as const, port: 443 },
    ];
    const commit = after(new Compute(), upsert({ ...serving, namedPorts }), upsert(http));
    const set = commit.changes.map(({ value }) => value).find((value) => value?.kind === "set" && value.type === "address-port");
    expect(set).toMatchObject({ members: ["10.0.0.1,tcp:8080", "fd00::1,tcp:8080"], shard: "" });
    expect(set?.kind === "set" ? set.id : "").toMatch(/^n:[0-9a-f]{40}$/);
  });

  it("follow the pod", () => {
    const compute = started({ ...web, namedPorts: [{ name: "http", protocol: "TCP", port: 8080 }] }, http);
    expect(valueOf(after(compute, upsert({ ...web, namedPorts: [{ name: "http", protocol: "TCP", port: 8081 }] })), "set").members).toEqual([
      "10.0.0.1,tcp:8081",
    ]);
  });
});

describe("Compute: labels", () => {
  const fromTeam = policy("from-team", { podSelector: selector({ app: "web" }), ingress: [{ peers: [peer(undefined, selector({ team: "a" }))], ports: [] }] });
  const probe = pod("probe", { in: "ops", on: "n3", ips: ["10.0.0.9"] });

  it("a namespace's labels reach its pods, and their change too", () => {
    const compute = started(web, probe, fromTeam, namespace("ops", {}));
    expect(lines(after(compute, upsert(namespace("ops", { team: "a" }))))).toEqual(["= set/ID/ +n1"]);
    expect(lines(after(compute, upsert(namespace("ops", { team: "a", other: "x" }))))).toEqual([]);
    expect(lines(after(compute, deletion(namespace("ops", {}))))).toEqual(["- set/ID/ -n1"]);
  });

  it.each(["kubernetes.io/metadata.name", "projectcalico.org/name"])("%s is a label of every namespace, once the Namespace is seen", (label) => {
    const byName = { ...fromTeam, ingress: [{ peers: [peer(undefined, selector({ [label]: "ops" }))], ports: [] }] };
    expect(lines(after(new Compute(), upsert(web), upsert(probe), upsert(byName))).filter((line) => line.includes("set/"))).toEqual([]);
    expect(valueOf(after(new Compute(), upsert(web), upsert(probe), upsert(byName), upsert(namespace("ops", {}))), "set").members).toEqual(["10.0.0.9"]);
  });

  it("a pod cannot give itself what a namespace hands down", () => {
    const liar = pod("liar", { in: "ops", on: "n3", ips: ["10.0.0.66"], labels: { "pcns.team": "a", "pcsa.team": "a" } });
    const compute = started(web, liar, fromTeam, namespace("ops", {}));
    expect(lines(after(compute, upsert(namespace("ops", { other: "x" }))))).toEqual([]);
    expect(lines(after(compute, upsert(namespace("ops", { team: "a" }))))).toEqual(["= set/ID/ +n1"]);
  });

  it("a pod cannot say that it is of another namespace or service account", () => {
    const liar = pod("liar", {
      in: "ops",
      on: "n3",
      ips: ["10.0.0.9"],
      labels: { app: "web", "projectcalico.org/namespace": "shop", "projectcalico.org/serviceaccount": "admin" },
    });
    const compute = started(web, webFromDb);
    expect(lines(after(compute, upsert(liar)))).toEqual(["= endpoint/ops/liar +n3"]);
  });

  it("names of Object.prototype are labels like others", () => {
    const odd = policy("odd", { podSelector: selector({}, { key: "constructor", operator: "Exists", values: [] }) });
    expect(valueOf(after(new Compute(), upsert(web), upsert(odd)), "endpoint").stack).toBe("");
  });
});

describe("Compute: addresses", () => {
  const from = (item: Resource, ...blocks: readonly Resource[]): readonly string[] =>
    valueOf(after(new Compute(), ...[...blocks, item].map((resource) => upsert(resource))), "endpoint").addresses;

  it.each([
    ["nothing known of it: status", [], ["10.0.0.1"]],
    ["a block names it", [block("10.0.1.0/26", "n1", [{ ip: "10.0.1.7", pod: "web", on: "n1" }])], ["10.0.1.7"]],
    ["a block names it, no node", [block("10.0.1.0/26", "n1", [{ ip: "10.0.1.7", pod: "web" }])], ["10.0.1.7"]],
    ["a block names it on another node: an earlier pod's", [block("10.0.1.0/26", "n1", [{ ip: "10.0.1.7", pod: "web", on: "n2" }])], ["10.0.0.1"]],
    [
      "both families, IPv4 first",
      [block("fd00::/122", "n1", [{ ip: "fd00::7", pod: "web" }]), block("10.0.1.0/26", "n1", [{ ip: "10.0.1.7", pod: "web" }])],
      ["10.0.1.7", "fd00::7"],
    ],
    [
      "in the order of numbers",
      [
        block("10.0.1.0/26", "n1", [
          { ip: "10.0.1.10", pod: "web" },
          { ip: "10.0.1.9", pod: "web" },
        ]),
      ],
      ["10.0.1.9", "10.0.1.10"],
    ],
  ])("%s", (_, blocks, expected) => expect(from(web, ...blocks)).toEqual(expected));

  it("an address given back falls back to the status", () => {
    const compute = started(web, block("10.0.1.0/26", "n1", [{ ip: "10.0.1.7", pod: "web" }]));
    expect(valueOf(after(compute, upsert(block("10.0.1.0/26", "n1"))), "endpoint").addresses).toEqual(["10.0.0.1"]);
  });

  it("two pods that state one address are one member until both are gone", () => {
    const other = pod("db-2", { on: "n2", ips: ["10.0.0.2"], labels: { app: "db" } });
    const compute = started(web, db, other, webFromDb);
    expect(lines(after(compute, deletion(db)))).toEqual(["- endpoint/shop/db -n2"]);
    expect(lines(after(compute, deletion(other)))).toEqual(["- endpoint/shop/db-2 -n2", "- set/ID/ -n1"]);
  });
});

describe("Compute: nodes and pools", () => {
  const n1 = node("n1", "192.0.2.1");
  const blocks = (...resources: readonly Resource[]): readonly string[] =>
    valueOf(after(new Compute(), ...[n1, ...resources].map((resource) => upsert(resource))), "node").blocks;
  const own = block("10.0.0.0/26", "n1");
  const confirmed = affinity("n1", "10.0.0.0/26", "confirmed");

  it.each([
    ["confirmed, and the block agrees", [own, confirmed], ["10.0.0.0/26"]],
    ["the block alone", [own], []],
    ["the affinity alone", [confirmed], []],
    ["pending", [own, affinity("n1", "10.0.0.0/26", "pending")], []],
    ["being released", [own, affinity("n1", "10.0.0.0/26", "pendingDeletion")], []],
    ["affinity deleted", [own, { ...confirmed, isDeleted: true }], []],
    ["block deleted", [{ ...own, isDeleted: true }, confirmed], []],
    ["the block is another node's", [block("10.0.0.0/26", "n2"), confirmed], []],
    ["the block is nobody's", [block("10.0.0.0/26", undefined), confirmed], []],
    ["sorted by number", [own, confirmed, block("9.0.0.0/26", "n1"), affinity("n1", "9.0.0.0/26", "confirmed")], ["9.0.0.0/26", "10.0.0.0/26"]],
  ])("%s", (_, resources, expected) => expect(blocks(...resources)).toEqual(expected));

  it("are for all nodes: nobody enters or leaves", () => {
    const compute = new Compute();
    expect(lines(after(compute, upsert(n1), upsert(pool("main", "10.0.0.0/16", false))))).toEqual(["= node/n1", "= pool/main"]);
    expect(lines(after(compute, upsert({ ...n1, labels: { a: "b" } }), upsert(pool("main", "10.0.0.0/16", true))))).toEqual(["= pool/main"]);
    expect(lines(after(compute, deletion(n1), deletion(pool("main", "10.0.0.0/16", true))))).toEqual(["- node/n1", "- pool/main"]);
  });

  it("pods come and go: no node changes", () => {
    const compute = started(n1, own, confirmed);
    expect(lines(after(compute, upsert(web), upsert(block("10.0.0.0/26", "n1", [{ ip: "10.0.0.1", pod: "web" }]))))).toEqual(["= endpoint/shop/web +n1"]);
  });
});

describe("Compute: borrowed addresses", () => {
  const [n1, n2] = [node("n1", "192.0.2.1"), node("n2", "192.0.2.2")];
  const lent = (isAgreed: boolean, owner = "n1", pods: readonly string[] = []): IpamBlock => {
    const own = block("10.0.0.0/26", owner);
    const loan = { id: "l1", claim: "c1", isAgreed };
    return {
      ...own,
      allocations: [
        { address: parseIp("10.0.0.9"), handle: "h", pod: undefined, node: "n2" as NodeName, loan },
        ...pods.map((name, i) => ({ address: parseIp(`10.0.0.${i}`), handle: name, pod: podKey("shop", name), node: "n1" as NodeName })),
      ],
    };
  };

  it("are asked of the block's node alone, and told to every node when it has agreed", () => {
    const compute = started(n1, n2, block("10.0.0.0/26", "n1"));
    expect(lines(after(compute, upsert(lent(false))))).toEqual(["= loans/10-0-0-0-26 +n1"]);
    const agreed = after(compute, upsert(lent(true)));
    expect(lines(agreed)).toEqual(["= borrowed/n2", "= loans/10-0-0-0-26"]);
    expect(valueOf(agreed, "borrowed").addresses).toEqual(["10.0.0.9"]);
    expect(valueOf(agreed, "loans").loans).toEqual([{ address: "10.0.0.9", id: "l1", isAgreed: true }]);
    // Pods come and go: nobody is told anything.
    expect(lines(after(compute, upsert(lent(true, "n1", ["a"]))))).toEqual([]);
    expect(lines(after(compute, upsert(block("10.0.0.0/26", "n1"))))).toEqual(["- borrowed/n2", "- loans/10-0-0-0-26 -n1"]);
  });

  it.each<[string, readonly ClusterEvent[], readonly string[]]>([
    ["the borrower goes", [deletion(n2)], ["- borrowed/n2", "- node/n2"]],
    ["the block moves", [upsert(lent(true, "n2"))], ["= loans/10-0-0-0-26 +n2 -n1"]],
    ["the block belongs to nobody any more", [upsert({ ...lent(true), node: undefined })], ["- loans/10-0-0-0-26 -n1"]],
    ["the block goes", [deletion(lent(true))], ["- borrowed/n2", "- loans/10-0-0-0-26 -n1"]],
    ["the block is being deleted", [upsert({ ...lent(true), isDeleted: true })], ["- borrowed/n2", "- loans/10-0-0-0-26 -n1"]],
  ])("%s", (_what, events, expected) => expect(lines(after(started(n1, n2, lent(true)), ...events))).toEqual(expected));
});

describe("Compute: pools that do not select a node", () => {
  const [n1, n2] = [node("n1", "192.0.2.1"), node("n2", "192.0.2.2")];
  const west = { ...pool("west", "10.1.0.0/16", false), nodeSelector: "zone == 'west'" };
  const inWest = { ...n1, labels: { zone: "west" } };

  it("are told to that node alone, while it is so", () => {
    const compute = started(n1, n2, pool("all", "10.0.0.0/16", false));
    const closed = after(compute, upsert(west));
    expect(lines(closed)).toEqual(["= node-pools/n1 +n1", "= node-pools/n2 +n2", "= pool/west"]);
    expect(lines(after(compute, upsert(inWest)))).toEqual(["- node-pools/n1 -n1"]);
    expect(lines(after(compute, upsert({ ...west, nodeSelector: "all()" })))).toEqual(["- node-pools/n2 -n2"]);
    expect(valueOf(after(compute, upsert(west)), "node-pools")).toEqual({ kind: "node-pools", node: "n2", excluded: ["west"] });
    expect(lines(after(compute, deletion(n2)))).toEqual(["- node-pools/n2 -n2", "- node/n2"]);
    expect(lines(after(compute, deletion(west)))).toEqual(["- pool/west"]);
  });
});

describe("Compute: objects that cannot be understood", () => {
  it("keep their last good value, or a policy its stand-in, and are listed until a good version comes", () => {
    const compute = started(web, db, webFromDb);
    expect(lines(after(compute, invalid(keyOf(db))))).toEqual([]);
    const commit = after(compute, invalid(keyOf(webFromDb)));
    expect(valueOf(commit, "policy")).toMatchObject({ ingress: [], egress: [] });
    expect(commit.problems).toEqual([
      { key: keyOf(webFromDb), problems: [PROBLEM], outcome: "closed" },
      { key: keyOf(db), problems: [PROBLEM], outcome: "earlier" },
    ]);
    expect(after(compute, upsert(webFromDb), deletion(db)).problems).toEqual([]);
    expect(compute.problems()).toEqual([]);
  });

  it("of a network set and a tier, what could be read is in force", () => {
    const compute = started(
      web,
      globalPolicy("g", { tier: "t", ingress: [calicoRule("Deny", { source: { selector: "role == 'x'" } })] }),
      tier("t", 5, "Pass"),
    );
    const event = (closed: Resource): ClusterEvent => ({ kind: "invalid", key: keyOf(closed), resourceVersion: "2", problems: [PROBLEM], closed });
    const commit = after(compute, event(globalSet("s", { role: "x" }, "192.0.2.0/24")), event(tier("t", 5, "Deny")));
    expect(valueOf(commit, "set")).toMatchObject({ members: ["192.0.2.0/24"] });
    expect(valueOf(commit, "stack").tiers).toMatchObject([{ name: "t", defaultAction: "deny" }]);
    expect(commit.problems.map(({ key, outcome }) => [key.kind, outcome])).toEqual([
      ["GlobalNetworkSet", "narrowed"],
      ["Tier", "narrowed"],
    ]);
  });

  it("a policy never understood allows nothing to or from any pod of its namespace", () => {
    const compute = started(web, pod("probe", { in: "ops", on: "n3" }));
    const commit = after(compute, invalid(keyOf(webFromDb)));
    expect(lines(commit)).toEqual(["= endpoint/shop/web", "= policy/KubernetesNetworkPolicy/shop/web-from-db +n1", "= stack/ID +n1"]);
    expect(valueOf(commit, "policy")).toMatchObject({ ingress: [], egress: [] });
    const key = "policy/KubernetesNetworkPolicy/shop/web-from-db";
    expect(valueOf(commit, "stack").tiers).toEqual([{ name: "default", defaultAction: "deny", ingress: [key], egress: [key] }]);
  });

  it("its deletion opens again, and a good version replaces it", () => {
    const compute = started(web);
    after(compute, invalid(keyOf(webFromDb)));
    expect(lines(after(compute, deletion(webFromDb)))).toEqual([
      "= endpoint/shop/web",
      "- policy/KubernetesNetworkPolicy/shop/web-from-db -n1",
      "- stack/ID -n1",
    ]);
    after(compute, invalid(keyOf(webFromDb)));
    expect(valueOf(after(compute, upsert(webFromDb)), "policy").ingress).toHaveLength(1);
  });

  it("a selector that no object can match is such a problem too", () => {
    const odd = policy("odd", { podSelector: selector({ "not a label": "x" }) });
    const commit = after(started(web), upsert(odd));
    expect(commit.problems).toMatchObject([{ key: keyOf(odd), problems: [{ field: "spec" }] }]);
    expect(valueOf(commit, "policy")).toMatchObject({ name: "odd", ingress: [], egress: [] });
  });

  it("Calico's: an unreadable rule fails closed at its place, whether an earlier version was known or not", () => {
    const readable = calicoPolicy("p", { selector: "app == 'web'", ingress: [calicoRule("Deny", { protocol: 17 }), calicoRule("Allow")] });
    const broken = { ...readable, ingress: [calicoRule("Deny", { source: { selector: "(" } }), calicoRule("Allow", { source: { selector: "(" } })] };
    const first = after(started(web), upsert(broken));
    expect(first.problems).toMatchObject([
      { key: keyOf(broken), problems: [{ field: "spec.ingress[0].source.selector" }, { field: "spec.ingress[1].source.selector" }] },
    ]);
    expect(valueOf(first, "policy").ingress).toMatchObject([{ action: "deny", protocol: 0, origin: 0 }]);
    const later = after(started(web, readable), upsert(broken));
    expect(valueOf(later, "policy")).toEqual(valueOf(first, "policy"));
    expect(later.problems).toEqual(first.problems);
  });

  it("Calico's: what stands in for an object that cannot be parsed", () => {
    const closed = calicoPolicy("p", { selector: "app == 'web'", types: ["Ingress"], ingress: [brokenRule("Deny")] });
    const event: ClusterEvent = { kind: "invalid", key: keyOf(closed), resourceVersion: "2", problems: [PROBLEM], closed };
    const commit = after(started(web, db), event);
    expect(lines(commit)).toEqual(["= endpoint/shop/web", "= policy/NetworkPolicy/shop/p +n1", "= stack/ID +n1"]);
    expect(valueOf(commit, "policy").ingress).toMatchObject([{ action: "deny" }]);
    expect(commit.problems).toEqual([{ key: keyOf(closed), problems: [PROBLEM], outcome: "closed" }]);
    const nothingRead = after(started(web, db), invalid(keyOf(closed)));
    expect(valueOf(nothingRead, "policy")).toMatchObject({ ingress: [{ action: "deny" }], egress: [{ action: "deny" }] });
  });

  it("a cluster-wide policy of which the selector cannot be read closes what it may be meant for; one of which nothing can be read is in force nowhere", () => {
    const odd = globalPolicy("g", { selector: "app = 'web'", ingress: [calicoRule("Allow"), calicoRule("Deny", { protocol: 17 })] });
    const commit = after(started(web), upsert(odd), invalid({ kind: "GlobalNetworkPolicy", namespace: "", name: "unread" }));
    expect(lines(commit)).toEqual(["= endpoint/shop/web", "= policy/GlobalNetworkPolicy//g +n1", "= stack/ID +n1"]);
    expect(valueOf(commit, "policy").ingress).toMatchObject([{ action: "deny", protocol: 17 }]);
    expect(commit.problems.map(({ key, outcome }) => [key.name, outcome])).toEqual([
      ["g", "closed"],
      ["unread", "nothing"],
    ]);
  });

  it("a cluster-wide policy that becomes unreadable: closed, as on a server that never saw it readable", () => {
    const good = globalPolicy("g", { selector: "app == 'web'", ingress: [calicoRule("Allow")] });
    const broken = upsert({ ...good, selector: "app = 'web'" });
    const commit = after(started(web, good), broken);
    expect(valueOf(commit, "policy").ingress).toEqual([]);
    expect(commit.problems).toMatchObject([{ outcome: "closed" }]);
    expect(valueOf(after(started(web), broken), "policy")).toEqual(valueOf(commit, "policy"));
    expect(lines(after(started(web, good), broken, upsert(good)))).toEqual([]);
  });

  it("a clause that cannot be enforced is listed, and the rest of the policy is in force", () => {
    const http = globalPolicy("g", { ingress: [calicoRule("Allow", { hasHttp: true }), calicoRule("Allow", { protocol: 17 })] });
    const commit = after(started(web), upsert(http));
    expect(valueOf(commit, "policy").ingress).toMatchObject([{ action: "allow", protocol: 17, origin: 1 }]);
    expect(commit.problems).toMatchObject([{ key: { name: "g" }, problems: [{ field: "spec.ingress[0].http" }], outcome: "narrowed" }]);
    expect(after(started(http), upsert(globalPolicy("g"))).problems).toEqual([]);
  });

  it("of other kinds: nothing is known of them", () => {
    const commit = after(new Compute(), invalid(keyOf(web)), invalid(keyOf(node("n1"))));
    expect(lines(commit)).toEqual([]);
    expect(commit.problems.map(({ key }) => key.kind)).toEqual(["Node", "Pod"]);
  });
});

describe("Compute: the hint that a policy is needed on every node", () => {
  const hinted = globalPolicy("g", {
    selector: "app == 'web'",
    isNeededEverywhere: true,
    ingress: [calicoRule("Allow", { source: { selector: "app == 'db'" } })],
  });
  const { isNeededEverywhere: _hint, ...plain } = hinted;

  it("the policy and its sets are on nodes without an endpoint of it, and go with the node", () => {
    const compute = started(node("n1"), node("n2"), web, db);
    expect(lines(after(compute, upsert(hinted)))).toEqual([
      "= endpoint/shop/web",
      "= policy/GlobalNetworkPolicy//g +n1 +n2",
      "= set/xID/ +n1 +n2",
      "= stack/ID +n1",
    ]);
    expect(lines(after(compute, upsert(node("n3")))).filter((line) => !line.includes("node/"))).toEqual([
      "> policy/GlobalNetworkPolicy//g +n3",
      "> set/xID/ +n3",
    ]);
    expect(lines(after(compute, deletion(node("n3")))).filter((line) => !line.includes("node/"))).toEqual([
      "> policy/GlobalNetworkPolicy//g -n3",
      "> set/xID/ -n3",
    ]);
    expect(lines(after(compute, upsert(plain)))).toEqual(["> policy/GlobalNetworkPolicy//g -n2", "> set/xID/ -n2"]);
    expect(lines(after(compute, upsert(hinted)))).toEqual(["> policy/GlobalNetworkPolicy//g +n2", "> set/xID/ +n2"]);
    expect(lines(after(compute, deletion(hinted))).filter((line) => line.startsWith("-"))).toHaveLength(3);
  });

  it("also when it applies to nobody yet; a set that others use stays where they are", () => {
    const compute = started(node("n1"), node("n2"), db);
    expect(lines(after(compute, upsert(hinted)))).toEqual(["= policy/GlobalNetworkPolicy//g +n1 +n2", "= set/xID/ +n1 +n2"]);
    const other = globalPolicy("h", { selector: "app == 'db'", ingress: hinted.ingress });
    after(compute, upsert(other));
    expect(lines(after(compute, deletion(hinted)))).toEqual(["- policy/GlobalNetworkPolicy//g -n1 -n2", "> set/xID/ -n1"]);
  });
});

describe("Compute: network sets", () => {
  it("a prefix of one address is that address, in the shards of addresses", () => {
    const open = globalPolicy("g", { ingress: [calicoRule("Allow", { source: { selector: "role == 'x'" } })] });
    const { changes } = after(started(web, open), upsert(globalSet("s", { role: "x" }, "192.0.2.7/32", "192.0.2.0/31", "2001:db8::1/128")));
    const sets = changes.flatMap(({ value }) => (value?.kind === "set" ? [value] : []));
    expect(sets.map(({ type, members }) => ({ type, members }))).toEqual([
      { type: "address", members: ["192.0.2.7", "2001:db8::1"] },
      { type: "prefix", members: ["192.0.2.0/31"] },
    ]);
  });

  it("one prefix of many is one shard", () => {
    const nets = Array.from({ length: 1_000 }, (_, i) => `10.${i >> 8}.${i & 255}.0/24`);
    const open = globalPolicy("g", { ingress: [calicoRule("Allow", { source: { selector: "role == 'x'" } })] });
    const compute = started(web, open, globalSet("s", { role: "x" }, ...nets));
    const commit = after(compute, upsert(globalSet("s", { role: "x" }, ...nets.slice(1), "192.0.2.0/24")));
    expect(commit.changes.every(({ key }) => /^set\/.*\/n[01]+$/.test(key))).toBe(true);
    expect(commit.changes.length).toBeLessThanOrEqual(2);
  });
});

describe("Compute: status", () => {
  it.each(["wait-for-datastore", "resync", "in-sync"] as const)("%s changes no record", (status) => {
    expect(lines(after(started(web), { kind: "status", status }))).toEqual([]);
  });
});
