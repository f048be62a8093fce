/** `sedge issuer`. Exit codes: 0 stopped by a signal; 1 something broke; 2 the settings are wrong; 130 ended by a second signal. */
import { collectDefaultMetrics, Registry } from "prom-client";
import { ApiClient } from "../datastore/api-client.ts";
import { DatastoreError } from "../datastore/api-error.ts";
import { findConnection } from "../datastore/kubeconfig.ts";
import { systemClock } from "../runtime/clock.ts";
import { ConfigError, describeFlags, loadConfig } from "../runtime/config.ts";
import { Health } from "../runtime/health.ts";
import { parseHostAndPort } from "../runtime/host-port.ts";
import { serveHealth, serveMetrics } from "../runtime/http.ts";
import { createLogger } from "../runtime/log.ts";
import { Backoff, retryUntil } from "../runtime/retry.ts";
import { StartError } from "../runtime/start-error.ts";
import { runAll, signalsToAbort } from "../runtime/supervisor.ts";
import { configProblems, isStandalone, issuerConfigSchema } from "./config.ts";
import { Issuer } from "./issuer.ts";

export async function main(argv: readonly string[]): Promise<number> {
  if (argv.includes("--help")) {
    process.stdout.write(`usage: sedge issuer [flags]\n\n${describeFlags(issuerConfigSchema)}\n`);
    return 0;
  }
  const { config, positional } = loadConfig(issuerConfigSchema, { argv, env: process.env, program: "issuer" });
  const problems = [...configProblems(config), ...positional.map((word) => `unexpected argument ${word}`)];
  if (problems.length > 0) throw new ConfigError(problems);
  const log = createLogger({ level: config.logLevel, program: "issuer" });
  log.info({ config }, "starting");
  const signal = signalsToAbort(log);
  const clock = systemClock;
  const client = isStandalone(config)
    ? undefined
    : new ApiClient({ connection: await findConnection({ file: config.kubeconfig, environment: process.env }), userAgent: "sedge-issuer" });
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const health = new Health(clock);
  const report = health.register("issuer");
  const metrics = await serveMetrics(registry, parseHostAndPort(config.metricsListen));
  const healthEndpoint = await serveHealth(health, parseHostAndPort(config.healthListen));
  try {
    let issuer: Issuer | undefined;
    await retryUntil(
      async () => {
        try {
          issuer = await Issuer.create({ config, client, clock, log, registry, signal });
          return true;
        } catch (error) {
          if (!(error instanceof DatastoreError)) throw error;
          if (!signal.aborted) log.warn({ err: error }, "the API cannot be used yet");
          return false;
        }
      },
      { backoff: new Backoff({ initialMs: 200, maxMs: 5_000 }), clock, signal },
    );
    if (issuer === undefined) return 0;
    const port = await issuer.listen();
    log.info({ port }, "certificates are issued");
    report({ live: true, ready: true, detail: `port ${port}` });
    await runAll([issuer], { signal, log });
    return 0;
  } catch (error) {
    if (error instanceof StartError) throw error;
    log.fatal({ err: error }, "the issuer cannot go on");
    return 1;
  } finally {
    await metrics.close();
    await healthEndpoint.close();
    client?.close();
  }
}
