/** Calico's policies from manifests to verdicts, against an evaluator that knows nothing of records, on worlds made at random. */
import * as fc from "fast-check";
import { expect, it } from "vitest";
import { evaluate } from "../../src/ctl/policy-evaluate.ts";
import { calicoManifests } from "./calico-manifests.ts";
import {
  type CalicoPod,
  type CalicoSet,
  type CalicoWorld,
  type Condition,
  type Connection,
  type Entity,
  type Policy,
  passes,
  type Rule,
  type Tier,
} from "./naive-calico.ts";

const NAMESPACES = ["alpha", "beta"] as const;
const label = fc.constantFrom("app", "tier");
const value = fc.constantFrom("a", "b");
const labels = fc.dictionary(label, value, { maxKeys: 2 });
const condition: fc.Arbitrary<Condition> = fc.record({ operator: fc.constantFrom("==", "==", "!=", "has", "!has", "all"), label, value });
const namespaceCondition: fc.Arbitrary<Condition> = fc.record({
  operator: fc.constantFrom("==", "!=", "has", "!has", "all", "global"),
  label: fc.constant("team"),
  value,
});
const orders = fc.constantFrom(1, 2, 2000);
const ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"] as const;
const nets4 = fc.constantFrom("10.0.0.0/30", "10.0.0.2/31", "172.16.0.0/12", "0.0.0.0/0");
const nets6 = fc.constantFrom("fd00::/126", "fd00:1::/64");
const port = fc.constantFrom(80, 81, "web");

const entity = (nets: fc.Arbitrary<string>): fc.Arbitrary<Entity> =>
  fc.record(
    {
      nets: fc.array(nets, { maxLength: 2 }),
      notNets: fc.array(
        nets.filter((net) => !net.endsWith("/0")),
        { maxLength: 1 },
      ),
      selector: condition,
      notSelector: condition,
      namespaceSelector: namespaceCondition,
      accounts: fc.constantFrom(["one"], ["one", "two"]),
    },
    { requiredKeys: [] },
  );
const action = fc.constantFrom("Allow" as const, "Allow" as const, "Deny" as const, "Pass" as const, "Log" as const);
/** One condition or none on each end, and not more on the whole, so that rules match now and then. */
const rule: fc.Arbitrary<Rule> = fc.oneof(
  fc.record({ action, source: entity(nets4).map(few), destination: fc.constant<Entity>({}) }),
  fc.record({ action, source: fc.constant<Entity>({}), destination: entity(nets4).map(few) }),
  fc.record({ action, source: entity(nets6).map(few), destination: fc.constant<Entity>({}), ipVersion: fc.constant(6 as const) }),
  fc.record({ action, source: entity(nets4).map(few), destination: entity(nets4).map(few) }),
  fc.record(
    {
      action,
      protocol: fc.constantFrom("TCP", "UDP"),
      source: entity(nets4).map(few),
      destination: fc.record(
        { ports: fc.array(port, { maxLength: 2 }), notPorts: fc.array(port, { maxLength: 1 }), selector: condition },
        { requiredKeys: [] },
      ),
    },
    { requiredKeys: ["action", "protocol", "source", "destination"] },
  ),
  fc.record({
    action,
    notProtocol: fc.constantFrom("TCP", "ICMP"),
    source: fc.constant<Entity>({}),
    destination: fc.record({ ports: fc.constant(["web"]) }, { requiredKeys: [] }),
  }),
);

/** At most two of the parts. */
function few(given: Entity): Entity {
  return Object.fromEntries(Object.entries(given).slice(0, 2)) as Entity;
}

const rules = fc.array(rule, { maxLength: 3 });
const policy: fc.Arbitrary<Policy> = fc
  .record(
    {
      namespace: fc.constantFrom("", "", ...NAMESPACES),
      name: fc.constantFrom("p", "q", "r"),
      tier: fc.constantFrom("default", "first", "last"),
      order: orders,
      selector: condition,
      namespaceSelector: namespaceCondition,
      ingress: fc.option(rules, { nil: undefined }),
      egress: fc.option(rules, { nil: undefined }),
    },
    { requiredKeys: ["namespace", "name", "tier", "selector", "ingress", "egress"] },
  )
  .filter(({ ingress, egress }) => ingress !== undefined || egress !== undefined)
  .map((given) => {
    const { namespaceSelector, ...rest } = given;
    return rest.namespace === "" && namespaceSelector !== undefined ? { ...rest, namespaceSelector } : rest;
  });

const pod = (i: number): fc.Arbitrary<CalicoPod> =>
  fc.record({
    namespace: fc.constant(NAMESPACES[i % 2] ?? "alpha"),
    name: fc.constant(`p${i}`),
    labels,
    account: fc.constantFrom("one", "two"),
    addresses: fc.constant([ADDRESSES[i] ?? "", `fd00::${i + 1}`]),
    ports: fc.constantFrom([{ name: "web", protocol: "TCP", port: 80 }], [{ name: "web", protocol: "UDP", port: 81 }], []),
  });
const set: fc.Arbitrary<CalicoSet> = fc.record({
  namespace: fc.constantFrom("", ...NAMESPACES),
  name: fc.constantFrom("s", "t"),
  labels,
  nets: fc.uniqueArray(fc.oneof(nets4, nets6), { maxLength: 3 }),
});
const tier: fc.Arbitrary<Tier> = fc.record({
  name: fc.constantFrom("first", "last"),
  order: fc.constantFrom(10, 5_000_000),
  defaultAction: fc.constantFrom("Deny" as const, "Pass" as const),
});
const unique = <T extends { readonly name: string; readonly namespace?: string }>(items: fc.Arbitrary<T>, maxLength: number): fc.Arbitrary<T[]> =>
  fc.uniqueArray(items, { maxLength, selector: ({ namespace = "", name }) => `${namespace}/${name}` });
const world: fc.Arbitrary<CalicoWorld> = fc.record({
  namespaces: fc.record({ alpha: fc.constantFrom({ team: "a" }, {}), beta: fc.constantFrom({ team: "b" }, {}) }),
  pods: fc.tuple(pod(0), pod(1), pod(2), pod(3)),
  sets: unique(set, 2),
  tiers: unique(tier, 2),
  policies: unique(policy, 4),
});

function manifests(given: CalicoWorld): unknown[] {
  return [
    ...Object.entries(given.namespaces).map(([name, own]) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels: own } })),
    ...given.pods.map(({ namespace, name, labels: own, account, addresses, ports }) => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { namespace, name, labels: own },
      spec: {
        nodeName: name,
        serviceAccountName: account,
        containers: [{ name: "c", image: "i", ports: ports.map(({ port: containerPort, ...named }) => ({ ...named, containerPort })) }],
      },
      status: { podIPs: addresses.map((ip) => ({ ip })) },
    })),
    ...calicoManifests(given),
  ];
}

const ends4 = [...ADDRESSES, "172.16.0.9"];
const ends6 = ["fd00::1", "fd00::2", "fd00::3", "fd00::4", "fd00:1::9"];

/** Every pair of addresses of a family, with a few protocols and ports. */
function connections(): Connection[] {
  return [ends4, ends6].flatMap((ends) =>
    ends.flatMap((source) =>
      ends
        .filter((destination) => destination !== source)
        .flatMap((destination) => [
          { source, destination, protocol: "TCP", port: 80 },
          { source, destination, protocol: "UDP", port: 81 },
          { source, destination, protocol: "ICMP", port: undefined },
        ]),
    ),
  );
}

it("verdicts = those of an independent evaluator, on random worlds", () => {
  const verdicts = { allow: 0, deny: 0 };
  fc.assert(
    fc.property(world, (given) => {
      const probes = connections();
      const results = evaluate({
        manifests: manifests(given),
        probes: probes.map(({ source, destination, protocol, port: number }) => ({
          from: source,
          to: destination,
          protocol,
          port: number,
          sourcePort: protocol === "ICMP" ? undefined : 40_000,
        })),
      });
      const text = ({ source, destination, protocol, port: number }: Connection, verdict: string): string =>
        `${source} > ${destination} ${protocol} ${number ?? ""}: ${verdict}`;
      const expected = probes.map((probe) => text(probe, passes(given, probe) ? "allow" : "deny"));
      expect(probes.map((probe, i) => text(probe, results[i]?.verdict ?? "none"))).toEqual(expected);
      for (const { verdict } of results) verdicts[verdict]++;
    }),
    { numRuns: Number(process.env["SEDGE_RUNS"] ?? 150) },
  );
  // Neither verdict is rare: worlds in which nothing is decided would prove nothing.
  expect(Math.min(verdicts.allow, verdicts.deny) / (verdicts.allow + verdicts.deny)).toBeGreaterThan(0.2);
});
