import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LIMIT_ANNOTATIONS, parseTrafficLimits } from "./traffic-limits.ts";

const qos = (values: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [`qos.projectcalico.org/${name}`, value]));
const DEFAULT_BURST = 2 ** 32 / 8;

describe("parseTrafficLimits", () => {
  it("none without an annotation of ours", () => {
    expect(parseTrafficLimits({ "cni.projectcalico.org/hwAddr": "02:00:00:00:00:01" })).toBeUndefined();
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
    expect(parseTrafficLimits(annotations)).toEqual({ ingress: {}, egress: {}, problems: [], ...expected });
  });

  it.each([
    [{ ingressBandwidth: "10" }, 'ingressBandwidth: "10" is not from 1000'],
    [{ ingressBandwidth: "fast" }, 'ingressBandwidth: "fast" is no quantity'],
    [{ egressBandwidth: "-1M" }, "is no quantity"],
    [{ egressBurst: "1M" }, "egressBurst: it needs qos.projectcalico.org/egressBandwidth"],
    [{ ingressBandwidth: "2M", ingressPeakrate: "1M" }, "ingressPeakrate: must be above"],
    [{ ingressBandwidth: "2M", ingressMinburst: "9k" }, "ingressMinburst: it needs"],
    [{ ingressPacketRate: "10001" }, "is not from 1 to 10000"],
    [{ ingressPacketBurst: "10" }, "ingressPacketBurst: it needs"],
    [{ egressMaxConnections: "0" }, "egressMaxConnections"],
    [{ dscp: "64" }, 'dscp: "64" is neither'],
    [{ dscp: "gold" }, 'dscp: "gold" is neither'],
  ])("%j is named, and what else is there holds", (wrong, problem) => {
    const limits = parseTrafficLimits({ ...qos(wrong), "kubernetes.io/ingress-bandwidth": "3M", ...qos({ egressPacketRate: "9" }) });
    expect(limits?.problems).toHaveLength(1);
    expect(limits?.problems[0]).toContain(problem);
    expect(limits?.egress.packetsPerSecond).toBe(9);
  });

  it("never throws, and every limit that it gives is in its range", () => {
    const annotations = fc.dictionary(fc.constantFrom(...LIMIT_ANNOTATIONS), fc.oneof(fc.string(), fc.stringMatching(/^[0-9]{1,20}[kMGKi]{0,2}$/)));
    fc.assert(
      fc.property(annotations, (given) => {
        const limits = parseTrafficLimits(given);
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
