/** Records of every kind for property tests: small name space, so that keys collide and values change. */
import * as fc from "fast-check";
import type { NodeName } from "../../src/model/names.ts";
import type { RecordValue, Rule, RuleSide } from "../../src/model/record.ts";
import { hostCidr, parseCidr } from "../../src/net/cidr.ts";
import { type IpAddress, ipFromBytes } from "../../src/net/ip.ts";

const name = fc.constantFrom("a", "b", "c", "d", "ä-long-name.with.dots");
const address = fc
  .oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
  .map((bytes): IpAddress => ipFromBytes(bytes));
const cidr = fc.oneof(address.map(hostCidr), fc.constantFrom(parseCidr("10.0.0.0/8"), parseCidr("fd00::/64"), parseCidr("0.0.0.0/0")));
const port = fc.nat(65535);
const range = fc.record({ first: port, last: port });
const side: fc.Arbitrary<RuleSide> = fc.record(
  {
    nets: fc.array(cidr, { maxLength: 3 }),
    notNets: fc.array(cidr, { maxLength: 2 }),
    sets: fc.array(name, { maxLength: 2 }),
    notSets: fc.array(name, { maxLength: 1 }),
    ports: fc.array(range, { maxLength: 2 }),
    portSets: fc.array(name, { maxLength: 1 }),
    notPorts: fc.array(range, { minLength: 1, maxLength: 2 }),
    notPortSets: fc.array(name, { minLength: 1, maxLength: 1 }),
  },
  { requiredKeys: ["nets", "notNets", "sets", "notSets", "ports", "portSets"] },
);
const icmp = fc.record({ type: fc.nat(254), code: fc.nat(255) }, { requiredKeys: ["type"] });
const rule: fc.Arbitrary<Rule> = fc.record(
  {
    action: fc.constantFrom("allow", "deny", "pass", "log", "reject"),
    protocol: fc.nat(255),
    source: side,
    destination: side,
    origin: fc.nat(300),
    ipVersion: fc.constantFrom(4 as const, 6 as const),
    notProtocol: fc.integer({ min: 1, max: 255 }),
    icmp,
    notIcmp: icmp,
    name,
    logPrefix: name,
  },
  { requiredKeys: ["action", "protocol", "source", "destination", "origin"] },
);
const tier = fc.record({
  name,
  defaultAction: fc.constantFrom("deny" as const, "pass" as const, "reject" as const),
  ingress: fc.array(name),
  egress: fc.array(name),
});

/** Canonical values: lists that the wire sorts have at most one entry or are made sorted by the codec under test. */
const positive = fc.integer({ min: 1, max: 2 ** 32 - 1 });
const directionLimits = fc.record(
  {
    bitsPerSecond: fc.integer({ min: 1, max: 1e15 }),
    burstBytes: positive,
    peakBitsPerSecond: fc.integer({ min: 1, max: 1e15 }),
    minBurstBytes: positive,
    packetsPerSecond: positive,
    packetBurst: positive,
    maxConnections: positive,
  },
  { requiredKeys: [] },
);

export const recordValue: fc.Arbitrary<RecordValue> = fc.oneof(
  fc.record({
    kind: fc.constant("node" as const),
    name: name.map((text) => text as NodeName),
    addresses: fc.array(address, { maxLength: 1 }),
    blocks: fc.array(cidr, { maxLength: 1 }),
  }),
  fc.record({ kind: fc.constant("borrowed" as const), node: name.map((text) => text as NodeName), addresses: fc.array(address, { maxLength: 1 }) }),
  fc.record({
    kind: fc.constant("loans" as const),
    block: cidr,
    loans: fc.array(fc.record({ address, id: name, isAgreed: fc.boolean() }), { maxLength: 1 }),
  }),
  fc.record(
    {
      kind: fc.constant("node-settings" as const),
      node: name.map((text) => text as NodeName),
      failsafeInbound: fc.constantFrom([], [{ protocol: "tcp" as const, port: 22 }], [{ protocol: "udp" as const, port: 53, net: parseCidr("fd00::/8") }]),
      failsafeOutbound: fc.constantFrom([], [{ protocol: "sctp" as const, port: 65_535 }]),
      endpointToHostAction: fc.constantFrom("accept" as const, "return" as const, "drop" as const),
      logPrefix: fc.constantFrom("calico-packet", "%t %n"),
      denyAction: fc.constantFrom("drop" as const, "reject" as const),
    },
    { requiredKeys: ["kind", "node"] },
  ),
  fc.record({ kind: fc.constant("node-pools" as const), node: name.map((text) => text as NodeName), excluded: fc.array(name, { maxLength: 1 }) }),
  fc.record({ kind: fc.constant("pool" as const), name, cidr, natOutgoing: fc.boolean(), disabled: fc.boolean(), blockSize: fc.nat(128) }),
  fc.record(
    {
      kind: fc.constant("endpoint" as const),
      namespace: name,
      pod: name,
      uid: fc.string(),
      stack: fc.string(),
      addresses: fc.array(address, { maxLength: 1 }),
      limits: fc.record(
        { ingress: directionLimits, egress: directionLimits, dscp: fc.nat(63), problems: fc.array(fc.string(), { maxLength: 2 }) },
        { requiredKeys: ["ingress", "egress", "problems"] },
      ),
      floating: fc.array(address, { minLength: 1, maxLength: 1 }),
    },
    { requiredKeys: ["kind", "namespace", "pod", "uid", "stack", "addresses"] },
  ),
  fc.record(
    {
      kind: fc.constant("stack" as const),
      id: name,
      tiers: fc.array(tier, { maxLength: 3 }),
      noMatchAction: fc.constantFrom("allow" as const, "deny" as const),
      profiles: fc.array(name, { minLength: 1, maxLength: 2 }),
      logDenied: fc.constant(true as const),
    },
    { requiredKeys: ["kind", "id", "tiers", "noMatchAction"] },
  ),
  fc.record({ kind: fc.constant("policy-list" as const), stack: name, part: name, policies: fc.array(name, { maxLength: 3 }) }),
  fc.record({
    kind: fc.constant("host" as const),
    name,
    interfaceName: fc.constantFrom("", "*", "eth0"),
    addresses: fc.array(address, { maxLength: 1 }),
    stack: name,
    forwardStack: name,
    preDnatStack: name,
    untrackedStack: fc.constantFrom("", "stack/a"),
  }),
  fc.record({
    kind: fc.constant("policy" as const),
    policyKind: name,
    namespace: name,
    name,
    tier: name,
    ingress: fc.array(rule, { maxLength: 3 }),
    egress: fc.array(rule, { maxLength: 3 }),
  }),
  fc.record({
    kind: fc.constant("set" as const),
    id: name,
    shard: fc.constantFrom("", "0", "1", "01"),
    type: fc.constant("address" as const),
    members: fc.array(address, { maxLength: 1 }),
  }),
  fc.record({
    kind: fc.constant("set" as const),
    id: name,
    shard: fc.constantFrom("", "0"),
    type: fc.constant("address-port" as const),
    members: fc.array(
      fc.tuple(address, fc.constantFrom("tcp", "udp", "sctp"), port).map(([text, protocol, number]) => `${text},${protocol}:${number}`),
      { maxLength: 1 },
    ),
  }),
  fc.record({
    kind: fc.constant("set" as const),
    id: name,
    shard: fc.constantFrom("", "0"),
    type: fc.constant("prefix" as const),
    members: fc.array(cidr, { maxLength: 1 }),
  }),
);
