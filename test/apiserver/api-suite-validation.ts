// What is refused, and with which words: NetworkPolicy, Pod, metadata, custom kinds, unknown fields.
import { describe, expect, it } from "vitest";
import { at, type Body, type Json, textAt } from "./api-client.ts";
import { type GetScope, PODS, POLICIES, POOLS, podManifest, policyManifest, poolManifest, uniqueName } from "./api-objects.ts";

function causes(body: Body): string[] {
  return ((at(body, "details", "causes") ?? []) as Json[]).map((cause) => `${textAt(cause, "field")}: ${textAt(cause, "message")}`);
}

const port = (value: Body): Body => ({ podSelector: {}, ingress: [{ ports: [value] }] });
const peer = (value: Body): Body => ({ podSelector: {}, ingress: [{ from: [value] }] });
const block = (value: Body): Body => peer({ ipBlock: value });

/** A policy that is refused, and the start of each finding. */
const REFUSED_POLICIES: readonly (readonly [string, Body, string[]])[] = [
  ["port 0", port({ port: 0 }), ["spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"]],
  [
    "port name too long",
    port({ port: "this-name-is-too-long" }),
    ['spec.ingress[0].ports[0].port: Invalid value: "this-name-is-too-long": must be no more than 15 characters'],
  ],
  ["protocol", port({ port: 1, protocol: "ICMP" }), ['spec.ingress[0].ports[0].protocol: Unsupported value: "ICMP": supported values: ']],
  ["endPort below port", port({ port: 90, endPort: 80 }), ["spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`"]],
  [
    "endPort with a name",
    port({ port: "http", endPort: 80 }),
    ["spec.ingress[0].ports[0].endPort: Invalid value: 80: may not be specified when `port` is non-numeric"],
  ],
  ["endPort alone", port({ endPort: 80 }), ["spec.ingress[0].ports[0].endPort: Invalid value: 80: may not be specified when `port` is not specified"]],
  ["empty peer", peer({}), ["spec.ingress[0].from[0]: Required value: must specify a peer"]],
  [
    "ipBlock and selector",
    peer({ ipBlock: { cidr: "10.0.0.0/8" }, podSelector: {} }),
    ["spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer"],
  ],
  ["no cidr", block({ cidr: "" }), ["spec.ingress[0].from[0].ipBlock.cidr: Required value"]],
  [
    "not a cidr",
    block({ cidr: "10.0.0.0" }),
    ['spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)'],
  ],
  [
    "length beyond the family",
    block({ cidr: "10.0.0.0/33" }),
    ['spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "10.0.0.0/33": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)'],
  ],
  [
    "host bits",
    block({ cidr: "10.0.0.1/8" }),
    ['spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length'],
  ],
  [
    "except outside",
    block({ cidr: "10.0.0.0/8", except: ["11.0.0.0/16"] }),
    ['spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`'],
  ],
  [
    "except equal",
    block({ cidr: "10.0.0.0/8", except: ["10.0.0.0/8"] }),
    ['spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`'],
  ],
  [
    "operator",
    { podSelector: { matchExpressions: [{ key: "a", operator: "Is" }] } },
    ['spec.podSelector.matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator'],
  ],
  [
    "In without values",
    { podSelector: { matchExpressions: [{ key: "a", operator: "In" }] } },
    ["spec.podSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"],
  ],
  [
    "Exists with values",
    { podSelector: { matchExpressions: [{ key: "a", operator: "Exists", values: ["b"] }] } },
    ["spec.podSelector.matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"],
  ],
  [
    "label value",
    { podSelector: { matchLabels: { a: "no spaces" } } },
    ['spec.podSelector.matchLabels: Invalid value: "no spaces": a valid label must be an empty string or consist of'],
  ],
  ["label key", { podSelector: { matchLabels: { "a b": "c" } } }, ['spec.podSelector.matchLabels: Invalid value: "a b": name part must consist of']],
  ["policy type", { podSelector: {}, policyTypes: ["Both"] }, ['spec.policyTypes[0]: Unsupported value: "Both": supported values: ']],
  [
    "two things at once",
    { podSelector: {}, egress: [{ ports: [{ port: 0 }], to: [{}] }] },
    ["spec.egress[0].ports[0].port: Invalid value: 0", "spec.egress[0].to[0]: Required value: must specify a peer"],
  ],
];

const REFUSED_POOLS: readonly (readonly [string, Body, string])[] = [
  ["nothing", {}, "spec.cidr: Required value"],
  [
    "type",
    { cidr: "10.0.0.0/16", natOutgoing: "yes" },
    'spec.natOutgoing: Invalid value: "string": spec.natOutgoing in body must be of type boolean: "string"',
  ],
  ["enum", { cidr: "10.0.0.0/16", ipipMode: "Sometimes" }, 'spec.ipipMode: Unsupported value: "Sometimes": supported values: "Never", "Always", "CrossSubnet"'],
  ["minimum", { cidr: "10.0.0.0/16", blockSize: 5 }, "spec.blockSize: Invalid value: 5: spec.blockSize in body should be greater than or equal to 20"],
  ["set", { cidr: "10.0.0.0/16", allowedUses: ["Workload", "Workload"] }, 'spec.allowedUses[1]: Duplicate value: "Workload"'],
  ["format", { cidr: "10.0.0.0" }, 'spec.cidr: Invalid value: "10.0.0.0": spec.cidr in body must be of type cidr: "10.0.0.0"'],
];

export function validationCases(scope: GetScope): void {
  describe("validation", () => {
    it.each(REFUSED_POLICIES)("NetworkPolicy: %s", async (_name, spec, expected) => {
      const { api, namespace } = scope();
      const { code, body } = await api.ask("POST", POLICIES(await namespace()), { body: policyManifest("p", spec) });
      expect([code, body["reason"]]).toEqual([422, "Invalid"]);
      expect(body["message"]).toMatch(/^NetworkPolicy\.networking\.k8s\.io "p" is invalid: /);
      const found = causes(body);
      expect(found).toHaveLength(expected.length);
      for (const [index, text] of expected.entries()) expect(found[index]).toContain(text);
    });

    it("NetworkPolicy: defaults", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      const make = async (name: string, spec: Body): Promise<Body> => (await api.ask("POST", POLICIES(ns), { body: policyManifest(name, spec) })).body;
      expect(await make("a", { podSelector: {} })).toMatchObject({ spec: { podSelector: {}, policyTypes: ["Ingress"] } });
      expect(await make("b", { podSelector: {}, egress: [{ ports: [{ port: 53 }] }] })).toMatchObject({
        spec: { policyTypes: ["Ingress", "Egress"], egress: [{ ports: [{ port: 53, protocol: "TCP" }] }] },
      });
      expect(await make("c", { podSelector: {}, policyTypes: ["Egress"] })).toMatchObject({ spec: { policyTypes: ["Egress"] } });
      expect(await make("d", { podSelector: {}, egress: [] })).toMatchObject({ spec: { policyTypes: ["Ingress"] } });
    });

    it("NetworkPolicy: wrong types are a bad request", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      for (const spec of [{ podSelector: "all" }, { podSelector: {}, ingress: {} }, port({ port: 80, endPort: "90" })] as Body[]) {
        const { code, body } = await api.ask("POST", POLICIES(ns), { body: policyManifest("p", spec) });
        expect([code, body["reason"], body["kind"]]).toEqual([400, "BadRequest", "Status"]);
      }
    });

    it("Pod: what is refused", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      const refused = async (body: Body): Promise<string[]> => {
        const answer = await api.ask("POST", PODS(ns), { body });
        expect(answer.code).toBe(422);
        return causes(answer.body);
      };
      expect(await refused(podManifest("Web"))).toEqual([
        expect.stringContaining('metadata.name: Invalid value: "Web": a lowercase RFC 1123 subdomain must consist of'),
      ]);
      expect(await refused(podManifest("p", { spec: { containers: [] } }))).toEqual(["spec.containers: Required value"]);
      expect(await refused(podManifest("p", { labels: { "-a": "b" } }))).toEqual([
        expect.stringContaining('metadata.labels: Invalid value: "-a": name part must consist of'),
      ]);
      const twice = { name: "x", image: "registry.example/x:1" };
      expect(await refused(podManifest("p", { spec: { containers: [twice, twice] } }))).toEqual(['spec.containers[1].name: Duplicate value: "x"']);
      expect(await refused(podManifest("p", { spec: { containers: [{ ...twice, ports: [{ containerPort: 70_000 }] }] } }))).toEqual([
        "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
      ]);
    });

    it("Pod: the node of a pod cannot be changed", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      await api.ask("POST", PODS(ns), { body: podManifest("p", { spec: { nodeName: "n1" } }) });
      const moved = await api.ask("PATCH", `${PODS(ns)}/p`, { type: "application/merge-patch+json", body: { spec: { nodeName: "n2" } } });
      expect(moved.code).toBe(422);
      expect(causes(moved.body)[0]).toContain("spec: Forbidden: pod updates may not change fields other than");
    });

    it.each(REFUSED_POOLS)("IPPool: %s", async (_name, spec, expected) => {
      const { api } = scope();
      const name = uniqueName("pool");
      const { code, body } = await api.ask("POST", POOLS, { body: poolManifest(name, spec) });
      expect([code, body["reason"]]).toEqual([422, "Invalid"]);
      expect(causes(body)).toContain(expected);
      expect(textAt(body, "message")).toContain(`IPPool.projectcalico.org "${name}" is invalid`);
    });

    it("IPPool: defaults of the schema; unknown fields are dropped, named or refused as asked", async () => {
      const { api } = scope();
      const body = (name: string): Body => poolManifest(name, { cidr: "10.5.0.0/16", colour: "green" });
      const strict = await api.ask("POST", `${POOLS}?fieldValidation=Strict`, { body: body(uniqueName("pool")) });
      expect(strict.body).toMatchObject({
        code: 400,
        reason: "BadRequest",
        message: expect.stringContaining('strict decoding error: unknown field "spec.colour"'),
      });
      const warned = await api.ask("POST", `${POOLS}?fieldValidation=Warn`, { body: body(uniqueName("pool")) });
      expect(warned.headers["warning"]).toContain('unknown field \\"spec.colour\\"');
      expect(warned.body).toMatchObject({
        spec: {
          vxlanMode: "Never",
          ipipMode: "Never",
          natOutgoing: false,
          disabled: false,
          nodeSelector: "all()",
          allowedUses: ["Workload", "Tunnel"],
          assignmentMode: "Automatic",
        },
      });
      expect(at(warned.body, "spec", "colour")).toBeUndefined();
      const ignored = await api.ask("POST", `${POOLS}?fieldValidation=Ignore`, { body: body(uniqueName("pool")) });
      expect([ignored.code, ignored.headers["warning"]]).toEqual([201, undefined]);
    });

    it("unknown fields of built-in kinds, likewise", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      const spec = { podSelector: {}, ingress: [{ form: [] }] };
      expect((await api.ask("POST", `${POLICIES(ns)}?fieldValidation=Strict`, { body: policyManifest("p", spec) })).body).toMatchObject({
        code: 400,
        message: expect.stringContaining('unknown field "spec.ingress[0].form"'),
      });
      expect((await api.ask("POST", POLICIES(ns), { body: policyManifest("p", spec) })).headers["warning"]).toContain("spec.ingress[0].form");
    });

    it("a new definition adds its kind, with status, columns and validation; deleting it takes the objects along", async () => {
      const { api } = scope();
      const group = `${uniqueName("g")}.example.com`;
      const crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
      const schema = {
        type: "object",
        properties: {
          spec: { type: "object", required: ["size"], properties: { size: { type: "integer", minimum: 1 }, when: { type: "string", default: "now" } } },
        },
      };
      const crd = {
        apiVersion: "apiextensions.k8s.io/v1",
        kind: "CustomResourceDefinition",
        metadata: { name: `widgets.${group}` },
        spec: {
          group,
          scope: "Cluster",
          names: { plural: "widgets", kind: "Widget" },
          versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema: schema } }],
        },
      };
      const watch = await api.watch(`${crds}?watch=true&fieldSelector=metadata.name=widgets.${group}`);
      expect((await api.ask("POST", crds, { body: crd })).code).toBe(201);
      for (
        let event = await watch.next();
        event !== undefined && !JSON.stringify(at(event.object, "status", "conditions") ?? []).includes('"the initial names have been accepted"');
      )
        event = await watch.next();
      watch.close();
      const widgets = `/apis/${group}/v1/widgets`;
      while ((await api.ask("GET", widgets)).code === 404) await new Promise((resolve) => setTimeout(resolve, 50));
      const widget = (name: string, spec: Body): Body => ({ apiVersion: `${group}/v1`, kind: "Widget", metadata: { name }, spec });
      expect((await api.ask("POST", widgets, { body: widget("a", { size: 1 }) })).body).toMatchObject({
        spec: { size: 1, when: "now" },
        metadata: { generation: 1 },
      });
      expect(causes((await api.ask("POST", widgets, { body: widget("b", {}) })).body)).toContain("spec.size: Required value");
      expect((await api.ask("POST", crds, { body: { ...crd, metadata: { name: "wrong" } } })).body).toMatchObject({
        code: 422,
        message: expect.stringContaining('must be spec.names.plural+"."+spec.group'),
      });
      await api.ask("DELETE", `${crds}/widgets.${group}`);
      while ((await api.ask("GET", widgets)).code !== 404) await new Promise((resolve) => setTimeout(resolve, 50));
    });
  });
}
