/**
 * Private network namespaces for kernel tests: `await using ns = await createNetns("sedge-kt")`.
 *
 * Invariant: whatever happens in the test, its namespaces and the processes it started in them are gone afterwards.
 * Names carry the pid of the maker ("sedge-kt-4711-1"), and a new run first removes those whose maker is dead, so a
 * killed run leaves nothing for long. The machine's own namespace is never changed.
 * Rejected: `unshare` around the whole test run: one namespace for all tests lets them see each other's rules.
 */
import { type ChildProcess, execFile, type SpawnOptions, spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { promisify } from "node:util";

const execFileAsync = promisify(execFile);
const NETNS_DIRECTORY = "/run/netns";

export type ExecResult = { readonly code: number; readonly stdout: string; readonly stderr: string };

/** True when kernel tests can run here: root and the `ip` tool. Kernel test files skip themselves otherwise. */
export function canUseNetns(): boolean {
  return whyNoKernel() === undefined;
}

/** Why kernel tests cannot run here, for the names of what is skipped; undefined when they can. */
export function whyNoKernel(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root";
  const missing = ["ip", "nft", "nsenter", "sysctl"].filter((tool) => !TOOL_FOLDERS.some((folder) => existsSync(`${folder}/${tool}`)));
  return missing.length === 0 ? undefined : `needs ${missing.join(", ")}`;
}

const TOOL_FOLDERS = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/** Make a namespace with `lo` up. Needs root. `prefix` tells whose it is; 12 characters at most keep names readable. */
export async function createNetns(prefix: string): Promise<Netns> {
  await removeAbandoned(prefix);
  created += 1;
  const name = `${prefix}-${process.pid}-${created}`;
  await run("ip", ["netns", "add", name]);
  const ns = new Netns(name);
  await ns.ip("link", "set", "lo", "up");
  return ns;
}

let created = 0;

export class Netns implements AsyncDisposable {
  readonly name: string;
  /** For setns(2) and `NetlinkSocket.open({ netns })`. */
  readonly path: string;
  readonly #children = new Set<ChildProcess>();

  constructor(name: string) {
    this.name = name;
    this.path = `${NETNS_DIRECTORY}/${name}`;
  }

  /** Run to the end inside the namespace; stdout. A non-zero exit throws with stderr in the message. */
  async exec(command: string, ...args: readonly string[]): Promise<string> {
    return await run("nsenter", [`--net=${this.path}`, command, ...args]);
  }

  /** As `exec`, but any exit code is a result. */
  async tryExec(command: string, ...args: readonly string[]): Promise<ExecResult> {
    return await tryRun("nsenter", [`--net=${this.path}`, command, ...args]);
  }

  /** `ip` inside the namespace. */
  async ip(...args: readonly string[]): Promise<string> {
    return await run("ip", ["-n", this.name, ...args]);
  }

  /** Start a process inside the namespace; it is killed when the namespace is disposed. */
  spawn(command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const child = spawn("nsenter", [`--net=${this.path}`, command, ...args], options);
    this.#children.add(child);
    child.once("exit", () => this.#children.delete(child));
    return child;
  }

  /** A bridge that is up. */
  async addBridge(bridge: string): Promise<void> {
    await this.ip("link", "add", bridge, "type", "bridge");
    await this.ip("link", "set", bridge, "up");
  }

  /** A veth pair with `link` here and `peer.link` in another namespace, both up, with optional addresses ("10.0.0.1/24"). */
  async addVeth(
    link: string,
    peer: { readonly netns: Netns; readonly link: string; readonly addresses?: readonly string[] },
    options: { readonly addresses?: readonly string[]; readonly bridge?: string } = {},
  ): Promise<void> {
    await this.ip("link", "add", link, "type", "veth", "peer", "name", peer.link, "netns", peer.netns.name);
    if (options.bridge !== undefined) await this.ip("link", "set", link, "master", options.bridge);
    await this.ip("link", "set", link, "up");
    await peer.netns.ip("link", "set", peer.link, "up");
    for (const address of options.addresses ?? []) await this.#addAddress(link, address);
    for (const address of peer.addresses ?? []) await peer.netns.#addAddress(peer.link, address);
  }

  /** e.g. `sysctl("net.ipv4.ip_forward", "1")`. */
  async sysctl(key: string, value: string): Promise<void> {
    await this.exec("sysctl", "-q", "-w", `${key}=${value}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) child.kill("SIGKILL");
    await removeNetns(this.name);
  }

  async #addAddress(link: string, address: string): Promise<void> {
    // Duplicate address detection would leave a v6 address unusable for a second.
    await this.ip("address", "add", address, "dev", link, ...(address.includes(":") ? ["nodad"] : []));
  }
}

async function removeAbandoned(prefix: string): Promise<void> {
  if (!existsSync(NETNS_DIRECTORY)) return;
  for (const name of readdirSync(NETNS_DIRECTORY)) {
    if (!name.startsWith(`${prefix}-`)) continue;
    const maker = /^-(\d+)-\d+$/.exec(name.slice(prefix.length))?.[1];
    if (maker !== undefined && !existsSync(`/proc/${maker}`)) await removeNetns(name);
  }
}

async function removeNetns(name: string): Promise<void> {
  const pids = await tryRun("ip", ["netns", "pids", name]);
  for (const pid of pids.stdout.split(/\s+/)) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch (error) {
      // It may have ended by itself in between.
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
  await tryRun("ip", ["netns", "delete", name]);
}

async function run(command: string, args: readonly string[]): Promise<string> {
  const result = await tryRun(command, args);
  if (result.code !== 0) {
    throw new Error(`"${command} ${args.join(" ")}" exited with ${result.code}: ${result.stderr.trim()}`);
  }
  return result.stdout;
}

async function tryRun(command: string, args: readonly string[]): Promise<ExecResult> {
  try {
    const { stdout, stderr } = await execFileAsync(command, args, { maxBuffer: 256 * 1024 * 1024 });
    return { code: 0, stdout, stderr };
  } catch (error) {
    const failure = error as { code?: unknown; stdout?: string; stderr?: string };
    if (typeof failure.code !== "number") throw error;
    return { code: failure.code, stdout: failure.stdout ?? "", stderr: failure.stderr ?? "" };
  }
}
