import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseResource, RESOURCE_INFO, resourceKeyOf, resourceKindOf } from "./parse-resource.ts";
import { RESOURCE_KINDS } from "./resource.ts";

const v1 = (kind: string, name: string, rest: object = {}, metadata: object = {}) => ({ apiVersion: "v1", kind, metadata: { name, ...metadata }, ...rest });
const v3 = (kind: string, name: string, spec: unknown) => ({ apiVersion: "projectcalico.org/v3", kind, metadata: { name }, spec });
const value = (object: unknown): unknown => {
  const parsed = parseResource(object);
  return parsed.ok ? parsed.value : parsed.problems.map(({ field }) => field);
};

describe("parseResource", () => {
  it("Node: one InternalIP a family, IPv4 first; annotations win", () => {
    const addresses = [
      { type: "Hostname", address: "n1" },
      { type: "InternalIP", address: "fd00::1" },
      { type: "InternalIP", address: "10.0.0.1" },
      { type: "InternalIP", address: "10.0.0.2" },
      { type: "ExternalIP", address: "1.2.3.4" },
    ];
    expect(value(v1("Node", "n1", { status: { addresses } }))).toMatchObject({ kind: "Node", name: "n1", labels: {}, addresses: ["10.0.0.1", "fd00::1"] });
    const annotations = { "projectcalico.org/IPv4Address": "192.168.0.9/24" };
    expect(value(v1("Node", "n1", { status: { addresses } }, { annotations }))).toMatchObject({ addresses: ["192.168.0.9", "fd00::1"] });
    expect(value(v1("Node", "n1", {}, { annotations: { "projectcalico.org/IPv6Address": "10.0.0.1" } }))).toEqual([
      "metadata.annotations.projectcalico.org/IPv6Address",
    ]);
    expect(value(v1("Node", "n1"))).toMatchObject({ addresses: [] });
  });

  it("Namespace: has its name as a label", () => {
    expect(value(v1("Namespace", "shop", {}, { labels: { team: "x", "kubernetes.io/metadata.name": "lie" } }))).toMatchObject({
      name: "shop",
      labels: { team: "x", "kubernetes.io/metadata.name": "shop" },
    });
  });

  it("Pod", () => {
    const pod = v1(
      "Pod",
      "web",
      {
        spec: {
          nodeName: "n1",
          serviceAccountName: "sa",
          containers: [{ ports: [{ name: "http", containerPort: 8080 }, { containerPort: 9 }, { name: "dns", protocol: "UDP", containerPort: 53 }] }],
          initContainers: [{ ports: [{ name: "once", containerPort: 1 }] }, { restartPolicy: "Always", ports: [{ name: "side", containerPort: 2 }] }],
        },
        status: { phase: "Running", podIP: "10.0.0.9", podIPs: [{ ip: "FD00::9" }, { ip: "10.0.0.9" }, { ip: "10.0.0.9" }] },
      },
      { namespace: "shop", uid: "u", labels: { app: "web" } },
    );
    expect(value(pod)).toMatchObject({
      kind: "Pod",
      namespace: "shop",
      name: "web",
      uid: "u",
      labels: { app: "web" },
      node: "n1",
      serviceAccount: "sa",
      hostNetwork: false,
      isTerminated: false,
      addresses: ["fd00::9", "10.0.0.9"],
      namedPorts: [
        { name: "http", protocol: "TCP", port: 8080 },
        { name: "dns", protocol: "UDP", port: 53 },
        { name: "side", protocol: "TCP", port: 2 },
      ],
    });
    const annotations = { "cni.projectcalico.org/floatingIPs": '["10.0.9.1"]' };
    const asking = v1("Pod", "web", {}, { namespace: "shop", annotations, creationTimestamp: "2026-01-01T00:00:00Z" });
    expect(value(asking)).toMatchObject({ floating: { text: '["10.0.9.1"]', createdAt: "2026-01-01T00:00:00Z" } });
    expect(value(pod)).not.toHaveProperty("floating");
    expect(value(v1("Pod", "web", { status: { podIP: "10.0.0.9", phase: "Failed" } }, { namespace: "shop" }))).toMatchObject({
      node: undefined,
      serviceAccount: "default",
      isTerminated: true,
      addresses: ["10.0.0.9"],
    });
    expect(value(v1("Pod", "web", { status: { podIPs: [{ ip: "x" }] } }, { namespace: "shop" }))).toEqual(["status.podIPs[0].ip"]);
  });

  it("IPPool: defaults, and pools that pods do not take from", () => {
    expect(value(v3("IPPool", "a", { cidr: "10.65.0.0/16" }))).toMatchObject({
      cidr: "10.65.0.0/16",
      blockSize: 26,
      natOutgoing: false,
      disabled: false,
      nodeSelector: "all()",
    });
    expect(value(v3("IPPool", "a", { cidr: "fd00::/64", natOutgoing: true, nodeSelector: "has(x)" }))).toMatchObject({
      blockSize: 122,
      natOutgoing: true,
      nodeSelector: "has(x)",
    });
    for (const spec of [{ disabled: true }, { assignmentMode: "Manual" }, { allowedUses: ["Tunnel"] }]) {
      expect(value(v3("IPPool", "a", { cidr: "10.65.0.0/16", ...spec }))).toMatchObject({ disabled: true });
    }
    expect(value(v3("IPPool", "a", { cidr: "10.65.0.1/16" }))).toEqual(["spec.cidr"]);
    expect(value(v3("IPPool", "a", { cidr: "10.65.0.0/16", blockSize: 33 }))).toEqual(["spec.blockSize"]);
    expect(value(v3("IPPool", "a", { cidr: "10.65.0.0/28" }))).toEqual(["spec.blockSize"]);
    expect(value(v3("IPPool", "a", {}))).toEqual(["spec.cidr"]);
  });

  it("IPAMBlock: addresses in use with their owners", () => {
    const attributes = [
      { handle_id: "h1", secondary: { namespace: "shop", pod: "web", node: "n1" } },
      { handle_id: "tunl", secondary: { node: "n1" } },
      { handle_id: "h2", secondary: { namespace: "shop", pod: "old" }, releasedAt: "2026-01-01T00:00:00Z" },
    ];
    expect(value(v3("IPAMBlock", "10-0-0-0-29", { cidr: "10.0.0.0/29", affinity: "host:n1", allocations: [1, null, 0, null, 2], attributes }))).toEqual({
      kind: "IPAMBlock",
      name: "10-0-0-0-29",
      resourceVersion: "",
      cidr: "10.0.0.0/29",
      node: "n1",
      allocations: [
        { address: "10.0.0.0", handle: "tunl", pod: undefined, node: "n1" },
        { address: "10.0.0.2", handle: "h1", pod: "shop/web", node: "n1" },
        { address: "10.0.0.4", handle: "h2", pod: undefined, node: undefined },
      ],
      isDeleted: false,
    });
    expect(value(v3("IPAMBlock", "b", { cidr: "10.0.0.0/29", affinity: "virtual:load-balancer" }))).toMatchObject({ node: undefined, allocations: [] });
    expect(value(v3("IPAMBlock", "b", { cidr: "10.0.0.0/31", allocations: [0, 0, 0, 7], attributes: [{}] }))).toEqual([
      "spec.allocations[2]",
      "spec.allocations[3]",
    ]);
    expect(value(v3("IPAMBlock", "b", { cidr: "10.0.0.0/31", allocations: [0] }))).toEqual(["spec.allocations[0]"]);
    expect(value(v3("IPAMBlock", "b", { cidr: "10.0.0.0/8" }))).toEqual(["spec.cidr"]);
  });

  it("BlockAffinity", () => {
    expect(value(v3("BlockAffinity", "n1-10-0-0-0-26", { cidr: "10.0.0.0/26", node: "n1", state: "confirmed", type: "host", deleted: "true" }))).toMatchObject({
      node: "n1",
      cidr: "10.0.0.0/26",
      state: "confirmed",
      isDeleted: true,
    });
    expect(value(v3("BlockAffinity", "x", { cidr: "10.0.0.0/26", state: "sure" }))).toEqual(["spec.node", "spec.state"]);
    expect(value(v3("BlockAffinity", "x", { cidr: "10.0.0.0/26", node: "n1" }))).toEqual(["spec.state"]);
  });

  it("never throws, and says what is wrong when it is no value", () => {
    const name = fc.constantFrom(
      "podSelector",
      "ingress",
      "from",
      "ipBlock",
      "cidr",
      "except",
      "ports",
      "port",
      "matchExpressions",
      "values",
      "containers",
      "podIPs",
      "ip",
      "allocations",
    );
    const leaf = fc.oneof(fc.constantFrom<unknown>(null, 0, 1.5, "", "x", "10.0.0.0/8", true), fc.string());
    const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
      tree: fc.oneof({ maxDepth: 5 }, leaf, fc.array(tie("tree"), { maxLength: 3 }), fc.dictionary(name, tie("tree"), { maxKeys: 4 })),
    }));
    fc.assert(
      fc.property(fc.constantFrom(...RESOURCE_KINDS), tree, tree, tree, fc.boolean(), (kind, metadata, spec, status, isStrict) => {
        const parsed = parseResource({ apiVersion: RESOURCE_INFO[kind].groupVersions[0], kind, metadata, spec, status }, { isStrict });
        if (!parsed.ok) expect(parsed.problems.length).toBeGreaterThan(0);
        // Without a name nothing is a value.
        expect(parsed.ok).toBe(false);
      }),
      { numRuns: 1000 },
    );
  });

  it("another kind, another version, no object: a problem of kind", () => {
    for (const object of [v1("Service", "x"), { apiVersion: "extensions/v1beta1", kind: "NetworkPolicy" }, null, "text", []])
      expect(value(object)).toEqual(["kind"]);
  });
});

describe("resourceKeyOf", () => {
  it("names an object that cannot be understood otherwise", () => {
    const object = { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { namespace: "shop", name: "p" }, spec: 5 };
    const kind = resourceKindOf(object);
    expect(kind).toBe("NetworkPolicy");
    expect(kind === undefined ? undefined : resourceKeyOf(kind, object)).toEqual({ kind: "NetworkPolicy", namespace: "shop", name: "p" });
    expect(resourceKeyOf("Pod", { metadata: {} })).toBeUndefined();
  });
});
