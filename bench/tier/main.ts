/** `sedge bench tier`: several servers, or a storm of handshakes on one. One JSON line a scenario on stdout and in --out, what was aimed at on stderr. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { benchSettings } from "../settings.ts";
import { tierConfigSchema } from "./config.ts";
import { tierPicture } from "./picture.ts";
import type { TierResult } from "./result.ts";
import { runTier } from "./run.ts";

const AGENTS_PER_POLICY = 5;
const MOST_POLICIES = 200;
const AGENTS_PER_CONNECTED = 5;

/** 0: everything held that must on any machine. 1: something did not, or a process failed. Throws ConfigError for wrong settings. */
export async function main(argv: readonly string[]): Promise<number> {
  const settings = benchSettings(tierConfigSchema, { argv, usage: { name: "tier" } });
  if (settings === undefined) return 0;
  const { config } = settings;
  const { agents, scenario, connected = Math.max(20, Math.floor(agents / AGENTS_PER_CONNECTED)), moves, out } = config;
  const say = (text: string): void => void process.stderr.write(`${text}\n`);
  const results: TierResult[] = [];
  mkdirSync(out, { recursive: true });
  const stem = join(out, `tier-${agents}`);
  for (const name of scenario) {
    say(name);
    const result = await runTier(name, {
      ...config,
      connected,
      movesPerSecond: moves,
      policies: Math.min(MOST_POLICIES, Math.ceil(agents / AGENTS_PER_POLICY)),
      say,
    });
    results.push(result);
    process.stdout.write(`${JSON.stringify(result)}\n`);
    for (const { what, value, limit, isMet } of result.aims) say(`${isMet ? "met   " : "MISSED"} ${what}: ${value}, aim below ${limit}`);
    for (const failure of result.failures) say(`FAILED ${name}: ${failure}`);
    // After each, so that a later one that fails takes nothing away.
    writeFileSync(`${stem}.jsonl`, results.map((one) => `${JSON.stringify(one)}\n`).join(""));
    writeFileSync(`${stem}.svg`, tierPicture(results));
  }
  say(`\n${stem}.jsonl, ${stem}.svg`);
  return results.every(({ failures }) => failures.length === 0) ? 0 : 1;
}
