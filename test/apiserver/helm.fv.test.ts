/**
 * The chart as Helm itself reads it: linted, filled with several sets of values, refused with wrong ones, and its objects, CRDs among them, taken by a real
 * kube-apiserver. The files are Helm's own parse of them: what YAML of ours its library does not read fails here.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseAllDocuments, stringify } from "yaml";
import { findGoTool, kubeApiserverAvailable, startKubeApiserver } from "./start.ts";

const helm = findGoTool("helm");
const why = helm === undefined ? " (helm is not built; run: node scripts/build-go-tools.mjs helm)" : "";
const kubectl = findGoTool("kubectl");
const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const CHART = join(ROOT, "manifests/chart");
const NAMESPACE = "sedge-system";

const VALUES: Readonly<Record<string, unknown>> = {
  defaults: {},
  relays: { relay: { replicas: 4, nodes: "all" }, agent: { servedBy: "relay", serverOrder: "listed" } },
  workers: { fanout: { workers: 3, replicas: 5, resources: { limits: { memory: "2Gi" }, requests: { cpu: "2" } } } },
  small: { fanout: { replicas: 1, maxUnavailable: 1 }, issuer: { replicas: 1 }, controllers: { replicas: 1 }, agent: { cniChain: "none", mtu: 9000 } },
};
const WRONG: readonly (readonly [unknown, string])[] = [
  [{ fanout: { replicas: 0 } }, "/fanout/replicas"],
  [{ fanout: { replicas: "two" } }, "/fanout/replicas"],
  [{ fanout: { replica: 2 } }, "/fanout"],
  [{ relay: { nodes: "some" } }, "/relay/nodes"],
  [{ agent: { servedBy: "issuer" } }, "/agent/servedBy"],
  [{ agent: { stateDir: "var/lib" } }, "/agent/stateDir"],
  [{ images: { server: "" } }, "/images/server"],
  [{ fanot: {} }, "fanot"],
];

describe.skipIf(helm === undefined)(`the chart in Helm${why}`, () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "sedge-helm-"));
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  const run = (...args: readonly string[]): { status: number | null; stdout: string; stderr: string } => {
    const home = { HELM_CACHE_HOME: directory, HELM_CONFIG_HOME: directory, HELM_DATA_HOME: directory };
    return spawnSync(helm ?? "helm", args, { encoding: "utf8", maxBuffer: 2 ** 26, env: { PATH: process.env["PATH"], ...home } });
  };
  const fileOf = (name: string, values: unknown): string => {
    const file = join(directory, `${name}.yaml`);
    writeFileSync(file, stringify(values));
    return file;
  };
  /** Objects by kind and name: Helm sorts them by kind. */
  const objects = (text: string): [string, unknown][] =>
    parseAllDocuments(text)
      .map((document) => document.toJS() as { kind: string; metadata: { name: string } } | null)
      .flatMap((object) => (object === null ? [] : [[`${object.kind} ${object.metadata.name}`, object] as [string, unknown]]))
      .toSorted(([a], [b]) => (a < b ? -1 : 1));

  it("lint finds no error", () => {
    const { status, stdout, stderr } = run("lint", CHART, "--strict");
    expect(`${stdout}${stderr}`).toContain("1 chart(s) linted, 0 chart(s) failed");
    expect(status).toBe(0);
  });

  it.each(Object.entries(VALUES))("values %s: the objects of sedge manifests", (name, values) => {
    const file = fileOf(name, values);
    const { status, stdout, stderr } = run("template", "sedge", CHART, "--namespace", NAMESPACE, "--values", file);
    expect(`${status} ${stderr}`).toBe("0 ");
    const plain = execFileSync(process.execPath, [join(ROOT, "bin/sedge.ts"), "manifests", "--namespace", NAMESPACE, "--values", file], { encoding: "utf8" });
    expect(objects(stdout)).toEqual(objects(plain).filter(([object]) => object !== `Namespace ${NAMESPACE}`));
  });

  it.each(WRONG)("%j → refused, %s is named", (values, place) => {
    const { status, stderr } = run("template", "sedge", CHART, "--values", fileOf("wrong", values));
    expect(status).not.toBe(0);
    expect(stderr).toContain(place);
  });

  it.skipIf(kubectl === undefined || kubeApiserverAvailable() !== undefined)(
    "what it makes is accepted by a real API server, CRDs and all",
    async () => {
      await using server = await startKubeApiserver();
      const { stdout } = run("template", "sedge", CHART, "--namespace", NAMESPACE, "--include-crds", "--values", fileOf("relays", VALUES["relays"]));
      const file = join(directory, "all.yaml");
      writeFileSync(file, stdout);
      const flags = ["--kubeconfig", server.kubeconfig, "--namespace", NAMESPACE];
      execFileSync(kubectl ?? "kubectl", [...flags, "create", "namespace", NAMESPACE]);
      const output = execFileSync(kubectl ?? "kubectl", [...flags, "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", file], {
        encoding: "utf8",
      });
      expect(output.trim().split("\n")).toHaveLength(objects(stdout).length);
    },
    120_000,
  );
});
