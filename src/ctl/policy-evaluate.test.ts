import { describe, expect, it } from "vitest";
import { parseManifests } from "./manifests.ts";
import { EvaluationError, evaluate } from "./policy-evaluate.ts";

const pod = (name: string, ips: readonly string[], rest: { labels?: object; spec?: object; status?: object } = {}): unknown => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: name.split("/")[1], namespace: name.split("/")[0], labels: rest.labels ?? {} },
  spec: { nodeName: "n1", ...rest.spec },
  status: { podIPs: ips.map((ip) => ({ ip })), ...rest.status },
});
const policy = (name: string, spec: unknown): unknown => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name: name.split("/")[1], namespace: name.split("/")[0] },
  spec,
});
const node = { apiVersion: "v1", kind: "Node", metadata: { name: "n1" }, status: { addresses: [{ type: "InternalIP", address: "192.168.0.1" }] } };
const web = pod("shop/web", ["10.0.0.1"], { labels: { app: "web" }, spec: { containers: [{ ports: [{ name: "http", containerPort: 8080 }] }] } });
const client = pod("shop/client", ["10.0.0.2", "fd00::2"], { labels: { app: "client" } });
const closed = policy("shop/closed", { podSelector: { matchLabels: { app: "web" } } });
const open80 = policy("shop/open", {
  podSelector: { matchLabels: { app: "web" } },
  ingress: [{ from: [{ ipBlock: { cidr: "172.16.0.0/12" } }] }, { from: [{ podSelector: {} }], ports: [{ port: "http" }] }],
});

const one = (manifests: readonly unknown[], probe: object) => evaluate({ manifests, probes: [probe] })[0];
const problemsOf = (manifests: readonly unknown[], probes: readonly unknown[] = []): string[] => {
  try {
    evaluate({ manifests, probes });
  } catch (error) {
    if (error instanceof EvaluationError) return error.problems.map(({ source, message }) => `${source}: ${message}`);
    throw error;
  }
  return [];
};

describe("evaluate", () => {
  it("answers in order, with the probe's own fields and what decided", () => {
    const probes = [
      { id: 7, from: "shop/client", to: "shop/web", port: 8080, protocol: "tcp" },
      { from: "shop/client", to: "10.0.0.1", port: 81 },
      { from: "172.16.0.9", to: "shop/web", port: "http" },
    ];
    expect(evaluate({ manifests: [web, client, open80], probes })).toEqual([
      {
        ...probes[0],
        verdict: "allow",
        egress: { verdict: "allow", policy: null, rule: null, policies: [], reason: "no policy applies to egress of shop/client" },
        ingress: { verdict: "allow", policy: "shop/open", rule: 1, policies: ["shop/open"], reason: "allowed by ingress rule 1 of NetworkPolicy shop/open" },
      },
      {
        ...probes[1],
        verdict: "deny",
        egress: { verdict: "allow", policy: null, rule: null, policies: [], reason: "no policy applies to egress of shop/client" },
        ingress: {
          verdict: "deny",
          policy: "shop/open",
          rule: null,
          policies: ["shop/open"],
          reason: "10.0.0.1 is isolated, and no ingress rule of NetworkPolicy shop/open allows it",
        },
      },
      {
        ...probes[2],
        verdict: "allow",
        egress: { verdict: "allow", policy: null, rule: null, policies: [], reason: "172.16.0.9 is no pod: no policy applies to it" },
        ingress: { verdict: "allow", policy: "shop/open", rule: 0, policies: ["shop/open"], reason: "allowed by ingress rule 0 of NetworkPolicy shop/open" },
      },
    ]);
  });

  it("two policies that apply and do not allow: none of them is the one that decided", () => {
    expect(one([web, client, closed, open80], { from: "shop/client", to: "shop/web", port: 1 })?.ingress).toMatchObject({
      policy: null,
      policies: ["shop/closed", "shop/open"],
    });
  });

  it("a pod reaches itself; its node reaches it, another address of no pod does not", () => {
    const manifests = [node, web, closed, pod("kube-system/agent", ["192.168.0.1"], { spec: { hostNetwork: true } })];
    const verdict = (from: string) => one(manifests, { from, to: "shop/web", port: 80 })?.verdict;
    expect(["shop/web", "10.0.0.1", "192.168.0.1", "kube-system/agent", "192.168.0.2"].map(verdict)).toEqual(["allow", "allow", "allow", "allow", "deny"]);
  });

  it("pods on the host's network have no policy, and are no peer of a selector", () => {
    const host = pod("shop/host", ["192.168.0.7"], { labels: { app: "web" }, spec: { hostNetwork: true, nodeName: "n2" } });
    const any = policy("shop/any", { podSelector: { matchLabels: { app: "web" } }, ingress: [{ from: [{ namespaceSelector: {} }] }] });
    expect(one([client, host, closed], { from: "shop/client", to: "shop/host", port: 80 })?.verdict).toBe("allow");
    expect(one([web, host, any], { from: "shop/host", to: "shop/web", port: 80 })?.verdict).toBe("deny");
  });

  it("pods without addresses, without node, and namespaces that nobody declared", () => {
    const bare = (name: string): unknown => ({ apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "x", labels: { name } } });
    const rule = { from: [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "x" } } }] };
    const manifests = [bare("a"), bare("b"), client, policy("x/p", { podSelector: { matchLabels: { name: "a" } }, ingress: [rule] })];
    expect(one(manifests, { from: "x/b", to: "x/a", port: 80 })?.verdict).toBe("allow");
    expect(one(manifests, { from: "shop/client", to: "x/a", port: 80 })?.verdict).toBe("deny");
  });

  it("the first family that both have; none: nothing passes", () => {
    const six = pod("shop/six", ["fd00::6"], { labels: { app: "web" } });
    const from6 = policy("shop/six", { podSelector: { matchLabels: { app: "web" } }, ingress: [{ from: [{ ipBlock: { cidr: "fd00::/64" } }] }] });
    expect(one([client, six, from6], { from: "shop/client", to: "shop/six", port: 80 })?.verdict).toBe("allow");
    expect(one([web, six, from6], { from: "shop/web", to: "shop/six", port: 80 })).toMatchObject({
      verdict: "deny",
      egress: { reason: "shop/web and shop/six have no address of the same family" },
    });
  });

  it("ICMP passes rules without ports only", () => {
    const anyPort = policy("shop/p", { podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] });
    const tcp = policy("shop/p", { podSelector: {}, ingress: [{ ports: [{ protocol: "TCP" }] }] });
    const probe = { from: "shop/client", to: "shop/web", protocol: "icmp" };
    expect([one([web, client, anyPort], probe)?.verdict, one([web, client, tcp], probe)?.verdict]).toEqual(["allow", "deny"]);
  });

  it("a pod that has ended neither sends nor answers", () => {
    const ended = pod("shop/job", ["10.0.0.2"], { status: { phase: "Succeeded" } });
    expect(one([web, client, ended], { from: "shop/job", to: "shop/web", port: 80 })?.verdict).toBe("deny");
    expect(one([web, client, ended], { from: "10.0.0.2", to: "shop/web", port: 80 })?.verdict).toBe("allow");
  });

  it("names every problem of the manifests, with object and field", () => {
    const manifests = [
      policy("shop/a", { podselector: {}, ingress: [{ from: [{}] }] }),
      { kind: "Pod" },
      7,
      { apiVersion: "extensions/v1beta1", kind: "NetworkPolicy", metadata: { name: "old", namespace: "shop" } },
      { apiVersion: "projectcalico.org/v1", kind: "GlobalNetworkPolicy", metadata: { name: "g" } },
      pod("shop/x", ["10.0.0"], { labels: { a: 1 } }),
      { apiVersion: "v1", kind: "Service", metadata: { name: "s" } },
    ];
    const problems = problemsOf(manifests);
    for (const [i, start] of [
      "manifest 0, NetworkPolicy shop/a: spec.podselector: unknown field; write podSelector",
      "manifest 0, NetworkPolicy shop/a: spec.ingress[0].from[0]: must have podSelector",
      'manifest 1, Pod without name: kind: "" "Pod" is not a kind',
      "manifest 2, not an object: kind: ",
      'manifest 3, NetworkPolicy shop/old: kind: "extensions/v1beta1"',
      "manifest 4, GlobalNetworkPolicy g: kind: ",
      "manifest 5, Pod shop/x: metadata.labels[a]: must be a string",
      'manifest 5, Pod shop/x: status.podIPs[0].ip: "10.0.0" is not an IP address',
    ].entries()) {
      expect(problems[i]?.slice(0, start.length)).toBe(start);
    }
    expect(problems).toHaveLength(8);
  });

  it("an object that is there twice: once, if it is the same; a problem otherwise", () => {
    expect(problemsOf([web, web, closed, closed])).toEqual([]);
    expect(problemsOf([closed, policy("shop/closed", { podSelector: {} })])).toEqual([
      "manifest 1, NetworkPolicy shop/closed: is another one than in manifest 0; keep one of them",
    ]);
  });

  it("an address of two pods is a problem", () => {
    expect(problemsOf([web, pod("shop/twin", ["10.0.0.1"])])).toEqual([
      "manifest 1, Pod shop/twin: status.podIPs: 10.0.0.1 is the address of Pod shop/web too",
    ]);
  });

  it.each<[unknown, string]>([
    [5, "probe 1: must be an object"],
    [{ to: "shop/web" }, "probe 1: from: is required"],
    [{ from: "shop/web", to: "shop/gone" }, 'probe 1: to: "shop/gone" is neither an address nor a pod of the manifests; pods are: shop/client, shop/web'],
    [{ from: "shop/web", to: "10.0.0.1", protocol: "QUIC" }, 'probe 1: protocol: "QUIC" is not one of'],
    [{ from: "shop/client", to: "shop/web", port: 0 }, "probe 1: port: 0 is not a port number"],
    [{ from: "shop/client", to: "shop/web", port: "ftp" }, 'probe 1: port: shop/web has no TCP container port named "ftp"; it has http (TCP 8080)'],
    [{ from: "shop/client", to: "shop/web", port: "http", protocol: "UDP" }, "probe 1: port: shop/web has no UDP container port"],
    [{ from: "shop/client", to: "1.1.1.1", port: "http" }, "probe 1: port: "],
  ])("probe %j is a problem", (probe, start) => {
    const problems = problemsOf([web, client], [{ from: "shop/client", to: "shop/web", port: 80 }, probe]);
    expect([problems.length, problems[0]?.slice(0, start.length)]).toEqual([1, start]);
  });
});

describe("parseManifests", () => {
  const kinds = (text: string): unknown[] => parseManifests(text, "f").objects.map(({ source, object }) => [source, (object as { kind?: unknown }).kind]);

  it("plain words as kubectl reads them: YAML 1.1, without its times", () => {
    const text = "a: yes\nb: on\nc: 'yes'\nd: 017\ne: 10:30\nf: 2026-01-31\ng: 10.0.0.1\nh: fd00::1\n";
    expect(parseManifests(text, "f").objects[0]?.object).toEqual({
      a: true,
      b: true,
      c: "yes",
      d: 15,
      e: "10:30",
      f: "2026-01-31",
      g: "10.0.0.1",
      h: "fd00::1",
    });
  });

  it("a label yes without quotes is no label", () => {
    const text = "{ apiVersion: v1, kind: Namespace, metadata: { name: shop, labels: { public: yes } } }";
    expect(() => evaluate({ manifests: parseManifests(text, "f").objects.map(({ object }) => object), probes: [] })).toThrow(
      /metadata\.labels\[public\]: must be a string, not .*put it in quotes/,
    );
  });

  it("documents, JSON, arrays and lists", () => {
    expect(kinds("kind: A\n---\n---\n# nothing\n---\nkind: B\n")).toEqual([
      ["f, document 1", "A"],
      ["f, document 4", "B"],
    ]);
    expect(kinds('{"kind":"A"}')).toEqual([["f", "A"]]);
    expect(kinds("{kind: A}")).toEqual([["f", "A"]]);
    expect(kinds('[{"kind":"A"},{"kind":"List","items":[{"kind":"B"}]}]')).toEqual([
      ["f, [0]", "A"],
      ["f, [1], items[0]", "B"],
    ]);
    expect(parseManifests('{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"x"}}]}', "f").objects[0]?.object).toEqual({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "x" },
    });
    expect(parseManifests("", "f")).toEqual({ objects: [], problems: [] });
  });

  it("broken YAML names file, document and line", () => {
    const { problems } = parseManifests("kind: A\n---\nkind: [B\n---\na: 1\na: 2\n", "f.yaml");
    expect(problems.map(({ source }) => source)).toEqual(["f.yaml, document 2", "f.yaml, document 3"]);
    expect(problems[1]?.message).toMatch(/unique.*line 6/);
  });
});
