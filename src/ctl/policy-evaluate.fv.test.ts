/** The command as a process: files, stdin, output and exit codes. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const pod = (name: string, ip: string): unknown => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: "shop", labels: { app: name } },
  status: { podIPs: [{ ip }] },
});
const policy = (name: string, spec: unknown): unknown => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name, namespace: "shop" },
  spec,
});
const web = pod("web", "10.0.0.1");
const client = pod("client", "10.0.0.2");
const closed = policy("closed", { podSelector: { matchLabels: { app: "web" } } });

describe("sedge policy evaluate", () => {
  async function run(files: Readonly<Record<string, string>>, args: readonly string[], stdin = ""): Promise<{ code: number; stdout: string; stderr: string }> {
    const folder = await mkdtemp(join(tmpdir(), "sedge-evaluate-"));
    try {
      for (const [name, content] of Object.entries(files)) {
        await mkdir(join(folder, name, ".."), { recursive: true });
        await writeFile(join(folder, name), content);
      }
      const script = `import { policyEvaluateCommand } from ${JSON.stringify(join(import.meta.dirname, "policy-evaluate.ts"))}; process.exitCode = await policyEvaluateCommand(process.argv.slice(1));`;
      return await new Promise((resolve) => {
        const child = execFile(process.execPath, ["--input-type=module", "--eval", script, "--", ...args], { cwd: folder }, (error, stdout, stderr) => {
          resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
        });
        child.stdin?.end(stdin);
      });
    } finally {
      await rm(folder, { recursive: true });
    }
  }

  const probes = JSON.stringify([{ from: "shop/client", to: "shop/web", port: 80 }]);

  it("files, directories and stdin together; JSON and table", async () => {
    const files = { "a.json": JSON.stringify(web), "dir/b.yaml": JSON.stringify(client), "dir/readme.txt": "no manifest", "probes.json": probes };
    const args = ["-f", "a.json", "--filename", "dir", "-f", "-", "--probes", "probes.json"];
    const asJson = await run(files, [...args, "-o", "json"], JSON.stringify(closed));
    expect([asJson.code, asJson.stderr]).toEqual([0, ""]);
    expect(JSON.parse(asJson.stdout)).toMatchObject([{ from: "shop/client", verdict: "deny", ingress: { policy: "shop/closed", rule: null } }]);
    const asTable = await run(files, args, JSON.stringify(closed));
    expect(asTable.stdout).toMatch(/^FROM .*\nshop\/client +shop\/web +80 +TCP +deny +allow: .* deny: no rule in shop\/closed\n$/);
  });

  it("exit code 2, with all problems and nothing answered", async () => {
    const files = { "a.yaml": `${JSON.stringify(web)}\n---\n${JSON.stringify(policy("p", { ingres: [] }))}`, "probes.json": probes };
    const bad = await run(files, ["-f", "a.yaml", "--probes", "probes.json", "-o", "json"]);
    expect([bad.code, bad.stdout]).toEqual([2, ""]);
    expect(bad.stderr).toContain("a.yaml, document 2, NetworkPolicy shop/p: spec.ingres: unknown field");
    for (const args of [
      [],
      ["-f", "a.yaml"],
      ["-f", "none.yaml", "--probes", "probes.json"],
      ["-f", "a.yaml", "--probes", "probes.json", "-o", "xml"],
      ["--nonsense"],
    ]) {
      const result = await run(files, args);
      expect([result.code, result.stdout, result.stderr === ""]).toEqual([2, "", false]);
    }
  });
});
