/**
 * `sedge cni-install`: the CNI executable and its configuration onto the host; runs once and ends (an init container). Exit codes: 0 done; 1 the host
 * refuses (stderr says what and what to do); 2 the settings are wrong.
 */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ConfigError, describeFlags, loadConfig } from "../runtime/config.ts";
import { createLogger } from "../runtime/log.ts";
import { installConfigProblems, installConfigSchema } from "./config.ts";
import { CHAINED_PLUGINS, conflistProblems } from "./conflist.ts";
import { install, uninstall } from "./install.ts";

/** In an image, and in a checkout. */
const EXECUTABLES = ["../../cni/sedge-cni", "../../dist/cni/sedge-cni"];
const PLUGINS = "../../cni/plugins";

export async function main(argv: readonly string[]): Promise<number> {
  if (argv.includes("--help")) {
    process.stdout.write(`usage: sedge cni-install [--bin-dir D] [--conf-dir D] [--uninstall]\n\n${describeFlags(installConfigSchema)}\n`);
    return 0;
  }
  const { config, positional } = loadConfig(installConfigSchema, { argv, env: process.env, program: "cni-install" });
  const problems = [...installConfigProblems(config), ...positional.map((word) => `unexpected argument ${word}`)];
  const conflist = config.conflist === undefined ? undefined : readConflist(config.conflist, problems);
  if (problems.length > 0) throw new ConfigError(problems);
  const log = createLogger({ level: config.logLevel, program: "cni-install" });
  const { binDir, confDir, confName, mtu, queueDir, socket } = config;
  if (config.uninstall) {
    await uninstall({ binDir, confDir, confName, log });
    return 0;
  }
  await install({
    executable: config.executable ?? ownFile(EXECUTABLES) ?? "",
    binDir,
    confDir,
    confName,
    pluginsFrom: config.pluginsFrom || (ownFile([PLUGINS]) ?? ""),
    network: {
      name: config.networkName,
      socket,
      queueDir,
      mtu,
      logFile: config.cniLogFile,
      chained: CHAINED_PLUGINS.filter((plugin) => config.chain.includes(plugin)),
      sysctls: Object.fromEntries(config.sysctl.map((text) => [text.slice(0, text.indexOf("=")), text.slice(text.indexOf("=") + 1)])),
    },
    log,
    ...(conflist === undefined ? {} : { conflist }),
  });
  return 0;
}

function ownFile(candidates: readonly string[]): string | undefined {
  return candidates.map((path) => fileURLToPath(new URL(path, import.meta.url))).find((path) => existsSync(path));
}

function readConflist(path: string, problems: string[]): string | undefined {
  try {
    const text = readFileSync(path, "utf8");
    problems.push(...conflistProblems(text).map((problem) => `--conflist ${path}: ${problem}`));
    return text;
  } catch (error) {
    problems.push(`--conflist ${path}: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}
