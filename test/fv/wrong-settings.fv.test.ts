/** What a person gets wrong when starting a program: the message names it, without a stack, and the program ends. */
import { execFile } from "node:child_process";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";

const SEDGE = join(import.meta.dirname, "..", "..", "bin", "sedge.ts");

interface Ended {
  readonly code: number | null;
  readonly text: string;
}

function sedge(...args: string[]): Promise<Ended> {
  return run(process.execPath, SEDGE, ...args);
}

function run(program: string, ...args: string[]): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(program, args, { timeout: 60_000, env: { PATH: process.env["PATH"], HOME: "/nonexistent" } }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode, text: stdout + stderr }),
    );
  });
}

async function takenPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

const FANOUT = ["fanout", "--insecure-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"];

describe("a program that cannot start", () => {
  it.for([
    { name: "fanout: no kubeconfig at all", args: FANOUT, says: "--kubeconfig" },
    { name: "fanout: kubeconfig missing", args: [...FANOUT, "--kubeconfig", "/nonexistent/kubeconfig"], says: "/nonexistent/kubeconfig" },
    { name: "controllers: kubeconfig missing", args: ["controllers", "--kubeconfig", "/nonexistent/kubeconfig"], says: "/nonexistent/kubeconfig" },
    { name: "issuer: kubeconfig missing", args: ["issuer", "--kubeconfig", "/nonexistent/kubeconfig"], says: "/nonexistent/kubeconfig" },
    {
      name: "issuer: authority missing",
      args: [
        "issuer",
        "--authority",
        "files",
        "--ca-cert",
        "/nonexistent/ca.crt",
        "--ca-key",
        "/nonexistent/ca.key",
        "--token-file",
        "/nonexistent/tokens",
        "--no-token-review",
        "--no-sign-requests",
        "--metrics-listen",
        "127.0.0.1:0",
        "--health-listen",
        "127.0.0.1:0",
      ],
      says: "--ca-cert /nonexistent/ca.crt: ENOENT",
    },
    { name: "ipam: kubeconfig missing", args: ["ipam", "show", "--kubeconfig", "/nonexistent/kubeconfig"], says: "/nonexistent/kubeconfig" },
    {
      name: "api: kubeconfig cannot be written",
      args: ["api", "--listen", "127.0.0.1:0", "--kubeconfig-out", "/nonexistent/out"],
      says: "--kubeconfig-out /nonexistent/out",
    },
    { name: "status: no agent at the socket", args: ["status", "--socket", "/nonexistent/agent.sock"], says: "/nonexistent/agent.sock" },
  ])("$name", async ({ args, says }) => {
    const { code, text } = await sedge(...args);
    expect(text).toContain(says);
    expect(text).not.toMatch(/^\s+at /m);
    expect(code).toBe(1);
  });

  it.runIf(process.getuid?.() === 0)("agent, benchmarks of the kernel: not root", async () => {
    const agent = ["agent", "--node-name", "n1", "--server", "127.0.0.1:9", "--insecure", "--metrics-listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"];
    for (const args of [agent, ["bench", "kernel-sets"], ["bench", "cni"]]) {
      const { code, text } = await run(
        "setpriv",
        "--bounding-set=-all",
        "--inh-caps=-all",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        process.execPath,
        SEDGE,
        ...args,
      );
      expect(text).toContain("run it as root");
      expect(text).not.toMatch(/^\s+at /m);
      expect(code).toBe(1);
    }
  });

  it("every server: the port is taken", async () => {
    const port = await takenPort();
    const kubeconfig = join(import.meta.dirname, "..", "fakes", "unreachable.kubeconfig");
    for (const args of [
      [...FANOUT, "--kubeconfig", kubeconfig, "--metrics-listen", `127.0.0.1:${port}`],
      ["api", "--listen", `127.0.0.1:${port}`],
      ["controllers", "--kubeconfig", kubeconfig, "--metrics-listen", `127.0.0.1:${port}`],
      ["issuer", "--kubeconfig", kubeconfig, "--metrics-listen", `127.0.0.1:${port}`],
      [
        "agent",
        "--node-name",
        "n1",
        "--server",
        "127.0.0.1:9",
        "--insecure",
        "--no-dataplane",
        "--state-dir",
        join(tmpdir(), `sedge-${process.pid}`),
        "--metrics-listen",
        `127.0.0.1:${port}`,
      ],
    ]) {
      const { code, text } = await sedge(...args);
      expect(text).toContain(`127.0.0.1:${port}`);
      expect(text).not.toMatch(/^\s+at /m);
      expect(code).toBe(1);
    }
  });
});
