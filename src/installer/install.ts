/**
 * Puts the CNI executable and the configuration on a host, or takes them away.
 *
 *   install     directories → executable (proved by running it) → reference plugins that are missing → configuration
 *   uninstall   configuration → executable
 *
 * Invariants: a configuration of ours is there only while everything that it calls is there and answers; each file is whole or not there (host-files.ts);
 * what is there already, byte by byte, is not written again, so that a host that has become read-only and is complete is no failure. Plugins of others and
 * configurations of others are never changed. Nothing is watched: the agent answers STATUS, and an update is another run.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { access, constants, mkdir, readdir, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { exec } from "../runtime/exec.ts";
import type { Logger } from "../runtime/log.ts";
import { type ChainedPlugin, conflistPlugins, newestCommonVersion, renderConflist } from "./conflist.ts";
import { type HostSteps, realSteps, removeAbandoned, temporaryFor } from "./host-files.ts";

export interface InstallOptions {
  /** The executable to install, as this process sees it. */
  readonly executable: string;
  /** The host's directories, as this process sees them. */
  readonly binDir: string;
  readonly confDir: string;
  readonly confName: string;
  /** A list that someone wrote; absent: rendered from `network`. */
  readonly conflist?: string;
  readonly network: {
    readonly name: string;
    readonly socket: string;
    readonly queueDir: string;
    readonly mtu: number;
    readonly logFile: string;
    readonly chained: readonly ChainedPlugin[];
    readonly sysctls: Readonly<Record<string, string>>;
  };
  /** Where reference plugins are taken from that the host does not have; "": nowhere. */
  readonly pluginsFrom: string;
  readonly log: Logger;
  readonly steps?: HostSteps;
}

/** What cannot be done, and what to do about it. */
export class InstallError extends Error {
  readonly code = "START";

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "InstallError";
  }
}

const EXECUTABLE = "sedge-cni";
const LOOPBACK = "loopback";
const EXECUTABLE_MODE = 0o755;
const CONFLIST_MODE = 0o644;
const PROBE_TIMEOUT_MS = 20_000;
/** e_machine of an ELF file (elf.h), by Node's name of the architecture. */
const ELF_MACHINES: Readonly<Record<string, number>> = { x64: 62, arm64: 183 };

/** Rejects with InstallError; what was written until then stays, and nothing of it is half. */
export async function install(options: InstallOptions): Promise<void> {
  const { executable, binDir, confDir, confName, log, network, pluginsFrom, steps = realSteps } = options;
  await requireExecutable(executable);
  for (const directory of [binDir, confDir]) await prepareDirectory(directory, steps);
  await place(executable, join(binDir, EXECUTABLE), options);
  // Container runtimes look for it themselves, whatever the configuration says.
  if (pluginsFrom !== "" && !(await exists(join(binDir, LOOPBACK))) && (await exists(join(pluginsFrom, LOOPBACK))))
    await place(join(pluginsFrom, LOOPBACK), join(binDir, LOOPBACK), options);
  const wanted = options.conflist === undefined ? [EXECUTABLE, ...network.chained] : [...new Set(conflistPlugins(options.conflist))];
  for (const plugin of wanted) {
    const target = join(binDir, plugin);
    if (plugin === EXECUTABLE || (await exists(target))) continue;
    const source = join(pluginsFrom, plugin);
    if (pluginsFrom === "" || !(await exists(source)))
      throw new InstallError(
        `the configuration calls the plugin ${plugin}, and ${target} does not exist: install the reference CNI plugins there, or leave it out (--chain)`,
      );
    await place(source, target, options);
  }
  const supported = await Promise.all(wanted.map((plugin) => supportedVersions(join(binDir, plugin))));
  const cniVersion = newestCommonVersion(supported);
  if (cniVersion === undefined)
    throw new InstallError(`no version of CNI is spoken by all of ${wanted.map((plugin) => join(binDir, plugin)).join(", ")}: replace the oldest`);
  const text = options.conflist ?? renderConflist({ ...network, cniVersion });
  const { cniVersion: version } = JSON.parse(text) as { readonly cniVersion: string };
  for (const [index, versions] of supported.entries())
    if (!versions.includes(version))
      throw new InstallError(
        `${join(binDir, wanted[index] ?? "")} does not know CNI ${version}, which the configuration names: every ADD would fail; use cniVersion ${cniVersion}`,
      );
  const path = join(confDir, confName);
  if ((await readFile(path, "utf8").catch(() => undefined)) === text) log.info({ file: path }, "the CNI configuration is there already");
  else {
    await carryOut(path, async () => {
      const temporary = temporaryFor(path);
      await steps.write(temporary, text);
      await steps.settle(temporary, CONFLIST_MODE);
      await steps.rename(temporary, path);
    });
    log.info({ file: path, cniVersion: version, plugins: wanted }, "CNI configuration written");
  }
  const before = await configurationBefore(confDir, confName);
  if (before !== undefined)
    log.warn(
      { file: join(confDir, before), ours: path },
      "another CNI configuration comes before ours by name: the container runtime takes the first and does not call Sedge until it is removed",
    );
}

/** Of what is not there: nothing. A configuration under our name that does not call us is someone else's, and stays. Rejects with InstallError. */
export async function uninstall({
  binDir,
  confDir,
  confName,
  log,
  steps = realSteps,
}: Omit<InstallOptions, "network" | "executable" | "pluginsFrom">): Promise<void> {
  const conf = join(confDir, confName);
  const text = await readFile(conf, "utf8").catch(() => undefined);
  if (text !== undefined && !text.includes(`"${EXECUTABLE}"`)) {
    log.warn({ file: conf }, "the CNI configuration under our name does not call Sedge: left as it is, with the executable");
    return;
  }
  for (const path of [conf, join(binDir, EXECUTABLE)]) {
    if (!(await exists(path))) continue;
    await carryOut(path, () => steps.remove(path));
    log.info({ file: path }, "removed");
  }
}

/** Copied beside, run once, and renamed; nothing when it is there already. */
async function place(source: string, target: string, { log, steps = realSteps }: Pick<InstallOptions, "log" | "steps">): Promise<void> {
  if ((await exists(target)) && (await digest(source)) === (await digest(target))) {
    log.info({ file: target }, "the executable is there already");
    return;
  }
  const temporary = temporaryFor(target);
  await carryOut(target, async () => {
    try {
      await steps.copy(source, temporary);
      await steps.settle(temporary, EXECUTABLE_MODE);
      await supportedVersions(temporary);
    } catch (error) {
      await steps.remove(temporary).catch(() => undefined);
      throw error;
    }
    await steps.rename(temporary, target);
  });
  log.info({ file: target }, "executable installed");
}

/** The answer to VERSION: that it runs on this host at all. */
async function supportedVersions(path: string): Promise<readonly string[]> {
  const problem = (why: string, cause?: unknown): InstallError =>
    new InstallError(`${path} does not run on this host: ${why}`, cause === undefined ? undefined : { cause });
  let result: Awaited<ReturnType<typeof exec>>;
  try {
    result = await exec([path], { stdin: '{"cniVersion":"0.4.0"}', env: { CNI_COMMAND: "VERSION", CNI_PATH: "/" }, timeoutMs: PROBE_TIMEOUT_MS });
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw problem(
      code === "EACCES"
        ? "permission denied; is its directory mounted noexec, or does a security module forbid it?"
        : code === "ENOEXEC"
          ? "the kernel cannot run it; it is built for another architecture"
          : String(error instanceof Error ? error.message : error),
      error,
    );
  }
  try {
    const { supportedVersions: versions } = JSON.parse(result.stdout) as { readonly supportedVersions?: unknown };
    if (result.code === 0 && Array.isArray(versions)) return versions.map(String);
  } catch {
    // Told below, with what it printed.
  }
  throw problem(
    `asked for VERSION it ended with ${result.code ?? result.signal ?? "?"} and printed ${JSON.stringify((result.stdout || result.stderr).slice(0, 200))}`,
  );
}

async function requireExecutable(path: string): Promise<void> {
  const head = Buffer.alloc(20);
  try {
    for await (const chunk of createReadStream(path, { end: head.length - 1 })) (chunk as Buffer).copy(head);
  } catch (error) {
    throw new InstallError(`the CNI executable ${path} cannot be read: ${reasonOf(error)}; build it (npm run build) or name it (--executable)`, {
      cause: error,
    });
  }
  if (head.toString("latin1", 0, 4) !== "\x7fELF") throw new InstallError(`${path} is no executable (ELF) file`);
  const machine = head.readUInt16LE(18);
  const own = ELF_MACHINES[process.arch];
  if (own !== undefined && machine !== own)
    throw new InstallError(`${path} is built for another architecture (ELF machine ${machine}) than this host's (${process.arch})`);
}

async function prepareDirectory(path: string, steps: HostSteps): Promise<void> {
  try {
    await makeDirectory(path);
  } catch (error) {
    if (error instanceof InstallError) throw error;
    throw hostError(path, error);
  }
  // Only in the way of space; a host that is read-only now keeps them.
  await removeAbandoned(path, steps, Date.now()).catch(() => 0);
}

/** Not with `recursive`: Node tells ENOENT for a read-only file system then. */
async function makeDirectory(path: string): Promise<void> {
  const found = await stat(path).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  });
  if (found?.isDirectory() === true) return;
  if (found === undefined) await makeDirectory(dirname(path));
  await mkdir(path, { mode: 0o755 });
}

async function carryOut(path: string, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (error instanceof InstallError) throw error;
    throw hostError(path, error);
  }
}

function hostError(path: string, error: unknown): InstallError {
  const code = (error as NodeJS.ErrnoException).code;
  const hints: Readonly<Record<string, string>> = {
    EROFS: "the host's file system is read-only there: mount it writable, or choose another directory (--bin-dir, --conf-dir) and tell the container runtime",
    EACCES: "permission denied: the installer has to run as root and needs the directory mounted writable",
    EPERM: "not permitted: is the file immutable (chattr +i), or does a security module forbid it?",
    ENOSPC: "no space is left on the host",
    ENOTDIR: "a part of the path is not a directory",
    EEXIST: "there is a file in the place of a directory",
  };
  return new InstallError(`${path} cannot be written: ${hints[code ?? ""] ?? reasonOf(error)}`, { cause: error });
}

/** The first configuration that a runtime finds before ours: they are read in the order of their names. */
async function configurationBefore(confDir: string, confName: string): Promise<string | undefined> {
  const names = await readdir(confDir);
  return names.filter((name) => /\.(conf|conflist|json)$/.test(name) && name < confName && !name.startsWith(".")).sort()[0];
}

async function digest(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

async function exists(path: string): Promise<boolean> {
  return access(path, constants.F_OK).then(
    () => true,
    () => false,
  );
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
