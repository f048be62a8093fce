/**
 * What the demo has made on this machine, on disk before it is made: so that the next start can clean up after one that was killed at any point.
 *
 * A process is ended only if its pid still has the start time that was noted (a reused pid is somebody else's). Namespaces are found by their prefix.
 * Only the owner of the folder cleans up: a demo that still runs is never ended by the next one, and a folder that no demo made is never emptied.
 */
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { exec } from "../runtime/exec.ts";
import { processStartTime } from "../runtime/process-start.ts";
import { StartError } from "../runtime/start-error.ts";

const OWNER = "owner";
const PROCESSES = "processes";

export class Registry {
  readonly dir: string;
  readonly #netnsPrefix: string;
  readonly #processes: string;

  constructor(dir: string, netnsPrefix: string) {
    this.dir = dir;
    this.#netnsPrefix = netnsPrefix;
    this.#processes = join(dir, PROCESSES);
  }

  /** Makes the folder this process's, also one of a demo that was killed. Throws StartError when a live demo has it, or files that no demo made. */
  claim(): void {
    mkdirSync(this.dir, { recursive: true, mode: 0o700 });
    const names = readdirSync(this.dir);
    if (names.length > 0 && !names.includes(OWNER) && !names.includes(PROCESSES)) {
      throw new StartError(`${this.dir} has files that no demo made (${names[0] ?? ""}, …); name an empty folder, or one that does not exist: --dir DIR`);
    }
    const owner = join(this.dir, OWNER);
    const live = liveIn(owner)[0];
    if (live !== undefined) throw this.#running(`process ${live}`);
    rmSync(owner, { force: true });
    try {
      writeFileSync(owner, processLine(process.pid), { flag: "wx" });
    } catch (error) {
      if (!existsSync(owner)) throw error;
      throw this.#running("it began at the same moment");
    }
  }

  #running(which: string): StartError {
    return new StartError(
      `a demo in ${this.dir} is running (${which}); end it with Ctrl-C where it was started, or start another beside it: npm start -- --name OTHER`,
    );
  }

  noteProcess(pid: number): void {
    appendFileSync(this.#processes, processLine(pid));
  }

  /** Processes noted by this or an earlier run that are still the same ones. */
  liveProcesses(): number[] {
    return liveIn(this.#processes);
  }

  /** Ends what is left of an earlier run and removes its namespaces and files, the claim excepted; returns what it found, for people. */
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
    for (const name of readdirSync(this.dir)) if (name !== OWNER) rmSync(join(this.dir, name), { recursive: true, force: true });
    return found;
  }

  /** Cleans up and gives the folder back. */
  async release(): Promise<void> {
    await this.cleanUp();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** One line a process: "PID START". */
function processLine(pid: number): string {
  return `${pid} ${processStartTime(pid) ?? ""}\n`;
}

/** Those in the file that still are the same processes. */
function liveIn(file: string): number[] {
  if (!existsSync(file)) return [];
  return readFileSync(file, "utf8")
    .split("\n")
    .flatMap((line) => {
      const [pid, start] = line.split(" ");
      return pid !== undefined && pid !== "" && start !== "" && processStartTime(Number(pid)) === start ? [Number(pid)] : [];
    });
}

async function namespacesWith(prefix: string): Promise<string[]> {
  const { stdout } = await exec(["ip", "netns", "list"]);
  return stdout
    .split("\n")
    .map((line) => line.split(" ")[0] ?? "")
    .filter((name) => name.startsWith(prefix));
}
