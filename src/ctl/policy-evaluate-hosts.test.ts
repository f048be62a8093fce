/** Host endpoints and ICMP in `sedge policy evaluate`. */
import { describe, expect, it } from "vitest";
import { evaluate } from "./policy-evaluate.ts";

const node = (name: string, address: string): unknown => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name },
  status: { addresses: [{ type: "InternalIP", address }] },
});
const calico = (kind: string, name: string, spec: unknown, labels = {}): unknown => ({
  apiVersion: "projectcalico.org/v3",
  kind,
  metadata: { name, labels },
  spec,
});
const pod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { namespace: "shop", name: "web", labels: { app: "web" } },
  spec: { nodeName: "n2" },
  status: { podIPs: [{ ip: "10.0.0.1" }] },
};
const nodes = [node("n1", "192.0.2.1"), node("n2", "192.0.2.2")];

interface Sent {
  readonly from?: string;
  readonly to?: string;
  readonly port?: number;
  readonly protocol?: string | number;
  readonly icmpType?: number;
}

function verdict(objects: readonly unknown[], probe: Sent): string {
  const [result] = evaluate({ manifests: [pod, ...nodes, ...objects], probes: [{ from: "shop/web", to: "192.0.2.1", port: 22, ...probe }] });
  return `${result?.verdict}: ${result?.ingress.reason}`;
}

const ssh = calico("GlobalNetworkPolicy", "ssh", { selector: "has(host)", ingress: [{ action: "Allow", protocol: "TCP", destination: { ports: [22] } }] });
const host = (spec: object): unknown => calico("HostEndpoint", "n1-all", { node: "n1", interfaceName: "*", ...spec }, { host: "" });

describe("host endpoints", () => {
  it("without one, no policy applies to a node", () => {
    expect(verdict([ssh], {})).toBe("allow: 192.0.2.1 is no pod: no policy applies to it");
  });

  it("with one, what neither a policy nor a profile allows is denied", () => {
    expect(verdict([host({})], {})).toBe("deny: 192.0.2.1 (HostEndpoint n1-all) is a host endpoint, and no policy or profile allows it");
    expect(verdict([host({ profiles: ["projectcalico-default-allow"] })], {})).toMatch(
      /^allow: allowed by ingress rule 0 of Profile projectcalico-default-allow/,
    );
    expect(verdict([host({ profiles: ["missing"] })], {})).toMatch(/^deny: Profile missing applies and is not known/);
  });

  it("a policy that applies decides before the profiles", () => {
    const open = host({ profiles: ["projectcalico-default-allow"] });
    expect(verdict([ssh, open], {})).toMatch(/^allow: allowed by ingress rule 0 of GlobalNetworkPolicy ssh/);
    expect(verdict([ssh, open], { port: 80 })).toMatch(/^deny: .* is isolated, and no ingress rule of GlobalNetworkPolicy ssh allows it/);
    expect(verdict([ssh, open], { to: "192.0.2.2", port: 80 })).toMatch(/^allow/);
  });

  it("a profile's labels count for selectors", () => {
    const labelled = calico("Profile", "p", { labelsToApply: { host: "x" } });
    const bare = calico("HostEndpoint", "n1-all", { node: "n1", interfaceName: "*", profiles: ["p"] });
    expect(verdict([ssh, labelled, bare], {})).toMatch(/^allow: allowed by ingress rule 0 of GlobalNetworkPolicy ssh/);
  });
});

describe("what packets have besides ports", () => {
  const ping = calico("GlobalNetworkPolicy", "ping", {
    selector: "app == 'web'",
    ingress: [
      { action: "Allow", protocol: "ICMP", icmp: { type: 8 } },
      { action: "Allow", protocol: 47 },
    ],
  });
  it.each([
    ["the ICMP type", { protocol: "ICMP", icmpType: 8 }, "allow"],
    ["another ICMP type", { protocol: "ICMP", icmpType: 0 }, "deny"],
    ["no ICMP type", { protocol: "ICMP" }, "deny"],
    ["a protocol by number", { protocol: 47 }, "allow"],
    ["another one", { protocol: 50 }, "deny"],
  ] as const)("%s", (_, sent, expected) => {
    expect(verdict([ping], { from: "203.0.113.1", to: "shop/web", ...sent })).toMatch(new RegExp(`^${expected}`));
  });
});
