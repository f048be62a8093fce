// Starts the real kube-apiserver (this folder's Go program) as a child process for a test, the bench or the demo.
//
// Invariant: the child never outlives its parent (it stops when its stdin ends), and a temporary directory never outlives
// the fixture. The binary is not built here: the first build takes minutes, so it is a step of its own
// (`node scripts/build-go-tools.mjs kube-apiserver`), and a test without it is skipped with the reason.
// Rejected: one server shared by all test files: it would make them depend on each other's objects and restarts.
import { type ChildProcessByStdio, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";

const BUILD_SCRIPT = fileURLToPath(new URL("../../scripts/build-go-tools.mjs", import.meta.url));
const STOP_DEADLINE_MS = 15_000;
const COMPACT_DEADLINE_MS = 30_000;
const SHOWN_LOG_LINES = 20;

export interface KubeApiserver extends AsyncDisposable {
  /** Path of the administrator's kubeconfig; the same, with the same content, after a restart on the same `dir` and port. */
  readonly kubeconfig: string;
  readonly url: string;
  readonly dir: string;
  readonly pid: number;
  /** Settles when the process has ended, for whatever reason. */
  readonly ended: Promise<void>;
  /** SIGTERM: open watches end cleanly, about a second. Removes `dir` if it was a temporary one. */
  stop(): Promise<void>;
  /** SIGKILL: connections break. Keeps `dir`, so that another start can continue with it; disposal still removes a temporary one. */
  kill(): Promise<void>;
  /**
   * Compacts etcd up to now. Older resource versions and continue tokens get 410 Gone wherever the server asks etcd:
   * everywhere with `--watch-cache=false`; with the watch cache only what the cache does not hold (a restart empties it).
   */
  compact(): Promise<void>;
}

export interface KubeApiserverOptions {
  /** State directory, kept at the end; default: a temporary one. */
  readonly dir?: string;
  /**
   * Flags of the Kubernetes API server; they win over the fixture's own. With "--watch-cache=false" every watch and list asks etcd, and a watch
   * gets no bookmark but the one that ends its initial events; with the cache one comes each minute and shortly before the watch's time is over.
   */
  readonly extraArgs?: readonly string[];
  /** IP address to serve on; default 127.0.0.1. */
  readonly bindAddress?: string;
  /** Default 0: the port of the last run in `dir` if it is free, else any free one. */
  readonly port?: number;
  /** Aborts the start, and stops the server later. */
  readonly signal?: AbortSignal;
}

type Tool = "kube-apiserver" | "kubectl" | "helm" | "grpcurl" | "h2spec" | "foreign-go-client";

/** Environment variable that overrides where a tool is. */
const OVERRIDE: Readonly<Record<Tool, string>> = {
  "kube-apiserver": "SEDGE_KUBE_APISERVER",
  kubectl: "SEDGE_KUBECTL",
  helm: "SEDGE_HELM",
  grpcurl: "SEDGE_GRPCURL",
  h2spec: "SEDGE_H2SPEC",
  "foreign-go-client": "SEDGE_FOREIGN_GO_CLIENT",
};

const found = new Map<Tool, string>();

/** Path of a tool that scripts/build-go-tools.mjs has built, or `undefined`. The first call for each takes about 0.1 s. */
export function findGoTool(tool: Tool): string | undefined {
  const override = process.env[OVERRIDE[tool]];
  if (override !== undefined && override !== "") return existsSync(override) ? override : undefined;
  const known = found.get(tool);
  if (known !== undefined) return known;
  try {
    const answer: unknown = JSON.parse(
      execFileSync(process.execPath, [BUILD_SCRIPT, "--find", tool], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }),
    );
    const path = typeof answer === "object" && answer !== null ? Reflect.get(answer, tool) : undefined;
    if (typeof path !== "string") return undefined;
    found.set(tool, path);
    return path;
  } catch {
    return undefined; // Exit codes 3 and 4: no Go, not built.
  }
}

/** Why there is no kube-apiserver here; `undefined` when there is one. For `describe.skipIf(kubeApiserverAvailable() !== undefined)`. */
export function kubeApiserverAvailable(): string | undefined {
  if (findGoTool("kube-apiserver") !== undefined) return undefined;
  const override = process.env[OVERRIDE["kube-apiserver"]];
  if (override !== undefined && override !== "") return `SEDGE_KUBE_APISERVER names ${override}, which is not there`;
  return "kube-apiserver is not built; run: node scripts/build-go-tools.mjs kube-apiserver";
}

/** Resolves when the server is ready (about 3 s). Rejects with the end of its log when it ends before that. */
export async function startKubeApiserver(options: KubeApiserverOptions = {}): Promise<KubeApiserver> {
  const binary = findGoTool("kube-apiserver");
  if (binary === undefined) throw new Error(kubeApiserverAvailable());
  options.signal?.throwIfAborted();
  const isTemporary = options.dir === undefined;
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), "sedge-apiserver-")));
  const logFile = join(dir, "log");
  const args = ["--dir", dir, "--log-file", logFile, "--exit-with-stdin"];
  if (options.bindAddress !== undefined) args.push("--bind-address", options.bindAddress);
  if (options.port !== undefined) args.push("--port", String(options.port));
  const child = spawn(binary, [...args, "--", ...(options.extraArgs ?? [])], {
    env: { GOGC: "50", GOMEMLIMIT: "700MiB", ...process.env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const ended = new Promise<void>((resolve) => {
    child.once("error", () => resolve());
    child.once("close", () => resolve());
  });
  // Before --log-file is in force (bad flags, a directory in use), messages come here.
  let earlyLog = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    earlyLog = (earlyLog + text).slice(-10_000);
  });
  child.stdin.on("error", () => undefined); // EPIPE when it is gone already
  const lines = new OutputLines(child);
  const removeTemporary = async (): Promise<void> => {
    if (isTemporary) await rm(dir, { recursive: true, force: true });
  };

  const onAbort = (): void => {
    child.kill("SIGTERM");
  };
  options.signal?.addEventListener("abort", onAbort, { once: true });
  if (options.signal?.aborted === true) onAbort(); // while the directory was made
  const ready = await lines.next(["READY "]);
  const pid = child.pid;
  if (ready === undefined || pid === undefined) {
    await ended;
    const log = await readFile(logFile, "utf8").catch(() => "");
    await removeTemporary();
    options.signal?.throwIfAborted();
    throw new Error(`kube-apiserver in ${dir} ended before it was ready:\n${lastLines(log)}\n${earlyLog.trim()}`);
  }
  const { kubeconfig, url } = parseReady(ready);

  const end = async (signal: "SIGTERM" | "SIGKILL"): Promise<void> => {
    options.signal?.removeEventListener("abort", onAbort);
    child.kill(signal);
    const deadline = setTimeout(() => child.kill("SIGKILL"), STOP_DEADLINE_MS);
    await ended;
    clearTimeout(deadline);
  };
  const stop = async (): Promise<void> => {
    await end("SIGTERM");
    await removeTemporary();
  };
  return {
    kubeconfig,
    url,
    dir,
    pid,
    ended,
    stop,
    kill: () => end("SIGKILL"),
    async compact(): Promise<void> {
      const answer = lines.next(["COMPACTED ", "COMPACT-FAILED "], COMPACT_DEADLINE_MS);
      child.kill("SIGUSR1");
      const line = await answer;
      if (line === undefined || line.startsWith("COMPACT-FAILED "))
        throw new Error(`kube-apiserver in ${dir}: compaction failed: ${line ?? "the process ended or gave no answer"}`);
    },
    [Symbol.asyncDispose]: stop,
  };
}

/** The child's stdout, read to the end whether anyone waits or not. Waiters are served in order, one line each. */
class OutputLines {
  readonly #waiting: { prefixes: readonly string[]; resolve: (line: string | undefined) => void }[] = [];
  #ended = false;

  constructor(child: ChildProcessByStdio<Writable, Readable, Readable>) {
    child.once("error", () => this.#end());
    const reader = createInterface({ input: child.stdout });
    reader.on("line", (line) => {
      const index = this.#waiting.findIndex(({ prefixes }) => prefixes.some((prefix) => line.startsWith(prefix)));
      if (index >= 0) this.#waiting.splice(index, 1)[0]?.resolve(line);
    });
    void once(reader, "close").then(() => this.#end());
  }

  /** The next line that starts with one of the prefixes; `undefined` when the output or the time ends before. */
  next(prefixes: readonly string[], deadlineMs?: number): Promise<string | undefined> {
    if (this.#ended) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      const timer = deadlineMs === undefined ? undefined : setTimeout(() => resolve(undefined), deadlineMs);
      this.#waiting.push({
        prefixes,
        resolve: (line) => {
          clearTimeout(timer);
          resolve(line);
        },
      });
    });
  }

  #end(): void {
    this.#ended = true;
    for (const { resolve } of this.#waiting.splice(0)) resolve(undefined);
  }
}

function parseReady(line: string): { kubeconfig: string; url: string } {
  const answer: unknown = JSON.parse(line.slice("READY ".length));
  if (typeof answer === "object" && answer !== null && "kubeconfig" in answer && "url" in answer) {
    const { kubeconfig, url } = answer;
    if (typeof kubeconfig === "string" && typeof url === "string") return { kubeconfig, url };
  }
  throw new Error(`kube-apiserver: not understood: ${line}`);
}

function lastLines(log: string): string {
  return log.trimEnd().split("\n").slice(-SHOWN_LOG_LINES).join("\n");
}
