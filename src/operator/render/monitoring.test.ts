import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ALERTS, PANELS } from "./monitoring.ts";

const documented = new Map(
  [...readFileSync(new URL("../../../docs/metrics.md", import.meta.url), "utf8").matchAll(/^\| `(sedge_\w+)` \| (\w+) \| ([^|]*) \|/gm)].map(
    ([, name = "", type = "", labels = ""]) => [name, { type, labels: labels.split(",").map((label) => label.trim()) }],
  ),
);
/** Labels that the scrape gives. */
const SCRAPED = ["instance", "node", "le"];
const expressions = [
  ...ALERTS.map(({ alert, expr }) => [alert, expr] as const),
  ...PANELS.flatMap(({ title, queries }) => Object.values(queries).map((expr) => [title, expr] as const)),
];

describe("alerts and dashboard", () => {
  it.each(expressions)("%s: names and labels are those of docs/metrics.md", (_name, expr) => {
    const used = [...expr.matchAll(/sedge_\w+/g)].map(([name]) => name);
    expect(used).not.toEqual([]);
    const labels = new Set(SCRAPED);
    for (const name of used) {
      const metric = documented.get(name) ?? documented.get(name.replace(/_(bucket|sum|count)$/, ""));
      expect(metric, name).toBeDefined();
      // A histogram is only there in its parts, anything else never is.
      expect(/_(bucket|sum|count)$/.test(name), name).toBe(metric?.type === "histogram");
      for (const label of metric?.labels ?? []) labels.add(label);
      if (metric?.type === "counter") expect(expr, name).toMatch(new RegExp(`(rate|increase)\\(${name}\\[`));
    }
    for (const [, list = ""] of expr.matchAll(/by \(([^)]*)\)/g)) for (const label of list.split(",")) expect([...labels], expr).toContain(label.trim());
  });

  it("every alert says what to do, and no two are of one name", () => {
    expect(new Set(ALERTS.map(({ alert }) => alert)).size).toBe(ALERTS.length);
    expect(ALERTS.filter(({ action }) => action === "")).toEqual([]);
  });
});
