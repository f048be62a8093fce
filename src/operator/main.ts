/** `sedge manifests`: what makes an installation, on stdout or as files. Exit codes: 0 done; 2 wrong usage or values. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse as parseYaml } from "yaml";
import { z } from "zod";
import { ConfigError, describeFlags, loadConfig } from "../runtime/config.ts";
import { renderPlain } from "./render/files.ts";
import { DEFAULT_NAMESPACE, DEFAULT_VALUES, type Values, valuesSchema } from "./render/values.ts";

const flagsSchema = z.strictObject({
  namespace: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "want the name of a namespace")
    .default(DEFAULT_NAMESPACE)
    .describe("Where Sedge is installed"),
  values: z.string().optional().describe("YAML file with values that differ from the defaults, as for the chart (manifests/chart/values.yaml)"),
  outputDir: z.string().optional().describe("Write files there instead of one text on stdout"),
  help: z.boolean().default(false).describe("Print the flags"),
});

export function main(argv: readonly string[]): Promise<number> {
  const { config, positional } = loadConfig(flagsSchema, { argv, env: process.env, program: "manifests" });
  if (config.help) {
    process.stdout.write(`usage: sedge manifests [flags] | kubectl apply -f -\n\n${describeFlags(flagsSchema)}\n`);
    return Promise.resolve(0);
  }
  if (positional.length > 0) throw new ConfigError(positional.map((word) => `unexpected argument ${word}`));
  const files = renderPlain({ namespace: config.namespace, values: readValues(config.values) });
  if (config.outputDir === undefined) process.stdout.write([...files.values()].join(""));
  else {
    mkdirSync(config.outputDir, { recursive: true });
    for (const [name, text] of files) writeFileSync(join(config.outputDir, name), text);
  }
  return Promise.resolve(0);
}

/** The defaults with the file's values over them. Throws ConfigError with every problem. */
function readValues(file: string | undefined): Values {
  if (file === undefined) return DEFAULT_VALUES;
  let given: unknown;
  try {
    given = parseYaml(readFileSync(file, "utf8")) ?? {};
  } catch (error) {
    throw new ConfigError([`--values ${file}: ${error instanceof Error ? error.message : String(error)}`]);
  }
  const result = valuesSchema.safeParse(merge(DEFAULT_VALUES, given));
  if (!result.success) throw new ConfigError(result.error.issues.map(({ path, message }) => `--values ${file}: ${path.join(".")}: ${message}`));
  return result.data;
}

function merge(base: unknown, over: unknown): unknown {
  if (!isObject(base) || !isObject(over)) return over;
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) merged[key] = key in base ? merge(base[key], value) : value;
  return merged;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
