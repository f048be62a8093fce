/** Who may import whom, as a table with the reason; and no cycles. The same rules as the project references, but with a sentence when broken. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const BOXES = [
  "src/net",
  "src/model",
  "src/selector",
  "src/policy",
  "src/ipam",
  "src/compute",
  "src/runtime",
  "src/wire",
  "src/datastore",
  "src/operator",
  "src/installer",
  "src/ctl",
  "src/controllers",
  "src/issuer",
  "src/demo",
  "fanout",
  "agent",
  "cni",
  "bench",
  "bin",
  "test",
] as const;
type Box = (typeof BOXES)[number];

const PURE: readonly Box[] = ["src/net", "src/model", "src/selector", "src/policy", "src/ipam", "src/compute"];

/** For each box: the boxes that it may import, besides itself. */
const MAY: Record<Box, readonly Box[]> = {
  "src/net": [],
  "src/model": ["src/net"],
  "src/selector": ["src/net", "src/model"],
  "src/policy": ["src/net", "src/model", "src/selector"],
  "src/ipam": ["src/net", "src/model", "src/selector"],
  "src/compute": ["src/net", "src/model", "src/selector", "src/policy", "src/ipam"],
  "src/runtime": [],
  "src/wire": [...PURE],
  "src/datastore": [...PURE, "src/runtime"],
  fanout: [...PURE, "src/runtime", "src/wire", "src/datastore"],
  agent: [...PURE, "src/runtime", "src/wire"],
  cni: ["src/net"],
  "src/operator": [...PURE, "src/runtime", "src/datastore"],
  "src/installer": ["src/runtime"],
  "src/ctl": [...PURE, "src/runtime", "src/wire", "src/datastore"],
  "src/controllers": [...PURE, "src/runtime", "src/datastore"],
  "src/issuer": [...PURE, "src/runtime", "src/wire", "src/datastore"],
  "src/demo": [...PURE, "src/runtime", "src/wire", "src/datastore"],
  bench: BOXES,
  bin: BOXES,
  test: BOXES,
};

const WHY: Partial<Record<Box, string>> = {
  "src/runtime": "it is a skin over Node and must not know networking",
  "src/wire": "wire and datastore are two adapters of one model and do not know each other",
  fanout: "fanout and agent meet only in proto and src/wire",
  agent: "fanout and agent meet only in proto and src/wire, and a node never calls the Kubernetes API",
  cni: "the CNI executable links nothing heavy",
};

interface Import {
  readonly from: string;
  readonly to: string;
}

function sourceFiles(folder: string): string[] {
  return readdirSync(join(root, folder)).flatMap((name) => {
    const path = join(folder, name);
    if (name === "node_modules" || name === "dist" || name === "gen") return [];
    if (statSync(join(root, path)).isDirectory()) return sourceFiles(path);
    return name.endsWith(".ts") ? [path] : [];
  });
}

function specifiers(path: string): string[] {
  const text = readFileSync(join(root, path), "utf8");
  return [...text.matchAll(/^\s*(?:import|export)\s[^;]*?from\s+"([^"]+)"|import\("([^"]+)"\)|^\s*import\s+"([^"]+)"/gm)].map(
    (match) => match[1] ?? match[2] ?? match[3] ?? "",
  );
}

function boxOf(path: string): Box | undefined {
  return [...BOXES].sort((a, b) => b.length - a.length).find((box) => path === box || path.startsWith(`${box}/`));
}

const files = BOXES.flatMap((box) => sourceFiles(box));
const imports: Import[] = files.flatMap((from) =>
  specifiers(from)
    .filter((specifier) => specifier.startsWith("."))
    .map((specifier) => ({ from, to: relative(root, resolve(root, dirname(from), specifier)) })),
);

describe("architecture", () => {
  it("every box is on the table and has files", () => {
    expect(Object.keys(MAY).sort()).toEqual([...BOXES].sort());
    expect(BOXES.filter((box) => !files.some((file) => boxOf(file) === box))).toEqual([]);
  });

  it("imports go down only", () => {
    const wrong = imports.flatMap(({ from, to }) => {
      const source = boxOf(from);
      const target = boxOf(to);
      if (source === undefined || target === undefined || source === target || from.includes(".test.")) return [];
      return MAY[source].includes(target)
        ? []
        : [`${from} imports ${to}: ${WHY[source] ?? `${source} may import only ${MAY[source].join(", ") || "packages"}`}`];
    });
    expect(wrong).toEqual([]);
  });

  it("nothing imports tests or benches", () => {
    expect(imports.filter(({ from, to }) => boxOf(to) === "test" && boxOf(from) !== "test" && boxOf(from) !== "bench" && !from.includes(".test."))).toEqual([]);
  });

  it("pure code imports no node: module and only packages without effects", () => {
    const allowed = new Set(["@noble/hashes"]);
    const wrong = files
      .filter((file) => PURE.some((box) => file.startsWith(`${box}/`)) && !file.includes(".test."))
      .flatMap((file) =>
        specifiers(file)
          .filter((name) => !name.startsWith(".") && ![...allowed].some((ok) => name === ok || name.startsWith(`${ok}/`)))
          .map((name) => `${file} imports ${name}`),
      );
    expect(wrong).toEqual([]);
  });

  it("only main.ts files touch process.env, signals and exit codes", () => {
    const wrong = files.filter((file) => {
      if (file.endsWith("/main.ts") || file.includes(".test.") || /^(?:bin|test|bench)\//.test(file) || file === "src/runtime/supervisor.ts") return false;
      return /process\.(?:env|exit|exitCode|on)\b/.test(readFileSync(join(root, file), "utf8"));
    });
    expect(wrong).toEqual([]);
  });

  it("no import cycles between files", () => {
    const graph = new Map<string, string[]>();
    for (const { from, to } of imports) graph.set(from, [...(graph.get(from) ?? []), to]);
    const state = new Map<string, "open" | "done">();
    const cycles: string[] = [];
    const visit = (file: string, path: readonly string[]): void => {
      if (state.get(file) === "done") return;
      if (state.get(file) === "open") {
        cycles.push([...path.slice(path.indexOf(file)), file].join(" -> "));
        return;
      }
      state.set(file, "open");
      for (const next of graph.get(file) ?? []) visit(next, [...path, file]);
      state.set(file, "done");
    };
    for (const file of graph.keys()) visit(file, []);
    expect(cycles).toEqual([]);
  });

  it("no folder is a drawer for anything", () => {
    expect(files.filter((file) => /(?:^|\/)(?:utils?|common|helpers?|misc)(?:\/|\.ts$)/.test(file))).toEqual([]);
    expect(imports.filter(({ from, to }) => relative(dirname(from), to).startsWith("../../../../"))).toEqual([]);
  });
});
