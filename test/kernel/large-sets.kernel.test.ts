/** Members of a set that is denied, under a flood from one of them, while the set changes its form and its prefixes: no packet may find the moment in between. */
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { KernelTable } from "../../agent/apply/kernel-table.ts";
import { NftDriver } from "../../agent/drivers/nftables/driver.ts";
import { desiredRuleset, PlanCache } from "../../agent/plan/ruleset.ts";
import { podKey } from "../../src/model/names.ts";
import { type RecordValue, type RuleSide, recordKey } from "../../src/model/record.ts";
import { parseIp } from "../../src/net/ip.ts";
import { createNetns, whyNoKernel } from "./netns.ts";
import { AF_INET, bindSocket, closeSocket, openSocket, SOCK_DGRAM, tryReceive } from "./sockets.ts";

const noKernel = whyNoKernel();
const FLOOD = fileURLToPath(new URL("udp-flood.ts", import.meta.url));
const PORT = 9;
const CHANGES = 1_000;
const LIMITS = { largeAbove: 4, smallUpTo: 3 };
const NOTHING: RuleSide = { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };
const OTHERS = ["10.1.0.0/16", "10.2.2.0/24", "10.3.3.3/32"];

const DENIED = [...OTHERS, "127.0.0.0/8"];
const LARGE = [...DENIED, "11.0.0.0/8", "10.4.0.0/14"];

/** lo is a pod's interface here. */
const FIXED: readonly RecordValue[] = [
  {
    kind: "policy",
    policyKind: "K",
    namespace: "shop",
    name: "p",
    tier: "default",
    ingress: [],
    egress: [{ action: "deny", protocol: 0, source: NOTHING, destination: { ...NOTHING, sets: ["n:denied"] }, origin: 0 }],
  },
  { kind: "stack", id: "x", tiers: [{ name: "default", defaultAction: "pass", ingress: [], egress: ["policy/K/shop/p"] }], noMatchAction: "allow" },
  { kind: "endpoint", namespace: "shop", pod: "a", uid: "", stack: "stack/x", addresses: [] },
];
const ENDPOINTS = [{ podKey: podKey("shop", "a"), interfaceName: "lo", addresses: [parseIp("127.0.0.1")] }];
const SETTINGS = { nodeName: "n1", interfacePrefix: "lo" };

describe.skipIf(noKernel !== undefined)(`a set of prefixes that changes under a flood [${noKernel ?? "kernel"}]`, () => {
  it.each<[string, readonly [readonly string[], readonly string[]]]>([
    ["small and large by turns", [DENIED, [...DENIED, "10.4.0.0/14"]]],
    ["small, a wider prefix in the place of a narrower one and back", [["127.0.0.0/8"], ["127.0.0.0/16"]]],
    ["large, a wider prefix in the place of a narrower one and back", [LARGE, [...OTHERS, "11.0.0.0/8", "10.4.0.0/14", "127.0.0.0/16"]]],
    ["large, a narrower prefix of a length that was not there, and back", [LARGE, [...OTHERS, "11.0.0.0/8", "10.4.0.0/14", "127.0.0.0/12"]]],
    ["large, a wider prefix of a length that was not there, and back", [LARGE, [...OTHERS, "11.0.0.0/8", "10.4.0.0/14", "126.0.0.0/7"]]],
    ["large, lengths come and go", [LARGE, [...DENIED, "11.0.0.0/8", "10.4.0.0/15"]]],
  ])(
    `%s: nothing passes`,
    async (_, turns) => {
      await using netns = await createNetns("sedge-ls");
      using nft = NftDriver.open({ netns: netns.path });
      const table = new KernelTable(nft);
      const cache = new PlanCache(LIMITS);
      const apply = async (members: readonly string[]): Promise<void> => {
        const values: readonly RecordValue[] = [...FIXED, { kind: "set", id: "n:denied", shard: "", type: "prefix", members }];
        const records = new Map(values.map((value) => [recordKey(value), value]));
        await table.apply(desiredRuleset({ records, undecodable: new Map(), endpoints: ENDPOINTS, settings: SETTINGS }, cache).ruleset);
      };
      const receiver = openSocket(netns.path, AF_INET, SOCK_DGRAM);
      bindSocket(receiver, { address: parseIp("127.0.0.1"), port: PORT });
      const flood = netns.spawn(process.execPath, [FLOOD, netns.path, "127.0.0.1", String(PORT)], { stdio: ["ignore", "pipe", "inherit"] });
      if (flood.stdout !== null) await once(flood.stdout, "data");
      await apply(OTHERS);
      const received = (): number => {
        let count = 0;
        while (tryReceive(receiver) !== undefined) count++;
        return count;
      };
      while (received() === 0) await new Promise((resolve) => setImmediate(resolve));
      await apply(turns[0]);
      // A connection that began before the rule is none of the rule's business.
      await netns.exec("true");
      received();
      let passed = 0;
      for (let i = 0; i < CHANGES; i++) {
        await apply(turns[i % 2 === 0 ? 1 : 0]);
        passed += received();
      }
      closeSocket(receiver);
      expect(passed).toBe(0);
    },
    60_000,
  );
});
