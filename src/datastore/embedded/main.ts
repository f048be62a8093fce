/** `sedge api`: the embedded API as a process of its own. Exit codes: 0 stopped by a signal, 1 cannot run, 2 wrong arguments. */
import { renameSync, writeFileSync } from "node:fs";
import { z } from "zod";
import { ConfigError, describeFlags, loadConfig } from "../../runtime/config.ts";
import { createLogger, LOG_LEVELS } from "../../runtime/log.ts";
import { StartError } from "../../runtime/start-error.ts";
import { signalsToAbort } from "../../runtime/supervisor.ts";
import { startEmbeddedApi } from "./start.ts";

const LISTEN = /^(\[[0-9a-fA-F:]+\]|[^:]+):(\d{1,5})$/;

export const apiConfig = z.object({
  listen: z
    .string()
    .regex(LISTEN, "must be ADDRESS:PORT, for example 127.0.0.1:6443 or [::1]:6443")
    .refine((text) => !(Number(LISTEN.exec(text)?.[2]) > 65_535), "the port must be 65535 or lower")
    .default("127.0.0.1:6443")
    .describe("Address and port of the API; port 0 picks a free one."),
  dataDir: z
    .string()
    .min(1)
    .optional()
    .describe("Directory that keeps objects, certificates and token. Without it everything is in memory and gone at the end."),
  kubeconfigOut: z.string().min(1).optional().describe("Write a kubeconfig for the admin here (mode 0600)."),
  san: z.array(z.string().min(1)).default([]).describe("Further DNS name or address for the server certificate; may be repeated."),
  crds: z.boolean().default(true).describe("Install Sedge's own definitions (IPPool, IPAMBlock, BlockAffinity)."),
  logLevel: z.enum(LOG_LEVELS).default("info").describe("Least severe log lines to write."),
});

/** Runs until SIGTERM or SIGINT. Never throws. */
export async function main(argv: readonly string[]): Promise<number> {
  if (argv.includes("--help") || argv.includes("-h")) {
    process.stdout.write(`sedge api: a Kubernetes API for the kinds that Sedge needs, in one process\n\n${describeFlags(apiConfig)}\n`);
    return 0;
  }
  try {
    const { config, positional } = loadConfig(apiConfig, { argv, env: process.env, program: "api" });
    if (positional.length > 0) throw new ConfigError(positional.map((word) => `unexpected argument ${word}`));
    const log = createLogger({ level: config.logLevel, program: "api" });
    const signal = signalsToAbort(log);
    const [, host = "", port = ""] = LISTEN.exec(config.listen) ?? [];
    const api = await startEmbeddedApi({
      host: host.replace(/^\[(.*)\]$/, "$1"),
      port: Number(port),
      sans: config.san,
      dataDir: config.dataDir,
      installsCrds: config.crds,
      log,
    });
    try {
      if (config.kubeconfigOut !== undefined) writeKubeconfig(config.kubeconfigOut, api.kubeconfig);
      log.info({ url: api.url, dataDir: config.dataDir, kubeconfig: config.kubeconfigOut, revision: api.store.revision }, "serving");
      await new Promise<void>((resolve) => {
        if (signal.aborted) resolve();
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    } finally {
      await api.close();
    }
    log.info("stopped");
    return 0;
  } catch (error) {
    process.stderr.write(`sedge api: ${error instanceof Error ? error.message : String(error)}\n`);
    return error instanceof ConfigError ? 2 : 1;
  }
}

/** Whole or not at all: who waits for the file reads it as soon as it is there. */
function writeKubeconfig(path: string, text: string): void {
  try {
    writeFileSync(`${path}.tmp`, text, { mode: 0o600 });
    renameSync(`${path}.tmp`, path);
  } catch (error) {
    throw new StartError(`--kubeconfig-out ${path} cannot be written: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
