/** The programs that the demo starts: each with a log file of its own; ended in reverse order. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Registry } from "./registry.ts";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

export const sedgeEntry = join(root, "bin", "sedge.js");
export const cniExecutable = join(root, "dist", "cni", "sedge-cni");

export interface Child {
  readonly name: string;
  readonly logFile: string;
  readonly process: ChildProcess;
}

export class Children {
  readonly #registry: Registry;
  readonly #children: Child[] = [];
  #isStopping = false;
  /** Called when a program ends that was not asked to. */
  onUnexpectedEnd: (child: Child, how: string) => void = () => undefined;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** Starts `sedge <argv>`, in a network namespace when given. `withPipe`: stdin and stdout are pipes for the caller. */
  start(name: string, argv: readonly string[], options: { netns?: string; withPipe?: boolean; entry?: string } = {}): Child {
    if (this.#isStopping) throw new Error(`${name} is not started: the demo is being stopped`);
    const logFile = join(this.#registry.dir, `${name}.log`);
    const log = openSync(logFile, "a");
    const command = [...(options.netns === undefined ? [] : ["ip", "netns", "exec", options.netns]), process.execPath, options.entry ?? sedgeEntry, ...argv];
    const pipe = options.withPipe === true ? ("pipe" as const) : ("ignore" as const);
    // A group of its own: Ctrl-C in the terminal reaches the demo alone, which then stops its programs in order.
    const child = spawn(command[0] ?? "", command.slice(1), { stdio: [pipe, options.withPipe === true ? "pipe" : log, log], detached: true });
    closeSync(log);
    const entry = { name, logFile, process: child };
    this.#children.push(entry);
    if (child.pid !== undefined) this.#registry.noteProcess(child.pid);
    child.on("error", (error) => this.onUnexpectedEnd(entry, error.message));
    child.on("exit", (code, signal) => {
      if (!this.#isStopping) this.onUnexpectedEnd(entry, `exit ${code ?? signal}`);
    });
    return entry;
  }

  named(name: string): Child | undefined {
    return this.#children.find((child) => child.name === name);
  }

  /**
   * Stops everything: pods and agents at once, then the programs that they depend on, the newest first. What has not ended after 5 s is killed. Nothing can
   * be started any more.
   */
  async stopAll(): Promise<void> {
    this.#isStopping = true;
    const isLeaf = ({ name }: Child): boolean => name.startsWith("pod-") || name.startsWith("agent-");
    await Promise.all(this.#children.filter(isLeaf).map((child) => stop(child.process)));
    for (const child of this.#children.filter((child) => !isLeaf(child)).reverse()) await stop(child.process);
  }
}

/** Resolves when the process has ended. */
async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  await new Promise<void>((resolve) => {
    const killer = setTimeout(() => child.kill("SIGKILL"), 5000);
    child.once("exit", () => {
      clearTimeout(killer);
      resolve();
    });
    child.kill("SIGTERM");
  });
}

/** The last lines of a program's log, for an error message. */
export function logTail(child: Child, lines = 15): string {
  return existsSync(child.logFile) ? readFileSync(child.logFile, "utf8").trimEnd().split("\n").slice(-lines).join("\n") : "";
}
