/** `sedge controllers`. Exit codes: 0 stopped by a signal; 1 something broke; 2 the settings are wrong; 130 ended by a second signal. */
import { hostname } from "node:os";
import { collectDefaultMetrics, Registry } from "prom-client";
import { AddressRepair, readAddresses, readBlocks } from "../datastore/address-repair.ts";
import { ApiClient } from "../datastore/api-client.ts";
import { findConnection } from "../datastore/kubeconfig.ts";
import { Leader } from "../datastore/lease.ts";
import { AddressWriter } from "../datastore/writer.ts";
import { systemClock } from "../runtime/clock.ts";
import { ConfigError, describeFlags, loadConfig } from "../runtime/config.ts";
import { Health } from "../runtime/health.ts";
import { parseHostAndPort } from "../runtime/host-port.ts";
import { serveHealth, serveMetrics } from "../runtime/http.ts";
import { createLogger } from "../runtime/log.ts";
import { runAll, signalsToAbort } from "../runtime/supervisor.ts";
import { Collector } from "./collector.ts";
import { controllersConfigSchema } from "./config.ts";
import { passMetrics } from "./metrics.ts";
import { PoolController } from "./pools.ts";
import { TierController } from "./tiers.ts";

const LEASE_NAME = "sedge-controllers";

export async function main(argv: readonly string[]): Promise<number> {
  if (argv.includes("--help")) {
    process.stdout.write(`usage: sedge controllers [flags]\n\n${describeFlags(controllersConfigSchema)}\n`);
    return 0;
  }
  const { config, positional } = loadConfig(controllersConfigSchema, { argv, env: process.env, program: "controllers" });
  if (positional.length > 0) throw new ConfigError(positional.map((word) => `unexpected argument ${word}`));
  const log = createLogger({ level: config.logLevel, program: "controllers" });
  const signal = signalsToAbort(log);
  const clock = systemClock;
  const client = new ApiClient({ connection: await findConnection({ file: config.kubeconfig, environment: process.env }), userAgent: "sedge-controllers" });
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const health = new Health(clock);
  const report = health.register("leader");
  const collector = new Collector({
    read: (stop) => readAddresses(client, stop),
    repair: new AddressRepair({ client, writer: new AddressWriter({ client, clock }) }),
    clock,
    log: log.child({ component: "collector" }),
    intervalMs: config.collectIntervalMs,
    leakGraceMs: config.leakGraceMs,
    nodeGraceMs: config.nodeGraceMs,
    maxRepairs: config.maxRepairs,
    isDryRun: config.dryRun,
    onPass: passMetrics(registry),
  });
  const pools = new PoolController({
    client,
    clock,
    log: log.child({ component: "pools" }),
    intervalMs: config.poolIntervalMs,
    readBlocks: (stop) => readBlocks(client, stop),
  });
  const tiers = new TierController({ client, clock, log: log.child({ component: "tiers" }), intervalMs: config.tierIntervalMs });
  const leader = new Leader({
    client,
    clock,
    log: log.child({ component: "leader" }),
    namespace: config.namespace,
    name: LEASE_NAME,
    identity: config.identity === "" ? `${hostname()}_${process.pid}` : config.identity,
    leaseMs: config.leaseMs,
    work: async (stop) => void (await Promise.all([collector.run(stop), pools.run(stop), tiers.run(stop)])),
  });
  const metrics = await serveMetrics(registry, parseHostAndPort(config.metricsListen));
  const healthEndpoint = await serveHealth(health, parseHostAndPort(config.healthListen));
  // Ready also while another leads: there is nothing that it could not do then.
  report({ live: true, ready: true, detail: "running" });
  try {
    await runAll([leader], { signal, log });
    return 0;
  } catch (error) {
    log.fatal({ err: error }, "the controllers cannot go on");
    return 1;
  } finally {
    await metrics.close();
    await healthEndpoint.close();
    client.close();
  }
}
