/** Writes docs/config.md and docs/metrics.md below the folder given, from the schemas and registries of the programs. Called by scripts/generate.mjs. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Registry } from "prom-client";
import type { z } from "zod";
import { agentConfigSchema } from "../agent/config.ts";
import { type AgentGauges, AgentMetrics, registerGauges as registerAgentGauges, registerPolicyCounters } from "../agent/metrics.ts";
import { fanoutConfigSchema } from "../fanout/config.ts";
import { type FanoutGauges, FanoutMetrics, registerGauges as registerFanoutGauges, registerWorkerMetrics } from "../fanout/metrics.ts";
import { controllersConfigSchema } from "../src/controllers/config.ts";
import { passMetrics } from "../src/controllers/metrics.ts";
import { ctlSchema } from "../src/ctl/config.ts";
import { apiConfig } from "../src/datastore/embedded/main.ts";
import { demoSchema } from "../src/demo/config.ts";
import { installConfigSchema } from "../src/installer/config.ts";
import { issuerConfigSchema } from "../src/issuer/config.ts";
import { issuerMetrics } from "../src/issuer/metrics.ts";
import { flagOf } from "../src/runtime/config.ts";

type Shape = Readonly<Record<string, z.ZodType>>;

const PROGRAMS: readonly { readonly name: string; readonly environment: string; readonly shape: Shape }[] = [
  { name: "sedge fanout", environment: "FANOUT", shape: fanoutConfigSchema.shape },
  { name: "sedge agent", environment: "AGENT", shape: agentConfigSchema.shape },
  { name: "sedge controllers", environment: "CONTROLLERS", shape: controllersConfigSchema.shape },
  { name: "sedge cni-install", environment: "CNI_INSTALL", shape: installConfigSchema.shape },
  { name: "sedge issuer", environment: "ISSUER", shape: issuerConfigSchema.shape },
  { name: "sedge api", environment: "API", shape: apiConfig.shape },
  { name: "sedge demo", environment: "DEMO", shape: demoSchema.shape },
  { name: "sedge status, clients, get, watch, policy status", environment: "CTL", shape: ctlSchema.shape },
];

function defaultOf(type: z.ZodType): string {
  const definition = type.def as { readonly type: string; readonly defaultValue?: unknown };
  return definition.type === "default" ? `\`${JSON.stringify(definition.defaultValue)}\`` : "";
}

function variable(environment: string, key: string): string {
  return `SEDGE_${environment}_${key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("\n", " ");
}

function configDoc(): string {
  const parts = PROGRAMS.map(({ name, environment, shape }) => {
    const rows = Object.entries(shape).map(
      ([key, type]) => `| \`${flagOf(key)}\` | \`${variable(environment, key)}\` | ${defaultOf(type)} | ${cell(type.description ?? "")} |`,
    );
    return `## ${name}\n\n| flag | variable | default | meaning |\n|---|---|---|---|\n${rows.join("\n")}\n`;
  });
  return `# Settings\n\nGenerated from the schemas of the programs (\`npm run generate\`). A flag wins over the variable, the variable over the file (\`--config FILE\`, YAML, keys in camelCase), the file over\nthe default. Unknown keys and flags are errors; every problem is printed, not the first. \`--no-x\` sets a boolean false.\n\n${parts.join("\n")}`;
}

interface DescribedMetric {
  readonly name: string;
  readonly help: string;
  readonly type?: string;
  readonly labelNames?: readonly string[];
}

/** Gauges are only registered here, never read. */
const unread = new Proxy({}, { get: () => () => 0 });

function metricsDoc(): string {
  const fanout = new Registry();
  new FanoutMetrics(fanout);
  registerFanoutGauges(fanout, unread as FanoutGauges);
  registerWorkerMetrics(fanout, () => 0);
  const agent = new Registry();
  new AgentMetrics(agent);
  registerAgentGauges(agent, unread as AgentGauges);
  registerPolicyCounters(agent, () => Promise.resolve([]));
  const controllers = new Registry();
  passMetrics(controllers);
  const issuer = new Registry();
  issuerMetrics(issuer, { inFlight: () => 0, authoritySecondsLeft: () => 0 });
  const table = (registry: Registry): string =>
    (registry.getMetricsAsArray() as unknown as DescribedMetric[])
      .map(
        ({ name, help, type, labelNames }) =>
          `| \`${name}\` | ${type ?? ""} | ${(labelNames ?? []).filter((label) => label !== "le").join(", ")} | ${cell(help)} |`,
      )
      .sort()
      .join("\n");
  const head = "| name | type | labels | meaning |\n|---|---|---|---|";
  return `# Metrics\n\nGenerated from the programs (\`npm run generate\`). Node's own process metrics come beside them. No label ever holds a node, a pod or an address.\n\n## sedge fanout\n\n${head}\n${table(fanout)}\n\n## sedge agent\n\n${head}\n${table(agent)}\n\n## sedge controllers\n\n${head}\n${table(controllers)}\n\n## sedge issuer\n\n${head}\n${table(issuer)}\n`;
}

const [folder = "."] = process.argv.slice(2);
mkdirSync(join(folder, "docs"), { recursive: true });
writeFileSync(join(folder, "docs", "config.md"), configDoc());
writeFileSync(join(folder, "docs", "metrics.md"), metricsDoc());
