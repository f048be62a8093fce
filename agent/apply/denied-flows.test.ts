import { describe, expect, it } from "vitest";
import { podKey } from "../../src/model/names.ts";
import { type RecordKey, type RecordValue, type Rule, type RuleSide, recordKey } from "../../src/model/record.ts";
import { parseIp } from "../../src/net/ip.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import type { ConntrackFlow } from "../drivers/conntrack/driver.ts";
import { DeniedFlows } from "./denied-flows.ts";
import type { LocalEndpoint } from "./local-endpoints.ts";

const NOTHING: RuleSide = { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };
const allow = (port: number): Rule => ({
  action: "allow",
  protocol: 6,
  source: { ...NOTHING, sets: ["s"] },
  destination: { ...NOTHING, ports: [{ first: port, last: port }] },
  origin: 0,
});
const A: LocalEndpoint = { podKey: podKey("shop", "a"), interfaceName: "calia", addresses: [parseIp("10.0.0.1")], mac: "", containerId: "c", podUid: "u" };

function world(rules: readonly Rule[], members: readonly string[]): readonly RecordValue[] {
  return [
    { kind: "policy", policyKind: "K", namespace: "shop", name: "p", tier: "default", ingress: rules, egress: [] },
    { kind: "stack", id: "x", tiers: [{ name: "default", defaultAction: "deny", ingress: ["policy/K/shop/p"], egress: [] }], noMatchAction: "allow" },
    { kind: "endpoint", namespace: "shop", pod: "a", uid: "u", stack: "stack/x", addresses: [] },
    { kind: "set", id: "s", shard: "", type: "address", members },
  ];
}

const flow = (source: string, destination: string, destinationPort: number): ConntrackFlow => ({
  source: parseIp(source),
  destination: parseIp(destination),
  protocol: 6,
  sourcePort: 40_000,
  destinationPort,
  icmpType: undefined,
  icmpCode: undefined,
  entry: undefined as never,
});
const IN = flow("10.0.0.9", "10.0.0.1", 80);
const OTHER = flow("10.0.0.8", "10.0.0.1", 80);
const OUT = flow("10.0.0.1", "10.0.0.9", 80);
const FROM_HOST = flow("192.0.2.1", "10.0.0.1", 80);

function cut(
  values: readonly RecordValue[],
  more: { readonly undecodable?: ReadonlyMap<RecordKey, string>; readonly endpoints?: readonly LocalEndpoint[] } = {},
): readonly ConntrackFlow[] {
  const gone: ConntrackFlow[] = [];
  const flows = new DeniedFlows({
    conntrack: { flows: () => [IN, OTHER, OUT, FROM_HOST], deleteFlow: (each) => gone.push(each) > 0 },
    source: { records: new Map(values.map((value) => [recordKey(value), value])), undecodable: more.undecodable ?? new Map(), outdated: new Map() },
    endpoints: () => more.endpoints ?? [A],
    hostAddresses: () => new Set([parseIp("192.0.2.1")]),
    clock: new ManualClock(),
    log: silentLogger(),
    onCut: () => undefined,
  });
  expect(flows.cut()).toBe(gone.length);
  return gone;
}

describe("DeniedFlows", () => {
  it("what policy denies now is cut; what it allows, what leaves, and what the host itself opened is not", () => {
    expect(cut(world([allow(80)], ["10.0.0.9", "10.0.0.8"]))).toEqual([]);
    expect(cut(world([allow(80)], ["10.0.0.8"]))).toEqual([IN]);
    expect(cut(world([allow(81)], ["10.0.0.8"]))).toEqual([IN, OTHER]);
  });

  it("not while anything is unknown: a record that is not understood, a policy that is missing, a pod made anew", () => {
    const denied = world([], []);
    expect(cut(denied)).toEqual([IN, OTHER]);
    expect(cut(denied, { undecodable: new Map([["set/s/1", "of a later version"]]) })).toEqual([]);
    expect(cut(denied.filter(({ kind }) => kind !== "policy"))).toEqual([]);
    expect(cut(denied.filter(({ kind }) => kind !== "endpoint"))).toEqual([]);
    expect(cut(denied, { endpoints: [{ ...A, podUid: "new" }] })).toEqual([]);
  });
});
