import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { loadSchemaDocuments } from "./builtin-kinds.ts";
import type { JsonObject, JsonValue } from "./json.ts";
import { equalJson, isObject } from "./json.ts";
import { JsonPatchError, jsonPatch } from "./json-patch.ts";
import { mergePatch } from "./merge-patch.ts";
import { strategicPatch } from "./strategic-patch.ts";

const { json: anyJson } = fc.letrec<{ json: JsonValue }>((tie) => ({
  json: fc.oneof(
    { depthSize: "small" },
    fc.constantFrom<JsonValue>("a", "b", 1, 2, true, null),
    fc.array(tie("json"), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom("a", "b", "c"), tie("json"), { maxKeys: 3, noNullPrototype: true }),
  ),
}));

function withoutNulls(value: JsonValue): JsonValue {
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, child]) => child !== null)
      .map(([key, child]) => [key, withoutNulls(child)]),
  );
}

describe("mergePatch (RFC 7396)", () => {
  // Appendix A of the RFC.
  it.each<[JsonValue, JsonValue, JsonValue]>([
    [{ a: "b" }, { a: "c" }, { a: "c" }],
    [{ a: "b" }, { b: "c" }, { a: "b", b: "c" }],
    [{ a: "b" }, { a: null }, {}],
    [{ a: "b", b: "c" }, { a: null }, { b: "c" }],
    [{ a: ["b"] }, { a: "c" }, { a: "c" }],
    [{ a: "c" }, { a: ["b"] }, { a: ["b"] }],
    [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }],
    [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
    [
      ["a", "b"],
      ["c", "d"],
      ["c", "d"],
    ],
    [{ a: "b" }, ["c"], ["c"]],
    [{ a: "foo" }, null, null],
    [{ a: "foo" }, "bar", "bar"],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: "b", c: null }, { a: "b" }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ])("%j + %j = %j", (target, patch, expected) => {
    expect(mergePatch(target, patch)).toEqual(expected);
  });

  it("twice is once, and a document without nulls applied to nothing is itself", () => {
    fc.assert(
      fc.property(anyJson, anyJson, (target, patch) => {
        const once = mergePatch(target, patch);
        expect(mergePatch(once, patch)).toEqual(once);
        const plain = withoutNulls(patch);
        if (isObject(plain)) expect(mergePatch({}, plain)).toEqual(plain);
      }),
    );
  });

  it("a key named __proto__ is a key", () => {
    const patch = JSON.parse('{"__proto__": {"polluted": true}}') as JsonValue;
    expect(JSON.stringify(mergePatch({}, patch))).toBe('{"__proto__":{"polluted":true}}');
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });
});

describe("jsonPatch (RFC 6902)", () => {
  // Appendix A of the RFC.
  it.each<[string, JsonValue, JsonValue, JsonValue]>([
    ["A.1 add member", { foo: "bar" }, [{ op: "add", path: "/baz", value: "qux" }], { baz: "qux", foo: "bar" }],
    ["A.2 add element", { foo: ["bar", "baz"] }, [{ op: "add", path: "/foo/1", value: "qux" }], { foo: ["bar", "qux", "baz"] }],
    ["A.3 remove member", { baz: "qux", foo: "bar" }, [{ op: "remove", path: "/baz" }], { foo: "bar" }],
    ["A.4 remove element", { foo: ["bar", "qux", "baz"] }, [{ op: "remove", path: "/foo/1" }], { foo: ["bar", "baz"] }],
    ["A.5 replace", { baz: "qux", foo: "bar" }, [{ op: "replace", path: "/baz", value: "boo" }], { baz: "boo", foo: "bar" }],
    [
      "A.6 move",
      { foo: { bar: "baz", waldo: "fred" }, qux: { corge: "grault" } },
      [{ op: "move", from: "/foo/waldo", path: "/qux/thud" }],
      { foo: { bar: "baz" }, qux: { corge: "grault", thud: "fred" } },
    ],
    ["A.7 move element", { foo: ["all", "grass", "cows", "eat"] }, [{ op: "move", from: "/foo/1", path: "/foo/3" }], { foo: ["all", "cows", "eat", "grass"] }],
    [
      "A.8 test",
      { baz: "qux", foo: ["a", 2, "c"] },
      [
        { op: "test", path: "/baz", value: "qux" },
        { op: "test", path: "/foo/1", value: 2 },
      ],
      { baz: "qux", foo: ["a", 2, "c"] },
    ],
    ["A.10 add nested", { foo: "bar" }, [{ op: "add", path: "/child", value: { grandchild: {} } }], { foo: "bar", child: { grandchild: {} } }],
    ["A.14 escapes", { "/": 9, "~1": 10 }, [{ op: "test", path: "/~01", value: 10 }], { "/": 9, "~1": 10 }],
    ["A.16 append", { foo: ["bar"] }, [{ op: "add", path: "/foo/-", value: ["abc", "def"] }], { foo: ["bar", ["abc", "def"]] }],
    [
      "copy",
      { a: { b: 1 } },
      [
        { op: "copy", from: "/a", path: "/c" },
        { op: "replace", path: "/c/b", value: 2 },
      ],
      { a: { b: 1 }, c: { b: 2 } },
    ],
  ])("%s", (_name, document, patch, expected) => {
    expect(jsonPatch(document, patch)).toEqual(expected);
  });

  it.each<[string, JsonValue, JsonValue]>([
    ["A.9 failing test", { baz: "qux" }, [{ op: "test", path: "/baz", value: "bar" }]],
    ["A.12 no such parent", { foo: "bar" }, [{ op: "add", path: "/baz/bat", value: "qux" }]],
    ["A.15 text is no number", { "/": 9, "~1": 10 }, [{ op: "test", path: "/~01", value: "10" }]],
    ["index out of range", { a: [1] }, [{ op: "add", path: "/a/2", value: 1 }]],
    ["index with a leading zero", { a: [1, 2] }, [{ op: "remove", path: "/a/01" }]],
    ["into itself", { a: { b: 1 } }, [{ op: "move", from: "/a", path: "/a/b" }]],
    ["remove nothing", {}, [{ op: "remove", path: "/a" }]],
    ["unknown operation", {}, [{ op: "frob", path: "" }]],
    ["no value", {}, [{ op: "add", path: "/a" }]],
    ["not a list", {}, { op: "add" }],
  ])("%s is refused and changes nothing", (_name, document, patch) => {
    const before = structuredClone(document);
    expect(() => jsonPatch(document, patch)).toThrow(JsonPatchError);
    expect(document).toEqual(before);
  });

  it("add then remove at a place gives the document back", () => {
    fc.assert(
      fc.property(anyJson.filter(isObject), anyJson, (document, value) => {
        expect(
          jsonPatch(document, [
            { op: "add", path: "/new", value },
            { op: "remove", path: "/new" },
          ]),
        ).toEqual(document);
      }),
    );
  });
});

const podSchema = loadSchemaDocuments().get("v1")?.linked.get("io.k8s.api.core.v1.Pod") ?? {};

describe("strategicPatch", () => {
  const pod = (spec: JsonObject, metadata: JsonObject = {}): JsonObject => ({ metadata, spec });
  it.each<[string, JsonObject, JsonObject, JsonObject]>([
    [
      "containers by name",
      pod({
        containers: [
          { name: "a", image: "1" },
          { name: "b", image: "1" },
        ],
      }),
      pod({
        containers: [
          { name: "b", image: "2" },
          { name: "c", image: "3" },
        ],
      }),
      pod({
        containers: [
          { name: "a", image: "1" },
          { name: "b", image: "2" },
          { name: "c", image: "3" },
        ],
      }),
    ],
    [
      "ports by containerPort",
      pod({ containers: [{ name: "a", ports: [{ containerPort: 80, name: "x" }] }] }),
      pod({ containers: [{ name: "a", ports: [{ containerPort: 80, hostPort: 8080 }, { containerPort: 81 }] }] }),
      pod({ containers: [{ name: "a", ports: [{ containerPort: 80, name: "x", hostPort: 8080 }, { containerPort: 81 }] }] }),
    ],
    [
      "$patch delete",
      pod({ containers: [{ name: "a" }, { name: "b" }] }),
      pod({ containers: [{ name: "a", $patch: "delete" }] }),
      pod({ containers: [{ name: "b" }] }),
    ],
    [
      "$patch replace in a list",
      pod({ containers: [{ name: "a" }, { name: "b" }] }),
      pod({ containers: [{ name: "c" }, { $patch: "replace" }] }),
      pod({ containers: [{ name: "c" }] }),
    ],
    [
      "$patch replace of an object",
      { metadata: { labels: { a: "1" } } },
      { metadata: { labels: { $patch: "replace", b: "2" } } },
      { metadata: { labels: { b: "2" } } },
    ],
    ["tolerations are atomic", pod({ tolerations: [{ key: "a" }, { key: "b" }] }), pod({ tolerations: [{ key: "c" }] }), pod({ tolerations: [{ key: "c" }] })],
    ["null deletes", pod({ nodeName: "n1", hostname: "h" }), pod({ nodeName: null }), pod({ hostname: "h" })],
    ["finalizers merge", { metadata: { finalizers: ["a", "b"] } }, { metadata: { finalizers: ["b", "c"] } }, { metadata: { finalizers: ["a", "b", "c"] } }],
    [
      "$deleteFromPrimitiveList",
      { metadata: { finalizers: ["a", "b"] } },
      { metadata: { "$deleteFromPrimitiveList/finalizers": ["a"] } },
      { metadata: { finalizers: ["b"] } },
    ],
    [
      "$setElementOrder",
      pod({ containers: [{ name: "a" }, { name: "b" }] }),
      pod({ "$setElementOrder/containers": [{ name: "c" }, { name: "b" }, { name: "a" }], containers: [{ name: "c" }] }),
      pod({ containers: [{ name: "c" }, { name: "b" }, { name: "a" }] }),
    ],
    [
      "$setElementOrder keeps what only the server has",
      pod({ containers: [{ name: "a" }, { name: "side" }, { name: "b" }] }),
      pod({ "$setElementOrder/containers": [{ name: "a" }, { name: "b" }] }),
      pod({ containers: [{ name: "a" }, { name: "side" }, { name: "b" }] }),
    ],
    [
      "$retainKeys",
      pod({ volumes: [{ name: "v", emptyDir: {} }] }),
      pod({ volumes: [{ name: "v", $retainKeys: ["name", "hostPath"], hostPath: { path: "/x" } }] }),
      pod({ volumes: [{ name: "v", hostPath: { path: "/x" } }] }),
    ],
    [
      "owners by uid",
      { metadata: { ownerReferences: [{ uid: "1", name: "a" }] } },
      {
        metadata: {
          ownerReferences: [
            { uid: "1", controller: true },
            { uid: "2", name: "b" },
          ],
        },
      },
      {
        metadata: {
          ownerReferences: [
            { uid: "1", name: "a", controller: true },
            { uid: "2", name: "b" },
          ],
        },
      },
    ],
    [
      "conditions by type, podIPs by ip",
      { status: { conditions: [{ type: "Ready", status: "True" }], podIPs: [{ ip: "1.1.1.1" }] } },
      { status: { conditions: [{ type: "Ready", status: "False" }], podIPs: [{ ip: "::1" }] } },
      { status: { conditions: [{ type: "Ready", status: "False" }], podIPs: [{ ip: "::1" }, { ip: "1.1.1.1" }] } },
    ],
    [
      "labels merge like a map",
      { metadata: { labels: { a: "1", b: "2" } } },
      { metadata: { labels: { a: null, c: "3" } } },
      { metadata: { labels: { b: "2", c: "3" } } },
    ],
  ])("%s", (_name, target, patch, expected) => {
    expect(strategicPatch(target, patch, podSchema)).toEqual(expected);
  });

  it("twice is once, the target stays as it was, no directive is left", () => {
    const name = fc.constantFrom("a", "b", "c");
    const containers = fc.uniqueArray(fc.record({ name, image: fc.constantFrom("1", "2") }), { selector: (item) => item.name, maxLength: 3 });
    const patches = fc.uniqueArray(
      fc.oneof(
        fc.record({ name, image: fc.constantFrom("3", "4") }),
        name.map((key) => ({ name: key, $patch: "delete" })),
      ),
      { selector: (item) => item.name, maxLength: 3 },
    );
    fc.assert(
      fc.property(containers, patches, (have, change) => {
        const target = pod({ containers: have });
        const before = structuredClone(target);
        const patch = pod({ containers: change });
        const once = strategicPatch(target, patch, podSchema);
        expect(equalJson(target, before)).toBe(true);
        expect(strategicPatch(once, patch, podSchema)).toEqual(once);
        expect(JSON.stringify(once)).not.toContain("$patch");
      }),
    );
  });

  it("an element without its merge key is refused by name", () => {
    expect(() => strategicPatch(pod({ containers: [] }), pod({ containers: [{ image: "x" }] }), podSchema)).toThrow(
      /merge key: name \(at \.spec\.containers\)/,
    );
  });
});
