/** `sedge bench fanout`: settings in, one JSON line a scenario on stdout, a table on stderr, a picture and the lines in --out. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "../../src/runtime/config.ts";
import { benchSettings } from "../settings.ts";
import { benchConfigSchema } from "./config.ts";
import { picture } from "./picture.ts";
import type { ScenarioResult } from "./result.ts";
import { runBench } from "./run.ts";
import { table } from "./table.ts";

/** Descriptors that a process needs besides its connections. */
const OTHER_DESCRIPTORS = 100;
const AGENTS_PER_POLICY = 5;
const MOST_POLICIES = 200;

/** 0: every scenario showed what it must. 1: one did not, or a process failed. Throws ConfigError for wrong settings. */
export async function main(argv: readonly string[]): Promise<number> {
  const settings = benchSettings(benchConfigSchema, { argv, usage: { name: "fanout" } });
  if (settings === undefined) return 0;
  const { config } = settings;
  const { agents, nodes = agents, podsPerNode, policies = Math.min(MOST_POLICIES, Math.ceil(agents / AGENTS_PER_POLICY)), seed, seconds, out } = config;
  const problems: string[] = [];
  if (nodes < agents) problems.push(`--nodes: ${nodes} nodes cannot have ${agents} agents`);
  const limit = openFilesLimit();
  if (limit < agents + OTHER_DESCRIPTORS)
    problems.push(
      `--agents: ${agents} connections need ${agents + OTHER_DESCRIPTORS} open files a process, the limit is ${limit}: raise it with "ulimit -n ${agents + OTHER_DESCRIPTORS}" (as root: "ulimit -Hn" first)`,
    );
  if (problems.length > 0) throw new ConfigError(problems);
  const say = (text: string): void => void process.stderr.write(`${text}\n`);
  const results = await runBench({
    shape: { agents, nodes, podsPerNode, policies, seed },
    scenarios: config.scenario,
    seconds,
    ratePerSecond: config.rate,
    delivery: config.delivery,
    acks: config.acks,
    isTls: config.tls,
    slowShare: config.slow,
    sample: Math.min(config.sample, agents),
    hasBaseline: config.baseline,
    profile: config.profile,
    say,
  });
  const lines = results.map((result) => `${JSON.stringify(result)}\n`).join("");
  process.stdout.write(lines);
  mkdirSync(out, { recursive: true });
  const stem = join(
    out,
    [
      "fanout",
      agents,
      ...(nodes === agents ? [] : [`${nodes}-nodes`]),
      config.delivery,
      ...(config.acks === "paced" ? [] : [`acks-${config.acks}`]),
      ...(config.tls ? ["tls"] : []),
    ].join("-"),
  );
  writeFileSync(`${stem}.jsonl`, lines);
  writeFileSync(`${stem}.svg`, picture(results));
  say(`\n${table(results)}\n\n${stem}.jsonl, ${stem}.svg`);
  return reportFailures(results, say);
}

function reportFailures(results: readonly ScenarioResult[], say: (text: string) => void): number {
  const failures = results.flatMap(({ scenario, failures }) => failures.map((failure) => `FAILED ${scenario}: ${failure}`));
  for (const failure of failures) say(failure);
  return failures.length === 0 ? 0 : 1;
}

/** Node raises its own soft limit to the hard one at the start, and so do its children. */
function openFilesLimit(): number {
  const report: unknown = process.report.getReport();
  const { userLimits } = report as { readonly userLimits?: { readonly open_files?: { readonly hard?: number | string } } };
  const hard = Number(userLimits?.open_files?.hard);
  return Number.isNaN(hard) ? Number.POSITIVE_INFINITY : hard;
}
