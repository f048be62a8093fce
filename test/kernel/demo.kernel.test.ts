/** What a new user does: `npm start -- --once`, on the embedded API, on a real one, after a run that was killed, and without root. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { DemoResult } from "../../src/demo/show.ts";
import { exec } from "../../src/runtime/exec.ts";
import { kubeApiserverAvailable, startKubeApiserver } from "../apiserver/start.ts";
import { whyNoKernel } from "./netns.ts";

const sedge = fileURLToPath(new URL("../../bin/sedge.js", import.meta.url));
const name = `t${process.pid}`;
const noKernel = whyNoKernel();

function demo(...flags: string[]): [string, ...string[]] {
  return [process.execPath, sedge, "demo", "--name", name, "--api-port", "0", "--sync-port", "0", ...flags];
}

async function runOnce(...flags: string[]): Promise<{ result: DemoResult; told: string }> {
  const { stdout, stderr } = await exec(demo("--once", ...flags), { timeoutMs: 120_000, env: process.env });
  return { result: JSON.parse(stdout) as DemoResult, told: stderr };
}

async function leftNamespaces(): Promise<string[]> {
  const { stdout } = await exec(["ip", "netns", "list"]);
  return stdout.split("\n").filter((line) => line.startsWith(`sedge-${name}-`));
}

/** Resolves at the first line of stderr that begins so. */
async function lineOf(child: ChildProcess, beginning: string): Promise<void> {
  const { stderr } = child;
  if (stderr === null) throw new Error("no stderr");
  for await (const line of createInterface({ input: stderr })) if (line.startsWith(beginning)) return;
  throw new Error(`the demo ended without a line "${beginning}…"`);
}

function expectWhole(result: DemoResult, told: string): void {
  expect(result, told).toMatchObject({ ok: true, kernel: true, nodes: 3, probes: { sent: 6 * 528, wrong: [] } });
  expect(result.pods.map(({ addresses }) => addresses.length)).toEqual(Array.from({ length: 12 }, () => 2));
  expect(result.changes.map(({ denied }) => denied)).toEqual([176, 172, 160, 190, 320]);
}

describe.skipIf(noKernel !== undefined)(`npm start -- --once [${noKernel ?? "kernel"}]`, () => {
  it("runs through on the embedded API and leaves nothing", async () => {
    const { result, told } = await runOnce();
    expectWhole(result, told);
    expect(await leftNamespaces()).toEqual([]);
  });

  it("cleans up after a run that was killed while it connected pods", async () => {
    const child = spawn(demo()[0], demo().slice(1), { stdio: ["ignore", "ignore", "pipe"] });
    await lineOf(child, "pod data/db-1");
    child.kill("SIGKILL");
    await once(child, "exit");
    expect(await leftNamespaces()).not.toEqual([]);
    const { result, told } = await runOnce();
    expect(told).toMatch(/cleaned up after an earlier run: process \d+/);
    expect(told).toMatch(/cleaned up after an earlier run: namespace sedge-/);
    expectWhole(result, told);
    expect(await leftNamespaces()).toEqual([]);
  });

  it("Ctrl-C ends it cleanly with exit code 0", async () => {
    const child = spawn(demo()[0], demo().slice(1), { stdio: ["ignore", "ignore", "pipe"] });
    await lineOf(child, "The demo stays up until Ctrl-C");
    child.stderr?.resume();
    child.kill("SIGINT");
    expect(await once(child, "exit")).toEqual([0, null]);
    expect(await leftNamespaces()).toEqual([]);
  });
});

const noApiserver = noKernel ?? kubeApiserverAvailable();

describe.skipIf(noApiserver !== undefined)(`npm start -- --once --kubeconfig [${noApiserver ?? "real kube-apiserver"}]`, () => {
  it("runs through twice on one real API, the second time after a killed run", async () => {
    await using api = await startKubeApiserver({});
    const first = await runOnce("--kubeconfig", api.kubeconfig);
    expectWhole(first.result, first.told);
    expect(first.result.api).toBe("kubeconfig");
    const child = spawn(demo()[0], demo("--kubeconfig", api.kubeconfig).slice(1), { stdio: ["ignore", "ignore", "pipe"] });
    await lineOf(child, "policy data/default-deny");
    child.kill("SIGKILL");
    await once(child, "exit");
    const second = await runOnce("--kubeconfig", api.kubeconfig);
    expectWhole(second.result, second.told);
  });
});

const noRoot = process.getuid?.() === 0 ? undefined : "needs root, to become another user";

describe.skipIf(noRoot !== undefined)(`npm start -- --once without root [${noRoot ?? "nobody"}]`, () => {
  it("shows everything but the kernel, and says so", async () => {
    const dir = mkdtempSync(join(tmpdir(), "sedge-nobody-"));
    await exec(["chown", "65534:65534", dir]);
    const { stdout, stderr, code } = await exec(
      ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", ...demo("--once", "--dir", join(dir, "demo"))],
      { env: { ...process.env, HOME: dir }, timeoutMs: 120_000 },
    );
    rmSync(dir, { recursive: true, force: true });
    expect(stderr).toContain("not root: everything but the kernel is shown");
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      ok: true,
      kernel: false,
      pods: [],
      changes: [{ nodes: 3 }, { nodes: 2 }, { nodes: 3 }, { nodes: 2 }, { nodes: 2 }],
    });
  });
});
