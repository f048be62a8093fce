/**
 * Commands of a CNI plugin as a shell starts them, and what each took: bash forks and waits as fast as a container runtime does. Rejected: child_process of the
 * bench itself, which takes longer to start a process of 100 MB than a plugin runs.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inNetns } from "../../agent/drivers/netlink/libc.ts";

export interface Plugin<Name extends string = string> {
  readonly name: Name;
  readonly executable: string;
  /** CNI_PATH. */
  readonly path: string;
  readonly config: object;
}

export interface Call<Name extends string = string> {
  readonly plugin: Plugin<Name>;
  readonly command: "ADD" | "DEL";
  readonly id: string;
  readonly netns: string;
}

export interface Took {
  /** From before the fork to after the exit. */
  readonly elapsedMs: number;
  /** Of the command and its children, from the fork on. */
  readonly cpuMs: number;
}

export interface Place {
  /** Of the scripts, the plugins' configurations and what they print. */
  readonly directory: string;
  /** The network namespace that the plugins run in: its path. */
  readonly host: string;
}

/** In their order; what each took. Throws with what a failed one printed; none runs behind it. */
export function oneAfterTheOther(place: Place, calls: readonly Call[]): readonly Took[] {
  const lines = calls.flatMap((call) => [
    "began=${EPOCHREALTIME/./}",
    `${line(place, call)} || exit 9`,
    "ended=${EPOCHREALTIME/./}",
    // Of the shell and of its children, in all: user and system time.
    "times",
    'echo "took $((ended - began))"',
  ]);
  // The date of EPOCHREALTIME is written as the locale has it.
  const script = scriptOf(place, calls, ["export LC_ALL=C", ...lines]);
  let printed: string;
  try {
    printed = inNetns(place.host, () => execFileSync("bash", [script], { encoding: "utf8", maxBuffer: 1 << 26, stdio: ["ignore", "pipe", "inherit"] }));
  } catch (error) {
    throw new Error(`a plugin failed: ${lastOutput(place, calls, (error as { readonly stdout?: string }).stdout ?? "")}`, { cause: error });
  }
  let before = 0;
  return [...printed.matchAll(/^.*\n(\S+) (\S+)\ntook (\d+)$/gm)].map(([, user = "", system = "", microseconds]) => {
    const total = milliseconds(user) + milliseconds(system);
    const cpuMs = total - before;
    before = total;
    return { elapsedMs: Number(microseconds) / 1_000, cpuMs };
  });
}

/** Until the last has ended; of all together. Rejects with what a failed one printed. */
export async function allAtOnce(place: Place, calls: readonly Call[]): Promise<Took> {
  const failed = join(place.directory, "failed");
  const lines = calls.map((call) => `{ ${line(place, call)} || echo ${call.id} >>${quoted(failed)}; } &`);
  const script = scriptOf(place, calls, [`rm -f ${quoted(failed)}`, ...lines, "wait", "times", `[ ! -e ${quoted(failed)} ]`]);
  const started = performance.now();
  const shell = inNetns(place.host, () => spawn("bash", [script], { stdio: ["ignore", "pipe", "inherit"] }));
  let printed = "";
  shell.stdout.on("data", (text: Buffer) => (printed += text.toString()));
  const [code] = (await once(shell, "close")) as [number | null];
  const elapsedMs = performance.now() - started;
  if (code !== 0) {
    const ids = readFileSync(failed, "utf8").trim().split("\n");
    throw new Error(`${ids.length} of ${calls.length} failed: ${readFileSync(outputOf(place, ids[0] ?? ""), "utf8")}`);
  }
  return {
    elapsedMs,
    cpuMs: printed
      .trim()
      .split(/\s+/)
      .slice(-2)
      .map(milliseconds)
      .reduce((a, b) => a + b),
  };
}

function scriptOf(place: Place, calls: readonly Call[], lines: readonly string[]): string {
  for (const { plugin } of calls) writeFileSync(configOf(place, plugin), JSON.stringify(plugin.config));
  const script = join(place.directory, "calls.sh");
  writeFileSync(script, `${lines.join("\n")}\n`);
  return script;
}

function line(place: Place, { plugin, command, id, netns }: Call): string {
  const variables = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: id,
    CNI_NETNS: netns,
    CNI_IFNAME: "eth0",
    CNI_PATH: plugin.path,
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${id}`,
  };
  const assigned = Object.entries(variables).map(([name, value]) => `${name}=${quoted(value)}`);
  return `${assigned.join(" ")} ${quoted(plugin.executable)} <${quoted(configOf(place, plugin))} >${quoted(outputOf(place, id))} 2>&1`;
}

function configOf({ directory }: Place, { name }: Plugin): string {
  return join(directory, `${name}.json`);
}

function outputOf({ directory }: Place, id: string): string {
  return join(directory, `${id}.out`);
}

function lastOutput(place: Place, calls: readonly Call[], printed: string): string {
  const { id = "", plugin, command } = calls[printed.split("\ntook ").length - 1] ?? {};
  return `${plugin?.executable ?? "?"} ${command ?? ""}: ${readFileSync(outputOf(place, id), "utf8")}`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** bash's "0m1.234s". */
function milliseconds(text: string): number {
  const [, minutes = "", seconds = ""] = /^(\d+)m([\d.]+)s$/.exec(text) ?? [];
  return Number(minutes) * 60_000 + Number(seconds) * 1_000;
}
