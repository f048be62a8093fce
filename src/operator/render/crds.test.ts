import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { API_RESOURCES } from "../../datastore/api-resources.ts";
import { writtenKindOf } from "../../model/parse-resource.ts";
import { RESOURCE_KINDS } from "../../model/resource.ts";
import { renderCrds } from "./crds.ts";

interface Crd {
  readonly spec: {
    readonly group: string;
    readonly names: { readonly kind: string; readonly plural: string };
    readonly scope: string;
    readonly versions: readonly [
      { readonly name: string; readonly subresources?: object; readonly schema: { readonly openAPIV3Schema: { readonly properties: object } } },
    ];
  };
}

const rendered = new Map([...renderCrds()].map(([file, text]) => [file, parse(text) as Crd]));
const folder = new URL("../../../manifests/crds/", import.meta.url);
const byHand = readdirSync(folder).filter((file) => !rendered.has(file));

describe("renderCrds", () => {
  it("with those written by hand, there is one for each custom kind that the server watches, where it watches it", () => {
    const defined = [...rendered.values(), ...byHand.map((file) => parse(readFileSync(new URL(file, folder), "utf8")) as Crd)];
    const wanted = RESOURCE_KINDS.map((kind) => ({ ...API_RESOURCES[kind], kind: writtenKindOf(kind) })).filter(({ group }) =>
      /^(projectcalico|policy\.net)/.test(group),
    );
    for (const { group, plural, version, isNamespaced, kind } of wanted) {
      const crd = defined.find(({ spec }) => spec.group === group && spec.names.plural === plural);
      expect(crd?.spec, `${plural}.${group}`).toMatchObject({ scope: isNamespaced ? "Namespaced" : "Cluster", names: { kind }, versions: [{ name: version }] });
    }
  });

  it("every policy has a status that a user cannot write with the rest", () => {
    const policies = [...rendered].filter(([file]) => file.endsWith("policies.yaml"));
    expect(policies).toHaveLength(6);
    for (const [file, { spec }] of policies) {
      expect(spec.versions[0], file).toMatchObject({
        subresources: { status: {} },
        schema: { openAPIV3Schema: { properties: { status: { properties: { conditions: {} } } } } },
      });
    }
  });

  it("a selector's pattern takes Calico's language and refuses what does not parse", () => {
    const text = [...renderCrds()].find(([file]) => file === "globalnetworkpolicies.yaml")?.[1] ?? "";
    const { properties } = (
      parse(text) as { spec: { versions: [{ schema: { openAPIV3Schema: { properties: { spec: { properties: Record<string, { pattern: string }> } } } } }] } }
    ).spec.versions[0].schema.openAPIV3Schema.properties.spec;
    const pattern = new RegExp(properties["selector"]?.pattern ?? "^$");
    for (const good of ["", "all()", "a == 'b'", "!(has(x/y) && a in {'1', \"2\"}) || c not in {}", "k starts with 'v'"]) expect(good).toMatch(pattern);
    for (const bad of ["a", "a = 'b'", "has()", "a == b", "a in 'b'", "all() &&"]) expect(bad).not.toMatch(pattern);
  });
});
