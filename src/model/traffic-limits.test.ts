import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LIMIT_ANNOTATIONS, readTrafficLimits } from "./traffic-limits.ts";

const qos = (values: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [`qos.projectcalico.org/${name}`, value]));
const DEFAULT_BURST = 2 ** 32 / 8;

describe("readTrafficLimits", () => {
  it("none without an annotation of ours", () => {
    expect(readTrafficLimits({ "cni.projectcalico.org/hwAddr": "02:00:00:00:00:01" })).toBeUndefined();
  });

  it.each([
    [qos({ ingressBandwidth: "10M" }), { ingress: { bitsPerSecond: 10e6, burstBytes: DEFAULT_BURST } }],
    [qos({ egressBandwidth: "1Gi", egressBurst: "8M" }), { egress: { bitsPerSecond: 2 ** 30, burstBytes: 1e6 } }],
    [{ "kubernetes.io/egress-bandwidth": "2M" }, { egress: { bitsPerSecond: 2e6, burstBytes: DEFAULT_BURST } }],
    // Calico's own annotation wins.
    [{ "kubernetes.io/egress-bandwidth": "2M", ...qos({ egressBandwidth: "1.5k" }) }, { egress: { bitsPerSecond: 1500, burstBytes: DEFAULT_BURST } }],
    [
      qos({ ingressBandwidth: "1M", ingressPeakrate: "2M", ingressMinburst: "3000", ingressBurst: "80k" }),
      { ingress: { bitsPerSecond: 1e6, burstBytes: 10_000, peakBitsPerSecond: 2e6, minBurstBytes: 3_000 } },
    ],
    [qos({ ingressPacketRate: "100" }), { ingress: { packetsPerSecond: 100, packetBurst: 5 } }],
    [
      qos({ egressPacketRate: "1e3", egressPacketBurst: "20", egressMaxConnections: "7" }),
      { egress: { packetsPerSecond: 1000, packetBurst: 20, maxConnections: 7 } },
    ],
    [qos({ dscp: "EF" }), { dscp: 46 }],
    [qos({ dscp: "af21" }), { dscp: 18 }],
    [qos({ dscp: "63" }), { dscp: 63 }],
  ])("%j", (annotations, expected) => {
    expect(readTrafficLimits(annotations)?.limits).toEqual({ ingress: {}, egress: {}, problems: [], ...expected });
  });

  it.each([
    [{ ingressBandwidth: "10" }, 'ingressBandwidth: "10" is not from 1000'],
    [{ ingressBandwidth: "fast" }, 'ingressBandwidth: "fast" is no quantity'],
    [{ egressBandwidth: "-1M" }, "is no quantity"],
    [{ egressBurst: "1M" }, 'egressBurst: "1M" needs qos.projectcalico.org/egressBandwidth'],
    [{ ingressBandwidth: "2M", ingressPeakrate: "1M" }, 'ingressPeakrate: "1M" must be above'],
    [{ ingressBandwidth: "2M", ingressMinburst: "9k" }, 'ingressMinburst: "9k" needs'],
    [{ ingressPacketRate: "10001" }, "is not from 1 to 10000"],
    [{ ingressPacketBurst: "10" }, 'ingressPacketBurst: "10" needs'],
    [{ egressMaxConnections: "0" }, "egressMaxConnections"],
    [{ dscp: "64" }, 'dscp: "64" is neither'],
    [{ dscp: "gold" }, 'dscp: "gold" is neither'],
  ])("%j is named, and what else is there holds", (wrong, problem) => {
    const limits = readTrafficLimits({ ...qos(wrong), "kubernetes.io/ingress-bandwidth": "3M", ...qos({ egressPacketRate: "9" }) })?.limits;
    expect(limits?.problems).toHaveLength(1);
    expect(limits?.problems[0]).toContain(problem);
    expect(limits?.egress.packetsPerSecond).toBe(9);
  });

  describe("of a pod that runs", () => {
    const key = (name: string): string => `qos.projectcalico.org/${name}`;
    const good = qos({ ingressBandwidth: "10M", ingressBurst: "80k", egressPacketRate: "9", dscp: "EF" });
    const before = readTrafficLimits(good)?.inForce;

    it.each<[string, Record<string, string>, readonly string[], object]>([
      [
        "one is not understood: its value of before holds",
        { ingressBandwidth: "fast", ingressBurst: "80k", egressPacketRate: "9", dscp: "EF" },
        ['qos.projectcalico.org/ingressBandwidth: "fast" is no quantity, for example 10M; "10M" of before stays in force'],
        { ingress: { bitsPerSecond: 10e6, burstBytes: 10_000 }, egress: { packetsPerSecond: 9, packetBurst: 5 }, dscp: 46 },
      ],
      [
        "beside it another changes: that holds",
        { ingressBandwidth: "fast", ingressBurst: "160k", egressPacketRate: "30" },
        ['"10M" of before stays in force'],
        { ingress: { bitsPerSecond: 10e6, burstBytes: 20_000 }, egress: { packetsPerSecond: 30, packetBurst: 5 } },
      ],
      [
        "one that was never good limits nothing",
        { egressMaxConnections: "many" },
        ['egressMaxConnections: "many" is no quantity, for example 10M; it limits nothing'],
        { ingress: {}, egress: {} },
      ],
      [
        "what is taken away is not kept",
        { ingressBurst: "x" },
        ['ingressBurst: "x" needs qos.projectcalico.org/ingressBandwidth; it limits nothing'],
        { ingress: {}, egress: {} },
      ],
    ])("%s", (_what, changed, problems, expected) => {
      const after = readTrafficLimits(qos(changed), before);
      expect(after?.limits).toEqual({ ...expected, problems: problems.map((problem) => expect.stringContaining(problem) as string) });
    });

    it("two slips in a row keep the last that was understood; one that was never in force is not kept", () => {
      const first = readTrafficLimits(qos({ ingressBandwidth: "fast", ingressPeakrate: "1M" }), before);
      expect(first?.inForce).toEqual({ [key("ingressBandwidth")]: "10M" });
      const second = readTrafficLimits(qos({ ingressBandwidth: "faster", ingressPeakrate: "x" }), first?.inForce);
      expect(second?.limits.ingress).toEqual({ bitsPerSecond: 10e6, burstBytes: DEFAULT_BURST });
      expect(second?.limits.problems).toHaveLength(2);
    });
  });

  it("never throws, and every limit that it gives is in its range", () => {
    const annotations = fc.dictionary(fc.constantFrom(...LIMIT_ANNOTATIONS), fc.oneof(fc.string(), fc.stringMatching(/^[0-9]{1,20}[kMGKi]{0,2}$/)));
    fc.assert(
      fc.property(annotations, (given) => {
        const limits = readTrafficLimits(given)?.limits;
        for (const { bitsPerSecond = 1e3, burstBytes = 1, packetsPerSecond = 1, maxConnections = 1 } of limits === undefined
          ? []
          : [limits.ingress, limits.egress]) {
          expect(bitsPerSecond).toBeGreaterThanOrEqual(1e3);
          expect(burstBytes).toBeLessThan(2 ** 32);
          expect(packetsPerSecond).toBeLessThanOrEqual(10_000);
          expect(maxConnections).toBeGreaterThanOrEqual(1);
        }
      }),
    );
  });
});
