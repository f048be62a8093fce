/** A pod that moves from one set of rules to another under a flood: no packet may find the moment in between. See agent/plan/stages.ts. */
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { NftDriver } from "../../agent/drivers/nftables/driver.ts";
import type { NftElement, NftOperation, NftRule, NftSet } from "../../agent/plan/nft/ruleset.ts";
import { stagesOf } from "../../agent/plan/stages.ts";
import { parseIp } from "../../src/net/ip.ts";
import { createNetns, whyNoKernel } from "./netns.ts";
import { AF_INET, bindSocket, closeSocket, openSocket, SOCK_DGRAM, tryReceive } from "./sockets.ts";

const noKernel = whyNoKernel();
const FLOOD = fileURLToPath(new URL("udp-flood.ts", import.meta.url));
const PORT = 9;
const CHANGES = 12_000;

describe.skipIf(noKernel !== undefined)(`a verdict map that leads to a new chain [${noKernel ?? "kernel"}]`, () => {
  it(`lets nothing pass in ${CHANGES} changes under a flood`, async () => {
    await using netns = await createNetns("sedge-st");
    using nft = NftDriver.open({ netns: netns.path });
    const table = { family: "inet", name: "sedge" } as const;
    const set: NftSet = { name: "from", key: ["ifname"], data: "verdict" };
    const drop: NftRule = { statements: [{ kind: "drop" }] };
    const lead = (i: number): NftElement => ({ key: "lo", data: { kind: "goto", chain: `stack-${i}` } });
    const chain = (i: number): readonly NftOperation[] => [
      { kind: "add-chain", table, chain: { name: `stack-${i}` } },
      { kind: "add-rule", table, chain: `stack-${i}`, rule: drop },
    ];
    await nft.apply({
      operations: [
        { kind: "add-table", table },
        { kind: "add-set", table, set },
        ...chain(0),
        { kind: "add-elements", table, set, elements: [lead(0)] },
        { kind: "add-chain", table, chain: { name: "input", base: { type: "filter", hook: "input", priority: 0, policy: "accept" } } },
        { kind: "add-rule", table, chain: "input", rule: { statements: [{ kind: "vmap", fields: ["iifname"], map: "from" }] } },
      ],
    });
    const receiver = openSocket(netns.path, AF_INET, SOCK_DGRAM);
    bindSocket(receiver, { address: parseIp("127.0.0.1"), port: PORT });
    const flood = netns.spawn(process.execPath, [FLOOD, netns.path, "127.0.0.1", String(PORT)], { stdio: ["ignore", "pipe", "inherit"] });
    if (flood.stdout !== null) await once(flood.stdout, "data");
    for (let i = 0; i < CHANGES; i++) {
      const operations: readonly NftOperation[] = [
        ...chain(i + 1),
        { kind: "delete-elements", table, set, elements: [lead(i)] },
        { kind: "add-elements", table, set, elements: [lead(i + 1)] },
        { kind: "flush-chain", table, chain: `stack-${i}` },
        { kind: "delete-chain", table, chain: `stack-${i}` },
      ];
      for (const stage of stagesOf({ operations })) await nft.apply(stage);
    }
    let passed = 0;
    while (tryReceive(receiver) !== undefined) passed++;
    closeSocket(receiver);
    expect(passed).toBe(0);
  });
});
