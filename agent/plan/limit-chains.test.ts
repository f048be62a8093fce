import { describe, expect, it } from "vitest";
import { podKey } from "../../src/model/names.ts";
import type { RecordKey, RecordValue } from "../../src/model/record.ts";
import type { TrafficLimits } from "../../src/model/traffic-limits.ts";
import { parseIp } from "../../src/net/ip.ts";
import { diffRulesets } from "./diff.ts";
import { limitChain } from "./limit-chains.ts";
import { nftText } from "./nft/text.ts";
import { desiredRuleset, type Plan } from "./ruleset.ts";

const NONE: TrafficLimits = { ingress: {}, egress: {}, problems: [] };

function plan(limits: TrafficLimits | undefined): Plan {
  const endpoint = { kind: "endpoint", namespace: "shop", pod: "web", uid: "", stack: "", addresses: [] } as const;
  const records = new Map<RecordKey, RecordValue>([["endpoint/shop/web", limits === undefined ? endpoint : { ...endpoint, limits }]]);
  return desiredRuleset({
    records,
    undecodable: new Map(),
    endpoints: [{ podKey: podKey("shop", "web"), interfaceName: "cali1", addresses: [parseIp("10.65.0.1")] }],
    settings: { nodeName: "n1", interfacePrefix: "cali" },
  });
}

describe("limitChain", () => {
  it("none for bandwidth alone, and a code point is of what is sent", () => {
    expect(limitChain("cali1", "ingress", { ...NONE, ingress: { bitsPerSecond: 1e6, burstBytes: 1 }, dscp: 46 })).toBeUndefined();
    expect(limitChain("cali1", "egress", { ...NONE, dscp: 46 })?.rules).toHaveLength(2);
  });

  it("packets first, then connections", () => {
    const chain = limitChain("cali1", "ingress", { ...NONE, ingress: { packetsPerSecond: 10, packetBurst: 7, maxConnections: 3 } });
    expect(chain?.chain.name).toBe("limits/cali1/ingress");
    expect(chain?.rules.map(({ comment }) => comment)).toEqual(["ingressPacketRate", "ingressMaxConnections"]);
  });
});

describe("a ruleset with limits", () => {
  const limited = { ...NONE, egress: { maxConnections: 2 } };

  it("is that without them, but for chains and maps of their own, which come before what is established", () => {
    const [without, withLimits] = [nftText(plan(undefined).ruleset), nftText(plan(limited).ruleset)];
    expect(without).not.toContain("limit");
    for (const chain of ["from-pod", "pod-to-host"])
      expect(withLimits).toMatch(new RegExp(`chain ${chain} {\\n\\t\\tiifname vmap @limit-from\\n\\t\\tct state established,related accept`));
    expect(withLimits).toMatch(/"?cali1"? : jump limits\/cali1\/egress/);
  });

  it("taking the last limit away: the map's members go before the chains that they name", () => {
    const { operations } = diffRulesets(plan(limited).ruleset, plan(undefined).ruleset);
    const members = operations.findIndex((operation) => operation.kind === "delete-elements" && operation.set.name === "limit-from");
    const chain = operations.findIndex((operation) => operation.kind === "delete-chain" && operation.chain === "limits/cali1/egress");
    expect(members).toBeGreaterThanOrEqual(0);
    expect(chain).toBeGreaterThan(members);
    expect(operations.at(-1)).toMatchObject({ kind: "delete-set" });
  });

  it("annotations that are not understood are reported with the pod's record", () => {
    expect(plan({ ...NONE, problems: ["qos.projectcalico.org/dscp: wrong"] }).failures).toEqual([
      { key: "endpoint/shop/web", reason: "qos.projectcalico.org/dscp: wrong" },
    ]);
  });
});
