// Container runtimes and tools that others wrote, with our executable: each that is installed gets an address, and leaves nothing.
import { mkdtemp, rm } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { exec } from "../../src/runtime/exec.ts";
import { hasCniExecutable } from "../fakes/cni-caller.ts";

interface Step {
  readonly code: number;
  readonly output: string;
}

const isRoot = process.getuid?.() === 0;
const steps = new Map<string, Step>();
let directory = "";

async function findCnitool(): Promise<string> {
  const script = new URL("../../scripts/build-go-tools.mjs", import.meta.url).pathname;
  const { code, stdout } = await exec([process.execPath, script, "--find", "cnitool"], { timeoutMs: 30_000, env: { ...process.env, HOME: homedir() } });
  return code === 0 ? ((JSON.parse(stdout) as { readonly cnitool?: string }).cnitool ?? "") : "";
}

/** The step's outcome; skips the test when its program is not here. */
function outcome(name: string, skip: (why: string) => void): Step {
  const step = steps.get(name);
  if (step === undefined) skip(`${name.split(" ")[0] ?? name} is not installed`);
  return step ?? { code: -1, output: "" };
}

describe.skipIf(!isRoot || !hasCniExecutable())("runtimes", () => {
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "sedge-runtimes-"));
    const script = new URL("runtimes.sh", import.meta.url).pathname;
    const argv: [string, ...string[]] = ["unshare", "-m", "-n", "--propagation", "private", "bash", script, directory, process.execPath, await findCnitool()];
    const { stdout } = await exec(argv, { timeoutMs: 240_000, env: process.env });
    for (const line of stdout.split("\n")) {
      const [, name, code, output] = /^(\S+ \S+) (\d+) (.*)$/.exec(line) ?? [];
      if (name !== undefined && code !== undefined) steps.set(name, { code: Number(code), output: output ?? "" });
    }
  }, 300_000);
  afterAll(() => rm(directory, { recursive: true, force: true }));

  it("cnitool: add, check, del, del again", ({ skip }) => {
    expect(outcome("cnitool add", skip)).toMatchObject({ code: 0, output: expect.stringContaining("10.65.0.") as string });
    expect(outcome("cnitool address", skip)).toMatchObject({ code: 0, output: expect.stringContaining("10.65.0.") as string });
    for (const step of ["check", "del", "again"]) expect(outcome(`cnitool ${step}`, skip)).toMatchObject({ code: 0 });
  });

  it("containerd: ctr run --cni", ({ skip }) => {
    expect(outcome("containerd run", skip)).toMatchObject({ code: 0, output: expect.stringMatching(/eth0 +inet 10\.65\.0\.\d+\/32/) as string });
  });

  it("podman with CNI", ({ skip }) => {
    const { code, output } = outcome("podman run", skip);
    expect({ code, output }).toMatchObject({ code: 0, output: expect.stringMatching(/eth0 +inet 10\.65\.0\.\d+\/32/) as string });
  });

  it("nothing is left", ({ skip }) => {
    expect(outcome("agent used", skip).output.trim()).toBe("0");
  });
});
