import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { loadSchemaDocuments } from "./builtin-kinds.ts";
import { EMPTY_SET, fieldsOf, memberPaths, parseFieldSet, renderFieldSet } from "./field-set.ts";
import type { JsonObject } from "./json.ts";
import { arrayAt, isObject, objectAt, stringAt } from "./json.ts";
import type { Manager } from "./managed-fields.ts";
import { applyConfiguration, recordUpdate } from "./managed-fields.ts";

const schema = loadSchemaDocuments().get("v1")?.linked.get("io.k8s.api.core.v1.Pod") ?? {};
const manager = (name: string, operation: Manager["operation"] = "Apply"): Manager => ({
  name,
  operation,
  apiVersion: "v1",
  subresource: "",
  time: "2026-01-01T00:00:00Z",
});
const apply = (live: JsonObject | undefined, applied: JsonObject, name: string, isForced = false): JsonObject =>
  applyConfiguration({ live, applied, schema, manager: manager(name), reset: EMPTY_SET, isForced });
const labels = (values: Record<string, string>): JsonObject => ({ apiVersion: "v1", kind: "Pod", metadata: { name: "p", labels: values } });
const withoutOwners = (object: JsonObject): JsonObject => ({ ...object, metadata: { ...objectAt(object, "metadata"), managedFields: [] } });

describe("field sets", () => {
  it("parse and render are each other's inverse, keyed lists by key", () => {
    const pod = {
      spec: { containers: [{ name: "a", image: "x", ports: [{ containerPort: 80 }] }], tolerations: [{ key: "k" }] },
      metadata: { finalizers: ["f/x"] },
    };
    const set = fieldsOf(pod, schema);
    expect(parseFieldSet(renderFieldSet(set))).toEqual(set);
    expect(memberPaths(set).sort()).toEqual([
      '.metadata.finalizers[="f/x"]',
      '.spec.containers[name="a"]',
      '.spec.containers[name="a"].image',
      '.spec.containers[name="a"].name',
      '.spec.containers[name="a"].ports[containerPort=80,protocol="TCP"]',
      '.spec.containers[name="a"].ports[containerPort=80,protocol="TCP"].containerPort',
      ".spec.tolerations",
    ]);
  });
});

describe("applyConfiguration", () => {
  const values = fc.dictionary(fc.constantFrom("a", "b", "c"), fc.constantFrom("1", "2"), { noNullPrototype: true });

  it("the last configuration of one manager is what it owns and what is there", () => {
    fc.assert(
      fc.property(fc.array(values, { minLength: 1, maxLength: 5 }), (configurations) => {
        let live: JsonObject | undefined;
        for (const configuration of configurations) live = apply(live, labels(configuration), "one");
        expect(objectAt(live, "metadata", "labels")).toEqual(configurations.at(-1));
      }),
    );
  });

  it("applied twice changes nothing the second time", () => {
    fc.assert(
      fc.property(values, values, (first, second) => {
        const live = apply(apply(undefined, labels(first), "one"), labels(second), "two", true);
        expect(apply(live, labels(second), "two")).toEqual(live);
      }),
    );
  });

  it("without force nobody's field changes: it conflicts exactly when a value of another manager would", () => {
    fc.assert(
      fc.property(values, values, (first, second) => {
        const live = apply(undefined, labels(first), "one");
        const wouldChange = Object.keys(second).some((key) => first[key] !== undefined && first[key] !== second[key]);
        if (wouldChange) expect(() => apply(live, labels(second), "two")).toThrow(/Apply failed with \d conflict/);
        else expect(objectAt(apply(live, labels(second), "two"), "metadata", "labels")).toEqual({ ...first, ...second });
      }),
    );
  });

  it("a dropped element of a keyed list goes, what another manager owns in it stays", () => {
    const spec = (containers: JsonObject[]): JsonObject => ({ metadata: { name: "p" }, spec: { containers } });
    let live = apply(
      undefined,
      spec([
        { name: "a", image: "1" },
        { name: "b", image: "1" },
      ]),
      "one",
    );
    live = apply(live, spec([{ name: "b", workingDir: "/w" }]), "two");
    live = apply(live, spec([{ name: "a", image: "1" }]), "one");
    expect(arrayAt(live, "spec", "containers")).toEqual([
      { name: "a", image: "1" },
      { name: "b", workingDir: "/w" },
    ]);
    live = apply(live, spec([]), "two");
    expect(arrayAt(live, "spec", "containers")).toEqual([{ name: "a", image: "1" }]);
  });
});

describe("recordUpdate", () => {
  it("takes what changed away from the others and forgets what is gone", () => {
    const before = apply(undefined, labels({ a: "1", b: "1" }), "config");
    const after: JsonObject = { ...before, metadata: { ...objectAt(before, "metadata"), labels: { a: "2", c: "3" } } };
    recordUpdate({ before, after, schema, manager: manager("hand", "Update"), reset: EMPTY_SET });
    const owners = Object.fromEntries(
      arrayAt(after, "metadata", "managedFields").map((entry) => [stringAt(entry, "manager"), isObject(entry) ? entry["fieldsV1"] : {}]),
    );
    expect(owners).toEqual({ hand: { "f:metadata": { "f:labels": { "f:a": {}, "f:c": {} } } } });
  });

  it("an unchanged object keeps its owners", () => {
    const before = apply(undefined, labels({ a: "1" }), "config");
    const after = withoutOwners(structuredClone(before));
    recordUpdate({ before, after, schema, manager: manager("hand", "Update"), reset: EMPTY_SET });
    expect(after).toEqual(before);
  });
});
