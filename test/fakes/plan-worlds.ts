/**
 * Random views for tests of the planner: records with every field, packets, and what policy says of a packet, by the evaluator of the same records.
 *
 * Few addresses, ports and names, so that rules meet packets often.
 */
import * as fc from "fast-check";
import type { PlannedEndpoint } from "../../agent/plan/planned-endpoint.ts";
import { desiredRuleset, type Plan, type PlanCache } from "../../agent/plan/ruleset.ts";
import { podKey } from "../../src/model/names.ts";
import {
  type Policy,
  type PolicyList,
  type RecordKey,
  type RecordValue,
  type Rule,
  type RuleSide,
  recordKey,
  type SetShard,
  type Stack,
} from "../../src/model/record.ts";
import { cidrContains, parseCidr } from "../../src/net/cidr.ts";
import { type IpAddress, parseIp } from "../../src/net/ip.ts";
import { type Direction, evaluate, type SetLookup } from "../../src/policy/evaluate.ts";
import { wholeStack } from "../../src/policy/stack-lists.ts";
import type { InterpretedPacket } from "./nft-interpreter.ts";

export const SETTINGS = { nodeName: "n1", interfacePrefix: "cali" };
const V4 = ["10.0.0.1", "10.0.0.2", "10.0.0.5", "10.0.1.1", "192.0.2.1"];
const V6 = ["fd00::1", "fd00::2", "fd00::5", "fd00:1::1", "2001:db8::1"];
/** That both pods may have, and no packet of `packet` goes to. */
export const FLOATING = ["10.0.9.1", "10.0.9.2", "fd00:9::1"].map(parseIp);
export const A: PlannedEndpoint = { podKey: podKey("shop", "a"), interfaceName: "calia", addresses: [parseIp("10.0.0.1"), parseIp("fd00::1")] };
export const B: PlannedEndpoint = { podKey: podKey("shop", "b"), interfaceName: "calib", addresses: [parseIp("10.0.0.2"), parseIp("fd00::2")] };

const address = fc.constantFrom(...V4, ...V6).map(parseIp);
const net = fc.constantFrom("10.0.0.0/24", "10.0.0.0/30", "10.0.0.1/32", "0.0.0.0/0", "fd00::/64", "fd00::1/128", "::/0", "192.0.2.0/24").map(parseCidr);
const addressSet = fc.constantFrom("s1", "s2", "empty");
const range = fc.tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: -1, max: 2 })).map(([first, more]) => ({ first, last: first + more }));
const side: fc.Arbitrary<RuleSide> = fc.record({
  nets: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 2, arbitrary: fc.array(net, { maxLength: 3 }) }),
  notNets: fc.oneof(
    { weight: 3, arbitrary: fc.constant([]) },
    {
      weight: 1,
      arbitrary: fc.array(
        net.filter((cidr) => !cidr.endsWith("/0")),
        { maxLength: 3 },
      ),
    },
  ),
  sets: fc.oneof({ weight: 2, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(addressSet, { maxLength: 2 }) }),
  notSets: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(addressSet, { maxLength: 2 }) }),
  ports: fc.oneof({ weight: 2, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(range, { maxLength: 3 }) }),
  portSets: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(fc.constantFrom("p1", "no-ports"), { maxLength: 2 }) }),
  notPorts: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(range, { maxLength: 3 }) }),
  notPortSets: fc.oneof({ weight: 4, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(fc.constantFrom("p1", "no-ports"), { maxLength: 2 }) }),
});
export const NOTHING: RuleSide = { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };
const sometimes = <K extends string, T>(key: K, arbitrary: fc.Arbitrary<T>): fc.Arbitrary<{ [P in K]?: T }> =>
  fc.oneof({ weight: 4, arbitrary: fc.constant({}) }, { weight: 1, arbitrary: arbitrary.map((value) => ({ [key]: value }) as { [P in K]?: T }) });
const icmpType = fc.constantFrom(0, 3, 8, 128);
const icmpCode = fc.constantFrom(0, 1, 13);
const icmp = fc.oneof(
  icmpType.map((type) => ({ type })),
  fc.record({ type: icmpType, code: icmpCode }),
);
const protocolNumber = fc.constantFrom(6, 17, 132, 1, 58, 47);
const rule: fc.Arbitrary<Rule> = fc
  .tuple(
    fc.record({
      action: fc.constantFrom("allow", "allow", "deny", "reject", "pass", "log"),
      protocol: fc.oneof({ weight: 1, arbitrary: fc.constant(0) }, { weight: 2, arbitrary: protocolNumber }),
      source: fc.oneof(fc.constant(NOTHING), side),
      destination: fc.oneof(fc.constant(NOTHING), side),
      origin: fc.nat(9),
    }),
    sometimes("ipVersion", fc.constantFrom(4 as const, 6 as const)),
    sometimes("notProtocol", protocolNumber),
    sometimes("name", fc.constantFrom('to the "shop"', "é", "x".repeat(300))),
    sometimes("logPrefix", fc.constantFrom("p", "x".repeat(200))),
    sometimes("icmp", icmp),
    sometimes("notIcmp", icmp),
  )
  .map(([base, version, notProtocol, name, logPrefix, ofIcmp, ofNotIcmp]) => {
    const isIcmp = base.protocol === 1 || base.protocol === 58;
    return { ...base, ...version, ...notProtocol, ...name, ...logPrefix, ...(isIcmp ? { ...ofIcmp, ...ofNotIcmp } : {}) };
  });
export const policyNames = ["p1", "p2", "p3"];
export const policy = (name: string): fc.Arbitrary<Policy> =>
  fc.record({
    kind: fc.constant("policy" as const),
    policyKind: fc.constant("KubernetesNetworkPolicy"),
    namespace: fc.constant("shop"),
    name: fc.constant(name),
    tier: fc.constant("default"),
    ingress: fc.array(rule, { maxLength: 3 }),
    egress: fc.array(rule, { maxLength: 3 }),
  });
const policyKey = fc.constantFrom(...policyNames, "absent").map((name) => `policy/KubernetesNetworkPolicy/shop/${name}`);
const policyKeys = fc.array(policyKey, { maxLength: 3 });
const LIST_PARTS = ["one", "two"] as const;
/** Policies, and lists of them. */
const tierKeys = fc.array(
  fc.oneof({ weight: 3, arbitrary: policyKey }, { weight: 1, arbitrary: fc.constantFrom(...LIST_PARTS, "absent").map((part) => `policies/x/${part}`) }),
  { maxLength: 3 },
);
const policyList = (part: string): fc.Arbitrary<PolicyList> =>
  fc.record({ kind: fc.constant("policy-list" as const), stack: fc.constant("x"), part: fc.constant(part), policies: policyKeys });
export const stack = (id: string): fc.Arbitrary<Stack> =>
  fc
    .tuple(sometimes("profiles", policyKeys), sometimes("logDenied", fc.constant(true as const)), plainStack(id))
    .map(([profiles, logDenied, base]) => ({ ...base, ...profiles, ...logDenied }));
const plainStack = (id: string): fc.Arbitrary<Stack> =>
  fc.record({
    kind: fc.constant("stack" as const),
    id: fc.constant(id),
    tiers: fc.array(
      fc.record({
        name: fc.constantFrom("security", "default"),
        defaultAction: fc.constantFrom("deny" as const, "pass" as const, "reject" as const),
        ingress: tierKeys,
        egress: tierKeys,
      }),
      { maxLength: 2 },
    ),
    noMatchAction: fc.constantFrom("allow" as const, "deny" as const),
  });
const members = (values: fc.Arbitrary<string>): fc.Arbitrary<string[]> => fc.uniqueArray(values, { maxLength: 4 });
export const shards: fc.Arbitrary<SetShard[]> = fc
  .tuple(
    members(address),
    members(address),
    members(net),
    members(
      fc.tuple(address, fc.constantFrom("tcp", "udp", "sctp"), fc.integer({ min: 1, max: 6 })).map(([ip, protocol, port]) => `${ip},${protocol}:${port}`),
    ),
  )
  .map(([s1a, s1b, s2, p1]) => [
    { kind: "set", id: "s1", shard: "0", type: "address", members: s1a.filter((member) => !s1b.includes(member)) },
    { kind: "set", id: "s1", shard: "1", type: "address", members: s1b },
    ...(s1a.length > 1 ? [{ kind: "set" as const, id: "s1", shard: "n", type: "prefix" as const, members: s2 }] : []),
    { kind: "set", id: "s2", shard: "", type: "prefix", members: s2 },
    { kind: "set", id: "p1", shard: "", type: "address-port", members: p1 },
  ]);
export const world: fc.Arbitrary<readonly RecordValue[]> = fc
  .tuple(
    fc.tuple(...policyNames.map(policy)),
    stack("x"),
    stack("y"),
    shards,
    fc.constantFrom("stack/x", "stack/y", "", "stack/absent"),
    fc.constantFrom("stack/x", "stack/y", ""),
    fc.tuple(...LIST_PARTS.map(policyList)),
    fc.subarray(FLOATING),
    fc.subarray(FLOATING),
  )
  .map(([policies, x, y, sets, stackOfA, stackOfB, lists, floatsOfA, floatsOfB]) => [
    ...policies,
    ...lists,
    x,
    y,
    ...sets,
    { kind: "endpoint", namespace: "shop", pod: "a", uid: "u1", stack: stackOfA, addresses: [], ...floating(floatsOfA) },
    { kind: "endpoint", namespace: "shop", pod: "b", uid: "u2", stack: stackOfB, addresses: [], ...floating(floatsOfB) },
  ]);

function floating(addresses: readonly IpAddress[]): { readonly floating?: readonly IpAddress[] } {
  return addresses.length === 0 ? {} : { floating: addresses };
}
export const packet = fc
  .tuple(
    fc.boolean(),
    fc.nat(4),
    fc.nat(4),
    fc.constantFrom(6, 17, 132, 1, 58, 47, 50),
    fc.integer({ min: 1, max: 7 }),
    fc.integer({ min: 1, max: 7 }),
    icmpType,
    icmpCode,
  )
  .map(([isV4, s, d, protocol, sourcePort, destinationPort, type, code]): InterpretedPacket => {
    const hasPorts = protocol === 6 || protocol === 17 || protocol === 132;
    const list = isV4 ? V4 : V6;
    return {
      version: isV4 ? 4 : 6,
      source: list[s] ?? "",
      destination: list[d] ?? "",
      protocol,
      ctState: "new",
      ...(hasPorts ? { sourcePort, destinationPort } : {}),
      ...(protocol === (isV4 ? 1 : 58) ? { icmpType: type, icmpCode: code } : {}),
    };
  });

export function recordMap(values: readonly RecordValue[]): Map<RecordKey, RecordValue> {
  return new Map(values.map((value) => [recordKey(value), value]));
}

export function plan(values: readonly RecordValue[], endpoints: readonly PlannedEndpoint[] = [A, B], cache?: PlanCache): Plan {
  return desiredRuleset({ records: recordMap(values), undecodable: new Map(), endpoints, settings: SETTINGS }, cache);
}

/** What the policy says, by the evaluator of the same records. */
export function expected(values: readonly RecordValue[], pod: string, direction: Direction, each: InterpretedPacket): "accept" | "drop" | "reject" {
  const endpoint = recordMap(values).get(`endpoint/shop/${pod}`);
  return endpoint?.kind === "endpoint" ? expectedOfStack(values, endpoint.stack, direction, each) : "drop";
}

export function expectedOfStack(
  values: readonly RecordValue[],
  key: RecordKey,
  direction: Direction,
  { source, destination, protocol, sourcePort, destinationPort, icmpType: type, icmpCode: code }: InterpretedPacket,
): "accept" | "drop" | "reject" {
  const records = recordMap(values);
  const found = key === "" ? undefined : records.get(key);
  if (key !== "" && found === undefined) return "drop";
  const { action, isRejected } = evaluate({
    stack: found?.kind === "stack" ? wholeStack(found, (each) => records.get(each)) : undefined,
    policy(policyKey) {
      const value = records.get(policyKey);
      return value?.kind === "policy" ? value : undefined;
    },
    sets: setLookup(values.filter((value) => value.kind === "set")),
    direction,
    packet: {
      sourceAddress: parseIp(source),
      destinationAddress: parseIp(destination),
      protocol,
      sourcePort,
      destinationPort,
      icmpType: typeof type === "number" ? type : undefined,
      icmpCode: code,
    },
  });
  if (action === "allow") return "accept";
  return isRejected === true ? "reject" : "drop";
}

function setLookup(sets: readonly SetShard[]): SetLookup {
  return {
    hasAddress: (id, ip) =>
      sets.some((set) => set.id === id && set.members.some((member) => (set.type === "prefix" ? cidrContains(parseCidr(member), ip) : member === ip))),
    hasAddressPort: (id, ip, number, port) =>
      sets.some((set) => set.id === id && set.members.includes(`${ip},${{ 6: "tcp", 17: "udp", 132: "sctp" }[number] ?? ""}:${port}`)),
  };
}
