/**
 * What the demo has made on this machine, on disk before it is made: so that the next start can clean up after one that was killed at any point.
 *
 * A process is ended only if its pid still has the start time that was noted (a reused pid is somebody else's). Namespaces are found by their prefix.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { exec } from "../runtime/exec.ts";

export class Registry {
  readonly dir: string;
  readonly #netnsPrefix: string;
  readonly #processes: string;

  constructor(dir: string, netnsPrefix: string) {
    this.dir = dir;
    this.#netnsPrefix = netnsPrefix;
    this.#processes = join(dir, "processes");
  }

  /** The file of the demo's own that is there while it runs. */
  prepare(): void {
    mkdirSync(this.dir, { recursive: true, mode: 0o700 });
  }

  noteProcess(pid: number): void {
    appendFileSync(this.#processes, `${pid} ${startTime(pid) ?? ""}\n`);
  }

  /** Processes noted by this or an earlier run that are still the same ones. */
  liveProcesses(): number[] {
    if (!existsSync(this.#processes)) return [];
    return readFileSync(this.#processes, "utf8")
      .split("\n")
      .flatMap((line) => {
        const [pid, start] = line.split(" ");
        return pid !== undefined && pid !== "" && start !== "" && startTime(Number(pid)) === start ? [Number(pid)] : [];
      });
  }

  /** Ends what is left of an earlier run and removes its namespaces and files; returns what it found, for people. */
  async cleanUp(): Promise<string[]> {
    const found: string[] = [];
    for (const pid of this.liveProcesses()) {
      found.push(`process ${pid}`);
      process.kill(pid, "SIGKILL");
    }
    if (process.getuid?.() === 0) {
      for (const name of await namespacesWith(this.#netnsPrefix)) {
        found.push(`namespace ${name}`);
        await exec(["ip", "netns", "delete", name]);
      }
    }
    rmSync(this.dir, { recursive: true, force: true });
    return found;
  }
}

async function namespacesWith(prefix: string): Promise<string[]> {
  const { stdout } = await exec(["ip", "netns", "list"]);
  return stdout
    .split("\n")
    .map((line) => line.split(" ")[0] ?? "")
    .filter((name) => name.startsWith(prefix));
}

/** Field 22 of /proc/PID/stat: clock ticks from boot to the start of the process. The name before it may hold blanks and parentheses. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
