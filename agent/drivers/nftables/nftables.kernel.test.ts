import { once } from "node:events";
import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { describeNftables } from "../../../test/fakes/nft-suite.ts";
import { canUseNetns, createNetns, type Netns } from "../../../test/kernel/netns.ts";
import { elementChanges, mergeElements } from "../../plan/nft/intervals.ts";
import type { NftElement, NftField, NftOperation, NftRule, NftRuleset, NftSet, NftStatement, NftTable, NftValue } from "../../plan/nft/ruleset.ts";
import { nftText, transactionText } from "../../plan/nft/text.ts";
import { FIELD_TYPES } from "../../plan/nft/values.ts";
import { NftDriver, type NftForeignChange } from "./driver.ts";
import { NftTransactionError } from "./error.ts";
import { tableDrift } from "./state.ts";

const table: NftTable = { family: "inet", name: "sedge" };
const accept: NftStatement = { kind: "accept" };
const match = (field: NftField, value: NftValue, op?: "==" | "!=" | "<" | ">" | "<=" | ">="): NftRule => ({
  statements: [op === undefined ? { kind: "match", field, value } : { kind: "match", field, op, value }, accept],
});
const rule = (...statements: readonly NftStatement[]): NftRule => ({ statements });

/** One rule for each thing that the vocabulary can say. */
const FILTER_RULES: readonly NftRule[] = [
  match("iifname", "eth0"),
  match("iifname", "sdg*"),
  match("oifname", "eth1", "!="),
  match("oifname", "sdg*", "!="),
  match("meta mark", 16),
  match("meta nfproto", "ipv4"),
  match("meta l4proto", "sctp"),
  match("meta pkttype", "multicast"),
  match("ip saddr", "10.65.0.1"),
  match("ip saddr", "10.0.0.0/8"),
  match("ip saddr", "10.0.0.0/9", "!="),
  match("ip saddr", "10.65.0.4/30"),
  match("ip saddr", "0.0.0.0/0"),
  match("ip daddr", "10.65.0.1-10.65.0.9"),
  match("ip daddr", "10.65.0.1-10.65.0.9", "!="),
  match("ip protocol", "tcp"),
  match("ip6 saddr", "fd00::/64"),
  match("ip6 saddr", "fd00::/61"),
  match("ip6 daddr", "fd00::1"),
  match("ip6 nexthdr", "ipv6-icmp"),
  match("ether saddr", "aa:bb:cc:00:11:22"),
  match("ether daddr", "aa:bb:cc:00:11:22", "!="),
  match("tcp sport", 1024, ">"),
  match("tcp dport", 80),
  match("tcp dport", "80-90"),
  match("tcp dport", "80-90", "!="),
  match("tcp flags", "syn"),
  match("tcp flags", "syn,ack", "!="),
  match("udp sport", 53),
  match("udp dport", 53),
  match("sctp sport", 99, "<="),
  match("sctp dport", 99),
  match("th sport", 99),
  match("th dport", 99),
  match("icmp type", "echo-request"),
  match("icmp code", "frag-needed"),
  match("icmpv6 type", "nd-neighbor-solicit"),
  match("icmpv6 code", "port-unreachable"),
  match("ct state", "established,related"),
  match("ct state", "invalid"),
  match("ct state", "established,related", "!="),
  match("ct status", "dnat"),
  match("ct mark", 16),
  match("ct direction", "original"),
  match("fib daddr type", "local"),
  match("fib saddr type", "local", "!="),
  match("fib saddr . iif oif", "missing"),
  match("fib saddr . mark . iif oif", "exists"),
  rule({ kind: "match", field: "meta mark", mask: 0xff, value: 16 }, accept),
  rule({ kind: "match", field: "meta mark", mask: 0xff000000, op: "!=", value: 0x1000000 }, accept),
  rule({ kind: "match", field: "ct mark", mask: 1, value: 0 }, accept),
  rule({ kind: "match-any", field: "tcp dport", values: [443, 80] }, accept),
  rule({ kind: "match-any", field: "udp dport", values: [53, "67-68"] }, accept),
  rule({ kind: "match-any", field: "tcp dport", negate: true, values: [53, 99] }, accept),
  rule({ kind: "match-any", field: "ip saddr", values: ["10.0.0.0/8", "192.0.2.1"] }, accept),
  rule({ kind: "match-any", field: "ip6 saddr", values: ["fd00::1", "fd00::2"] }, accept),
  rule({ kind: "match-any", field: "iifname", values: ["eth0", "eth1"] }, accept),
  rule({ kind: "match-any", field: "icmpv6 type", values: ["nd-neighbor-advert", "nd-neighbor-solicit"] }, accept),
  rule({ kind: "match-any", field: "meta l4proto", values: ["tcp", "udp"] }, { kind: "match", field: "th dport", value: 90 }, accept),
  rule({ kind: "match-any", field: "fib daddr type", values: ["local", "broadcast"] }, accept),
  rule({ kind: "lookup", fields: ["ip saddr"], set: "v4" }, accept),
  rule({ kind: "lookup", fields: ["ip saddr"], negate: true, set: "v4" }, { kind: "drop" }),
  rule({ kind: "lookup", fields: ["ip6 daddr"], set: "v6" }, accept),
  ...[0, 1, 8, 23, 32].map((prefixLength) => rule({ kind: "lookup", fields: ["ip saddr"], prefixLength, set: "v4" }, accept)),
  ...[0, 7, 64, 96, 127].map((prefixLength) => rule({ kind: "lookup", fields: ["ip6 daddr"], prefixLength, set: "v6" }, accept)),
  rule(
    { kind: "lookup", fields: ["ip daddr"], prefixLength: 31, negate: true, set: "v4" },
    { kind: "lookup", fields: ["ip daddr"], prefixLength: 16, negate: true, set: "v4" },
    { kind: "return" },
  ),
  rule({ kind: "lookup", fields: ["ip saddr", "meta l4proto", "th dport"], set: "ports" }, accept),
  rule({ kind: "lookup", fields: ["ip6 saddr", "meta l4proto", "th dport"], set: "ports6" }, accept),
  rule({ kind: "lookup", fields: ["iifname", "ip saddr"], negate: true, set: "spoof" }, { kind: "drop" }),
  rule(
    { kind: "match", field: "ip saddr", value: "10.65.0.1" },
    { kind: "match", field: "ip daddr", value: "10.65.0.2" },
    { kind: "match", field: "tcp dport", value: 80 },
    accept,
  ),
  rule({ kind: "counter" }, { kind: "drop" }),
  rule({ kind: "log", prefix: "deny ", group: 3 }),
  rule({ kind: "log", prefix: "deny " }),
  rule({ kind: "log", group: 3, snaplen: 80 }),
  rule({ kind: "limit", rate: 10, per: "second", burst: 5 }, accept),
  rule({ kind: "limit", rate: 10, per: "minute", burst: 7, over: true }, { kind: "drop" }),
  rule({ kind: "limit", rate: 10_000, per: "second", burst: 4, over: true }, { kind: "counter" }, { kind: "drop" }),
  rule({ kind: "match", field: "ct state", value: "new" }, { kind: "ct-count-over", count: 7 }, { kind: "drop" }),
  rule({ kind: "set-dscp", version: 4, dscp: 46 }),
  rule({ kind: "set-dscp", version: 4, dscp: 10 }),
  rule({ kind: "set-dscp", version: 4, dscp: 1 }),
  rule({ kind: "set-dscp", version: 6, dscp: 39 }),
  rule({ kind: "set-dscp", version: 6, dscp: 56 }),
  rule({ kind: "set-dscp", version: 6, dscp: 0 }),
  rule({ kind: "lookup", fields: ["ip daddr"], negate: true, set: "v4" }, { kind: "set-dscp", version: 4, dscp: 34 }),
  rule({ kind: "set-mark", value: 16 }),
  rule({ kind: "set-mark", value: 0x3, mask: 0xf }),
  rule({ kind: "set-mark", value: 0x3, mask: 0x3 }),
  rule({ kind: "set-mark", value: 0, mask: 0xf0 }),
  rule({ kind: "set-ct-mark", value: 16 }),
  rule({ kind: "set-ct-mark", value: "meta mark" }),
  rule({ kind: "restore-mark" }),
  rule({ kind: "reject", reason: "icmpx port-unreachable" }),
  rule({ kind: "reject", reason: "icmpx admin-prohibited" }),
  rule({ kind: "reject", reason: "icmpx host-unreachable" }),
  rule({ kind: "reject", reason: "icmpx no-route" }),
  rule({ kind: "reject", reason: "icmp port-unreachable" }),
  rule({ kind: "reject", reason: "icmp admin-prohibited" }),
  rule({ kind: "reject", reason: "icmpv6 port-unreachable" }),
  rule({ kind: "reject", reason: "icmpv6 admin-prohibited" }),
  rule({ kind: "match", field: "tcp dport", value: 80 }, { kind: "reject", reason: "tcp reset" }),
  rule({ kind: "jump", chain: "pod" }),
  rule({ kind: "goto", chain: "pod" }),
  rule({ kind: "return" }),
  rule({ kind: "continue" }),
  { ...match("tcp dport", 443), comment: "with a comment" },
  rule({ kind: "vmap", fields: ["iifname"], map: "pods" }),
];

const SETS: readonly { readonly set: NftSet; readonly elements: readonly NftElement[] }[] = [
  {
    set: { name: "v4", key: ["ipv4_addr"], intervals: true, comment: "a set" },
    elements: [{ key: "10.0.0.0/24" }, { key: "10.1.0.5-10.1.0.9" }, { key: "10.2.0.1", comment: "one" }],
  },
  { set: { name: "v6", key: ["ipv6_addr"], intervals: true }, elements: [{ key: "fd00::/64" }, { key: "fd01::1" }] },
  { set: { name: "ports", key: ["ipv4_addr", "inet_proto", "inet_service"] }, elements: [{ key: "10.65.0.1 . tcp . 80" }, { key: "10.65.0.2 . sctp . 99" }] },
  { set: { name: "ports6", key: ["ipv6_addr", "inet_proto", "inet_service"] }, elements: [{ key: "fd00::1 . udp . 53" }] },
  {
    set: { name: "ranges", key: ["ipv4_addr", "inet_proto", "inet_service"], intervals: true },
    elements: [{ key: "10.0.0.0/24 . tcp . 80-90" }, { key: "10.1.0.1 . udp . 53" }],
  },
  { set: { name: "spoof", key: ["ifname", "ipv4_addr"] }, elements: [{ key: "sdg0 . 10.65.0.1" }] },
  { set: { name: "services", key: ["inet_service"] }, elements: [{ key: "80" }, { key: "443" }] },
  { set: { name: "marks", key: ["mark"] }, elements: [{ key: "0x00000001" }] },
  { set: { name: "timed", key: ["ipv4_addr"], timeouts: true }, elements: [{ key: "10.0.0.1" }] },
  { set: { name: "values", key: ["ipv4_addr"], data: "mark" }, elements: [{ key: "10.0.0.1", data: "0x00000005" }] },
  { set: { name: "one", key: ["ipv4_addr"], data: "ipv4_addr" }, elements: [{ key: "192.0.2.1", data: "10.65.0.1" }] },
  { set: { name: "one6", key: ["ipv6_addr"], data: "ipv6_addr" }, elements: [{ key: "2001:db8::1", data: "fd65::1" }] },
  { set: { name: "both", key: ["ipv4_addr", "ipv4_addr"], data: "ipv4_addr" }, elements: [{ key: "10.65.0.1 . 10.65.0.1", data: "192.0.2.1" }] },
  {
    set: { name: "pods", key: ["ifname"], data: "verdict" },
    elements: [
      { key: "sdg0", data: { kind: "goto", chain: "pod" } },
      { key: "sdg1", data: { kind: "drop" }, comment: "unknown yet" },
    ],
  },
];

const RULESET: NftRuleset = {
  table,
  sets: new Map(SETS.map((entry) => [entry.set.name, entry])),
  chains: new Map([
    ["pod", { chain: { name: "pod", comment: "a chain" }, rules: [] }],
    ["forward", { chain: { name: "forward", base: { type: "filter", hook: "forward", priority: 0, policy: "drop" } }, rules: FILTER_RULES }],
    [
      "raw",
      {
        chain: { name: "raw", base: { type: "filter", hook: "prerouting", priority: -300, policy: "accept" } },
        rules: [rule({ kind: "match", field: "iifname", value: "sdg0" }, { kind: "notrack" })],
      },
    ],
    ["input", { chain: { name: "input", base: { type: "filter", hook: "input", priority: 5, policy: "accept" } }, rules: [] }],
    [
      "nat",
      {
        chain: { name: "nat", base: { type: "nat", hook: "postrouting", priority: 100, policy: "accept" } },
        rules: [
          rule({ kind: "nat-map", nat: "snat", version: 4, fields: ["ip saddr", "ip daddr"], map: "both" }),
          rule({ kind: "masquerade" }),
          rule({ kind: "match", field: "ip saddr", value: "10.0.0.0/8" }, { kind: "masquerade", fullyRandom: true }),
        ],
      },
    ],
    [
      "destinations",
      {
        chain: { name: "destinations", base: { type: "nat", hook: "output", priority: -105, policy: "accept" } },
        rules: [
          rule({ kind: "nat-map", nat: "dnat", version: 4, fields: ["ip daddr"], map: "one" }),
          rule({ kind: "nat-map", nat: "dnat", version: 6, fields: ["ip6 daddr"], map: "one6" }),
        ],
      },
    ],
  ]),
};

function operationsOf(ruleset: NftRuleset): NftOperation[] {
  const operations: NftOperation[] = [{ kind: "add-table", table }];
  for (const { set } of ruleset.sets.values()) operations.push({ kind: "add-set", table, set });
  for (const { chain } of ruleset.chains.values()) operations.push({ kind: "add-chain", table, chain });
  for (const { set, elements } of ruleset.sets.values()) operations.push({ kind: "add-elements", table, set, elements });
  for (const [chain, { rules }] of ruleset.chains) for (const each of rules) operations.push({ kind: "add-rule", table, chain, rule: each });
  return operations;
}

/** nft's line breaks and order between elements are its own; everything else must be equal. */
function withoutElementLayout(text: string): string {
  return text.replace(
    /elements = \{ ([^}]*) \}/g,
    (_, elements: string) =>
      `elements = { ${elements
        .split(",")
        .map((element) => element.trim())
        .sort()
        .join(", ")} }`,
  );
}

async function list(ns: Netns): Promise<string> {
  return await ns.exec("nft", "--stateless", "list", "table", "inet", "sedge");
}

async function nftFile(ns: Netns, flags: readonly string[], text: string): Promise<void> {
  const file = join(tmpdir(), `${ns.name}.nft`);
  try {
    await writeFile(file, text);
    await ns.exec("nft", ...flags, "-f", file);
  } finally {
    await rm(file, { force: true });
  }
}

const canRun = canUseNetns();

if (canRun) {
  describeNftables("kernel", async () => {
    const ns = await createNetns("sedge-kt");
    const nft = NftDriver.open({ netns: ns.path });
    const foreign = NftDriver.open({ netns: ns.path });
    return {
      nft,
      foreign,
      close: async () => {
        nft.close();
        foreign.close();
        await ns[Symbol.asyncDispose]();
      },
    };
  });
}

describe.skipIf(!canRun)("NftDriver against nft", () => {
  it("the vocabulary names every field and statement", () => {
    const fields = new Set(
      FILTER_RULES.flatMap(({ statements }) =>
        statements.flatMap((statement) => ("field" in statement ? [statement.field] : "fields" in statement ? statement.fields : [])),
      ),
    );
    // ARP is seen in netdev tables only.
    expect(Object.keys(FIELD_TYPES).filter((field) => !fields.has(field as NftField))).toEqual(["arp saddr ip", "arp daddr ip"]);
  });

  it("nft lists what was sent exactly as nftText writes it, and it reads back without drift", async () => {
    await using ns = await createNetns("sedge-kt");
    using nft = NftDriver.open({ netns: ns.path });
    await nft.apply({ operations: operationsOf(RULESET) });
    expect(withoutElementLayout(await list(ns))).toBe(withoutElementLayout(nftText(RULESET)));
    expect(tableDrift(RULESET, await nft.readTable(table))).toEqual([]);
  });

  it("nftText and transactionText are nft's language: nft makes the same table of them, which reads back without drift", async () => {
    for (const text of [nftText(RULESET), transactionText({ operations: operationsOf(RULESET) })]) {
      await using ns = await createNetns("sedge-kt");
      using nft = NftDriver.open({ netns: ns.path });
      await nftFile(ns, ["--check"], text);
      await nftFile(ns, [], text);
      expect(withoutElementLayout(await list(ns))).toBe(withoutElementLayout(nftText(RULESET)));
      // nft joins loads of adjacent fields; none of these rules has such.
      expect(tableDrift(RULESET, await nft.readTable(table))).toEqual([]);
    }
  });

  it("a rule of nft's that the model cannot say is drift, and a foreign table survives all of ours", async () => {
    await using ns = await createNetns("sedge-kt");
    using nft = NftDriver.open({ netns: ns.path });
    const theirs =
      "table inet theirs {\n\tset s {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.1 }\n\t}\n\n\tchain c {\n\t\tip saddr @s ct bytes > 1000 drop\n\t}\n}\n";
    await nftFile(ns, [], theirs);
    await nft.apply({ operations: operationsOf(RULESET) });
    await ns.exec("nft", "add", "rule", "inet", "sedge", "pod", "ct", "bytes", ">", "1000", "drop");
    await ns.exec("nft", "add", "set", "inet", "sedge", "strange", "{ typeof ct bytes; }");
    expect(tableDrift(RULESET, await nft.readTable(table))).toEqual([
      { kind: "rules-differ", chain: "pod" },
      { kind: "set-extra", set: "strange" },
    ]);
    await nft.apply({ operations: [{ kind: "delete-table", table }, ...operationsOf(RULESET)] });
    expect(tableDrift(RULESET, await nft.readTable(table))).toEqual([]);
    await nft.apply({ operations: [{ kind: "delete-table", table }] });
    expect(await ns.exec("nft", "list", "table", "inet", "theirs")).toBe(theirs);
  });

  it("100,000 elements of each kind of set go in with one commit, read back, and change one by one", async () => {
    await using ns = await createNetns("sedge-kt");
    using nft = NftDriver.open({ netns: ns.path });
    const address = (index: number): string => `10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`;
    const count = 100_000;
    const single: NftSet = { name: "single", key: ["ipv4_addr"] };
    const interval: NftSet = { name: "interval", key: ["ipv4_addr"], intervals: true };
    const elements = Array.from({ length: count }, (_, index) => ({ key: address(index) }));
    const prefixes = Array.from({ length: count }, (_, index) => ({ key: `${address(index * 8)}/30` }));
    const stop = new AbortController();
    const changes: NftForeignChange[] = [];
    const watching = nft.watch(table, (change) => changes.push(change), stop.signal);
    const before = await nft.generation();
    await nft.apply({
      operations: [
        { kind: "add-table", table },
        { kind: "add-set", table, set: single },
        { kind: "add-set", table, set: interval },
        { kind: "add-elements", table, set: single, elements },
        { kind: "add-elements", table, set: interval, elements: prefixes },
      ],
    });
    expect(await nft.generation()).toBe(before + 1);
    const state = await nft.readTable(table);
    expect(state?.sets.get("single")?.elements).toHaveLength(count);
    expect(state?.sets.get("interval")?.elements.at(-1)).toEqual(prefixes.at(-1));
    await nft.apply({
      operations: [
        { kind: "delete-elements", table, set: interval, elements: [{ key: "10.0.0.8/30" }] },
        { kind: "add-elements", table, set: interval, elements: [{ key: "10.0.0.12" }] },
      ],
    });
    const after = (await nft.readTable(table))?.sets.get("interval")?.elements.slice(0, 3);
    expect(after?.map(({ key }) => key)).toEqual(["10.0.0.0/30", "10.0.0.12", "10.0.0.16/30"]);
    // Our own notifications, far more than the socket could hold, neither arrive nor push others out.
    await setImmediate();
    stop.abort();
    await watching;
    expect(changes).toEqual([]);
  });

  it("interval sets of one and of several fields follow any sequence of states by differences alone", async () => {
    await using ns = await createNetns("sedge-kt");
    using nft = NftDriver.open({ netns: ns.path });
    const single: NftSet = { name: "single", key: ["ipv4_addr"], intervals: true };
    const several: NftSet = { name: "several", key: ["ipv4_addr", "inet_proto", "inet_service"], intervals: true };
    const prefix = fc.tuple(fc.nat(255), fc.integer({ min: 24, max: 32 })).map(([host, length]) => `10.0.0.${host}/${length}`);
    const state = fc.record({
      single: fc.array(prefix, { maxLength: 12 }),
      // Disjoint by construction: the kernel refuses concatenations that overlap in part.
      several: fc.uniqueArray(fc.tuple(fc.nat(7), fc.constantFrom("tcp", "udp"), fc.nat(3)), { maxLength: 12, selector: String }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(state, { minLength: 2, maxLength: 6 }), async (states) => {
        await nft.apply({
          operations: [
            { kind: "add-table", table },
            { kind: "delete-table", table },
            { kind: "add-table", table },
            ...[single, several].map((set): NftOperation => ({ kind: "add-set", table, set })),
          ],
        });
        const before = new Map<NftSet, readonly NftElement[]>();
        for (const wanted of states) {
          const operations: NftOperation[] = [];
          const after = new Map<NftSet, readonly NftElement[]>([
            [
              single,
              mergeElements(
                single,
                wanted.single.map((key) => ({ key })),
              ),
            ],
            [
              several,
              mergeElements(
                several,
                wanted.several.map(([block, protocol, port]) => ({ key: `10.0.0.${block * 32}/27 . ${protocol} . ${port * 10}-${port * 10 + 9}` })),
              ),
            ],
          ]);
          for (const [set, elements] of after) {
            const { deleted, added } = elementChanges(before.get(set) ?? [], elements);
            operations.push({ kind: "delete-elements", table, set, elements: deleted }, { kind: "add-elements", table, set, elements: added });
            before.set(set, elements);
          }
          await nft.apply({ operations });
          const read = await nft.readTable(table);
          for (const [set, elements] of after) expect(read?.sets.get(set.name)?.elements).toEqual(elements);
        }
      }),
      { numRuns: 60 },
    );
  });

  it("watch: promises resolved by a notification go on in a process that has nothing else to do", async () => {
    await using ns = await createNetns("sedge-kt");
    const script = `
      import { NftDriver } from ${JSON.stringify(new URL("./driver.ts", import.meta.url).href)};
      const table = { family: "inet", name: "sedge" };
      const nft = NftDriver.open();
      const foreign = NftDriver.open();
      const stop = new AbortController();
      let wake;
      const watching = nft.watch(table, () => wake(), stop.signal);
      for (let round = 0; round < 20; round += 1) {
        const told = new Promise((resolve) => { wake = resolve; });
        await foreign.apply({ operations: [{ kind: "add-table", table }, { kind: "add-chain", table, chain: { name: "c" + round } }] });
        await told;
      }
      stop.abort();
      await watching;
      console.log("told");`;
    const child = ns.spawn(process.execPath, ["--input-type=module", "--eval", script], { stdio: ["ignore", "pipe", "inherit"], timeout: 30_000 });
    let output = "";
    child.stdout?.on("data", (chunk) => {
      output += String(chunk);
    });
    await once(child, "close");
    expect(output).toBe("told\n");
  });

  it("an error names the operation, the element among thousands, and the kernel's code", async () => {
    await using ns = await createNetns("sedge-kt");
    using nft = NftDriver.open({ netns: ns.path });
    const set: NftSet = { name: "s", key: ["ipv4_addr"] };
    const elements = Array.from({ length: 5_000 }, (_, index) => ({ key: `10.0.${index >> 8}.${index & 255}` }));
    await nft.apply({
      operations: [
        { kind: "add-table", table },
        { kind: "add-set", table, set },
        { kind: "add-elements", table, set, elements: [{ key: "10.0.16.7" }] },
      ],
    });
    const failed = nft.apply({ operations: [{ kind: "add-elements", table, set, elements, exclusive: true }] });
    await expect(failed).rejects.toThrow("apply add-elements inet sedge s 10.0.16.7 (operation 0): EEXIST");
    await expect(failed).rejects.toBeInstanceOf(NftTransactionError);
  });
});
