import { describe, expect, it } from "vitest";
import { parseFelixConfiguration } from "./parse-felix-configuration.ts";

const object = (name: string, spec: unknown): unknown => ({ apiVersion: "projectcalico.org/v3", kind: "FelixConfiguration", metadata: { name }, spec });

describe("parseFelixConfiguration", () => {
  it("what has a meaning here, in any case of letters; the rest is named", () => {
    const parsed = parseFelixConfiguration(
      object("default", {
        failsafeInboundHostPorts: [{ protocol: "TCP", port: 22 }, { protocol: "udp", port: 68, net: "10.0.0.1/8" }, { port: 179 }],
        failsafeOutboundHostPorts: [],
        defaultEndpointToHostAction: "RETURN",
        logPrefix: "%t %p",
        iptablesFilterDenyAction: "Drop",
        nftablesFilterDenyAction: "Reject",
        floatingIPs: "Enabled",
        bpfEnabled: false,
        reportingInterval: "0s",
        ipipMTU: null,
      }),
      { isStrict: true },
    );
    expect(parsed).toEqual({
      ok: true,
      value: {
        kind: "FelixConfiguration",
        name: "default",
        resourceVersion: "",
        createdAt: "",
        nodeSelector: "",
        settings: {
          failsafeInbound: [
            { protocol: "tcp", port: 22 },
            { protocol: "udp", port: 68, net: "10.0.0.0/8" },
            { protocol: "tcp", port: 179 },
          ],
          failsafeOutbound: [],
          endpointToHostAction: "return",
          logPrefix: "%t %p",
          denyAction: "reject",
        },
        floatingIps: true,
        unused: ["bpfEnabled", "reportingInterval"],
      },
    });
  });

  it.each([
    ["absent spec", undefined],
    ["empty fields", { defaultEndpointToHostAction: "", logPrefix: "", nftablesFilterDenyAction: "", failsafeInboundHostPorts: null }],
  ])("%s: nothing is said", (_name, spec) => {
    expect(parseFelixConfiguration(object("node.n1", spec))).toMatchObject({ ok: true, value: { settings: {}, floatingIps: undefined, unused: [] } });
  });

  it.each([
    ["a failsafe port of ten", { failsafeInboundHostPorts: [{ port: 22 }, { port: 70_000 }] }, "spec.failsafeInboundHostPorts[1].port"],
    ["a failsafe port without a number", { failsafeInboundHostPorts: [{ protocol: "TCP" }] }, "spec.failsafeInboundHostPorts[0].port"],
    ["a failsafe protocol", { failsafeInboundHostPorts: [{ protocol: "ICMP", port: 1 }] }, "spec.failsafeInboundHostPorts[0].protocol"],
    ["a failsafe net", { failsafeInboundHostPorts: [{ port: 1, net: "10.0.0.0/40" }] }, "spec.failsafeInboundHostPorts[0].net"],
    ["an action", { defaultEndpointToHostAction: "Maybe" }, "spec.defaultEndpointToHostAction"],
    ["a deny action", { nftablesFilterDenyAction: "Return" }, "spec.nftablesFilterDenyAction"],
    ["a prefix", { logPrefix: "\n" }, "spec.logPrefix"],
    ["a switch", { floatingIPs: "On" }, "spec.floatingIPs"],
  ])("%s that is not understood is left out as a whole, and the rest holds", (_name, spec, field) => {
    const parsed = parseFelixConfiguration(object("default", { failsafeOutboundHostPorts: [], ...spec }));
    expect(parsed).toMatchObject({ ok: false, problems: [{ field }], closed: { settings: { failsafeOutbound: [] } } });
    expect(Object.keys(parsed.ok ? {} : (parsed.closed?.settings ?? {}))).toEqual(["failsafeOutbound"]);
  });

  it("names: default, node.NAME, or any with a selector", () => {
    const problems = (name: string, spec: object): unknown => {
      const parsed = parseFelixConfiguration(object(name, spec));
      return parsed.ok ? [] : parsed.problems.map(({ field }) => field);
    };
    expect(problems("edge", { nodeSelector: "zone == 'edge'" })).toEqual([]);
    expect(problems("edge", {})).toEqual(["metadata.name"]);
    expect(problems("default", { nodeSelector: "all()" })).toEqual(["spec.nodeSelector"]);
    expect(problems("node.n1", { nodeSelector: "all()" })).toEqual(["spec.nodeSelector"]);
  });
});
