/** What is shipped, as others run it: the chart's templates in Go's template engine, the programs with only the files that their image has. */
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { renderChart } from "./chart.ts";
import { renderPlain } from "./files.ts";
import { IMAGE_FOLDERS, renderImages } from "./images.ts";
import { DEFAULT_NAMESPACE, DEFAULT_VALUES } from "./values.ts";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const hasGo = spawnSync("go", ["version"]).status === 0;
const objects = (files: Iterable<string>): unknown[] => [...files].flatMap((yaml) => parseAllDocuments(yaml).map((document): unknown => document.toJS()));

describe.skipIf(!hasGo)(`the chart in Go's template engine${hasGo ? "" : " (go is not installed)"}`, () => {
  it("makes the objects of the plain manifests, with other values than the defaults too", () => {
    const values = { ...DEFAULT_VALUES, fanout: { ...DEFAULT_VALUES.fanout, replicas: 7, drainMs: 600_000, resources: {} } };
    const templates = Object.fromEntries([...renderChart("0.0.1")].filter(([path]) => path.startsWith("templates/")));
    const input = JSON.stringify({ data: { Values: values, Release: { Namespace: DEFAULT_NAMESPACE } }, templates });
    const output = execFileSync("go", ["run", "."], {
      cwd: join(root, "test/foreign/template"),
      input,
      encoding: "utf8",
      env: { ...process.env, GOWORK: "off", GOFLAGS: "-buildvcs=false" },
    });
    const filled = JSON.parse(output) as Record<string, string>;
    const [, ...plain] = objects(renderPlain({ namespace: DEFAULT_NAMESPACE, values }).values()); // the first is the namespace
    expect(objects(Object.keys(templates).map((name) => filled[name] ?? ""))).toEqual(plain);
  });
});

describe("images", () => {
  it.each([
    ["fanout", ["fanout", "controllers", "issuer", "status"]],
    ["agent", ["agent", "cni-install"]],
  ] as const)("the files of image %s are enough for %s", (image, programs) => {
    const folder = mkdtempSync(join(tmpdir(), "sedge-image-"));
    try {
      for (const part of IMAGE_FOLDERS[image]) cpSync(join(root, part), join(folder, part), { recursive: true });
      cpSync(join(root, "package.json"), join(folder, "package.json"));
      symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
      for (const program of programs) {
        const { status, stdout, stderr } = spawnSync(process.execPath, [join(folder, "bin/sedge.ts"), program, "--help"], { encoding: "utf8" });
        expect(`${status} ${stderr}`, program).toBe("0 ");
        expect(stdout).toContain("usage: sedge");
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("packages of images are installed with the optional ones: koffi's library is one, and without it npm would compile it", () => {
    for (const [name, text] of renderImages()) expect(text, name).not.toContain("--omit=optional");
  });

  it("the server's image does not run as root", () => {
    expect(renderImages().get("fanout.Dockerfile")).toMatch(/\nUSER 65532:65532\n/);
  });
});
