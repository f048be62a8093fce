/** How a benchmark takes its settings: flags by a schema, words where it has some; `--help` says both. Wrong ones throw ConfigError, which bin/sedge.ts prints. */
import type { z } from "zod";
import { ConfigError, describeFlags, loadConfig, type Schema } from "../src/runtime/config.ts";

export interface BenchUsage {
  /** The benchmark's name: "stuck". */
  readonly name: string;
  /** What its words are, in the usage: "[SCENARIO…]". */
  readonly words?: string;
  /** Each word's problem; undefined: it is one of its words. Without it there are none. */
  readonly problemOf?: (word: string) => string | undefined;
}

/** Undefined when only help was asked for, which is printed. */
export function benchSettings<S extends Schema>(
  schema: S,
  { argv, usage }: { readonly argv: readonly string[]; readonly usage: BenchUsage },
): { readonly config: z.infer<S>; readonly words: readonly string[] } | undefined {
  const { name, words = "", problemOf = (word: string): string => `unexpected argument ${word}` } = usage;
  if (argv.includes("--help") || argv.includes("-h")) {
    process.stdout.write(`usage: sedge bench ${name} ${words === "" ? "" : `${words} `}[flags]\n\n${describeFlags(schema)}\n`);
    return undefined;
  }
  const { config, positional } = loadConfig(schema, { argv, env: process.env, program: `bench-${name}` });
  const problems = positional.flatMap((word) => problemOf(word) ?? []);
  if (problems.length > 0) throw new ConfigError(problems);
  return { config, words: positional };
}
