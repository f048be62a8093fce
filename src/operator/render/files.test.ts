import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { renderChart } from "./chart.ts";
import { renderFiles, renderPlain } from "./files.ts";
import { DEFAULT_NAMESPACE, DEFAULT_VALUES, type Values, valuesSchema } from "./values.ts";

const manifests = new URL("../../../manifests/", import.meta.url);
const text = (path: string): string => readFileSync(new URL(path, manifests), "utf8");
const crds = new Map(readdirSync(new URL("crds/", manifests)).map((name) => [name, text(`crds/${name}`)]));
const { version } = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")) as { version: string };

const objects = (files: Iterable<string>): unknown[] => [...files].flatMap((yaml) => parseAllDocuments(yaml).map((document): unknown => document.toJS()));

/** What Helm's engine does with the two forms that the templates have, for the values given. */
function fill(template: string, values: Values): string {
  const at = (path: string): unknown =>
    path.split(".").reduce<unknown>((value, key) => (value as Record<string, unknown>)[key], { Values: values, Release: { Namespace: DEFAULT_NAMESPACE } });
  return template.replaceAll(/\{\{ \.([A-Za-z.]+)( \| toJson)? \}\}/g, (_whole, path: string, json: string | undefined) =>
    json === undefined ? String(at(path)) : JSON.stringify(at(path)),
  );
}

describe("manifests", () => {
  it("the files in manifests/ are what the renderer makes", () => {
    for (const [path, rendered] of renderFiles({ crds, version })) expect(text(path), `manifests/${path}: npm run generate makes it again`).toBe(rendered);
  });

  it("the defaults keep to their own schema", () => {
    expect(valuesSchema.parse(DEFAULT_VALUES)).toEqual(DEFAULT_VALUES);
  });

  it("the chart makes the same objects, with the defaults and with every value changed", () => {
    const changed = changeAll(DEFAULT_VALUES) as Values;
    for (const values of [DEFAULT_VALUES, changed]) {
      const [, ...plain] = objects(renderPlain({ namespace: DEFAULT_NAMESPACE, values }).values()); // the first is the namespace
      const templates = [...renderChart(version)].filter(([path]) => path.startsWith("templates/")).map(([, template]) => fill(template, values));
      expect(objects(templates)).toEqual(plain);
    }
  });

  it("every value has an effect", () => {
    const templates = [...renderChart(version).values()].join("");
    for (const path of leaves(DEFAULT_VALUES, "")) expect(templates, path).toContain(`{{ .Values.${path}`);
  });
});

function changeAll(value: unknown): unknown {
  if (typeof value === "number") return value + 3;
  if (typeof value === "string") return `${value}x`;
  return Object.fromEntries(Object.entries(value as Record<string, unknown>).map(([key, inner]) => [key, changeAll(inner)]));
}

function leaves(value: unknown, path: string): string[] {
  if (typeof value !== "object" || value === null || path.endsWith("resources")) return [path];
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, path === "" ? key : `${path}.${key}`));
}
