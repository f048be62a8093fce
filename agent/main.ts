/**
 * `sedge agent`. Exit codes: 0 stopped by a signal, the kernel left as it is; 1 something broke (the log says what); 2 the settings are wrong;
 * 130 ended by a second signal.
 */
import { ConfigError, describeFlags, loadConfig } from "../src/runtime/config.ts";
import { createLogger } from "../src/runtime/log.ts";
import { signalsToAbort } from "../src/runtime/supervisor.ts";
import { requireNetAdmin } from "./capabilities.ts";
import { agentConfigSchema, configProblems } from "./config.ts";
import { runAgent } from "./run-agent.ts";

export async function main(argv: readonly string[]): Promise<number> {
  if (argv.includes("--help")) {
    process.stdout.write(
      `usage: sedge agent --node-name NAME --server HOST:PORT (--tls-cert F --tls-key F --tls-ca F | --insecure)\n\n${describeFlags(agentConfigSchema)}\n`,
    );
    return 0;
  }
  let config;
  try {
    const loaded = loadConfig(agentConfigSchema, { argv, env: process.env, program: "agent" });
    config = loaded.config;
    const problems = [...configProblems(config), ...loaded.positional.map((word) => `unexpected argument ${word}`)];
    if (problems.length > 0) throw new ConfigError(problems);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`sedge agent: ${error.message}\n`);
    return 2;
  }
  const log = createLogger({ level: config.logLevel, program: "agent" }).child({ node: config.nodeName });
  log.info({ config }, "starting");
  try {
    if (config.dataplane) await requireNetAdmin();
    await runAgent({ config, log, signal: signalsToAbort(log) });
    log.info("stopped");
    return 0;
  } catch (error) {
    log.fatal({ err: error }, "the agent cannot go on");
    process.stderr.write(`sedge agent: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
}
