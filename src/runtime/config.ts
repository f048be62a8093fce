/**
 * A program's settings: one zod object schema is the only home of name, type, range, default and meaning (`.describe`). Precedence: flag,
 * environment, file, default. Unknown keys fail; every problem is printed, not the first.
 *
 * A key `flushIntervalMs` is the flag `--flush-interval-ms`, the variable `SEDGE_<PROGRAM>_FLUSH_INTERVAL_MS` and the file key `flushIntervalMs`.
 * Lists are given by repeating the flag, or with commas in the variable. A boolean flag needs no value; `--no-x` and `--x=false` set it false.
 */
import { readFileSync } from "node:fs";
import { parse as parseYaml } from "yaml";
import type { z } from "zod";

export class ConfigError extends Error {
  readonly code = "CONFIG";
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`the configuration is wrong:\n${problems.map((problem) => `  ${problem}`).join("\n")}`);
    this.name = "ConfigError";
    this.problems = problems;
  }
}

export interface ConfigSources {
  /** Arguments after the program's name. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** "fanout" reads SEDGE_FANOUT_… */
  readonly program: string;
}

export type Schema = z.ZodObject<Readonly<Record<string, z.ZodType>>>;

export interface LoadedConfig<S extends Schema> {
  readonly config: z.infer<S>;
  /** Arguments that are no flags. */
  readonly positional: readonly string[];
}

/** Reads, merges and checks; throws ConfigError with every problem. `--config FILE` names a YAML or JSON file. */
export function loadConfig<S extends Schema>(schema: S, sources: ConfigSources): LoadedConfig<S> {
  const problems: string[] = [];
  const keys = Object.keys(schema.shape);
  const { values: flags, positional } = readFlags(schema, sources.argv, problems);
  const file = readFile(flags.get("config"), keys, problems);
  const merged: Record<string, unknown> = { ...file };
  // Where each value was given, for messages: the last one that was taken.
  const places = new Map(Object.keys(file).map((key) => [key, `${flags.get("config")?.at(-1) ?? ""}: ${key}`]));
  for (const key of keys) {
    const variable = `SEDGE_${constantCase(sources.program)}_${constantCase(key)}`;
    const text = sources.env[variable];
    if (text !== undefined) {
      merged[key] = fromText(schema, key, [text], true);
      places.set(key, variable);
    }
    const given = flags.get(key);
    if (given !== undefined) {
      merged[key] = fromText(schema, key, given, false);
      places.set(key, flagOf(key));
    }
  }
  const result = schema.safeParse(merged);
  if (!result.success) {
    for (const { code, path, message } of result.error.issues) {
      // Unknown keys of the file are named above, with those that are known.
      if (code === "unrecognized_keys" && path.length === 0) continue;
      const key = String(path[0] ?? "");
      const value = merged[key];
      if ((code === "invalid_type" || code === "invalid_value") && path.length === 1 && value === undefined) {
        const meaning = schema.shape[key]?.description;
        problems.push(`${flagOf(key)} is required${meaning === undefined ? "" : `: ${meaning}`}`);
        continue;
      }
      problems.push(`${places.get(key) ?? flagOf(key)}: ${message}${code === "invalid_type" && typeof value === "string" ? ` ${JSON.stringify(value)}` : ""}`);
    }
  }
  if (problems.length > 0 || !result.success) throw new ConfigError(problems);
  return { config: result.data, positional };
}

/** One line a setting: flag, default, meaning. */
export function describeFlags(schema: Schema): string {
  return Object.entries(schema.shape)
    .map(([key, type]) => {
      const standard = defaultOf(type);
      return `  ${flagOf(key)}${baseType(type) === "boolean" ? "" : " VALUE"}\n      ${type.description ?? ""}${standard === undefined ? "" : ` (default: ${JSON.stringify(standard)})`}`;
    })
    .join("\n");
}

export function flagOf(key: string): string {
  return `--${key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

function constantCase(key: string): string {
  return key
    .replaceAll(/[A-Z]/g, (letter) => `_${letter}`)
    .replaceAll("-", "_")
    .toUpperCase();
}

function readFlags(schema: Schema, argv: readonly string[], problems: string[]): { values: Map<string, string[]>; positional: string[] } {
  const byFlag = new Map(Object.keys(schema.shape).map((key) => [flagOf(key), key]));
  byFlag.set("--config", "config");
  const values = new Map<string, string[]>();
  const positional: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i] ?? "";
    if (!argument.startsWith("--") || argument === "--") {
      if (argument.startsWith("-") && argument.length > 1 && argument !== "--") problems.push(`unknown flag ${argument}`);
      else if (argument !== "--") positional.push(argument);
      continue;
    }
    const [name = "", ...rest] = argument.split("=");
    const negated = byFlag.get(name.replace(/^--no-/, "--"));
    const key = byFlag.get(name) ?? (name.startsWith("--no-") ? negated : undefined);
    if (key === undefined) {
      problems.push(`unknown flag ${name}; known: ${[...byFlag.keys()].sort().join(" ")}`);
      continue;
    }
    const isBoolean = key !== "config" && baseType(schema.shape[key]) === "boolean";
    let value = rest.length > 0 ? rest.join("=") : undefined;
    if (value === undefined && isBoolean) value = name.startsWith("--no-") && !byFlag.has(name) ? "false" : "true";
    if (value === undefined) {
      value = argv[++i];
      if (value === undefined) {
        problems.push(`${name} needs a value`);
        continue;
      }
    }
    values.set(key, [...(values.get(key) ?? []), value]);
  }
  return { values, positional };
}

function readFile(paths: readonly string[] | undefined, keys: readonly string[], problems: string[]): Record<string, unknown> {
  const path = paths?.at(-1);
  if (path === undefined) return {};
  try {
    const content: unknown = parseYaml(readFileSync(path, "utf8")) ?? {};
    if (typeof content !== "object" || content === null || Array.isArray(content)) throw new Error("it must be a mapping");
    for (const key of Object.keys(content)) if (!keys.includes(key)) problems.push(`${path}: unknown key ${key}; known: ${keys.join(", ")}`);
    return content as Record<string, unknown>;
  } catch (error) {
    problems.push(`--config ${path}: ${error instanceof Error ? error.message : String(error)}`);
    return {};
  }
}

function fromText(schema: Schema, key: string, texts: readonly string[], isVariable: boolean): unknown {
  const type = baseType(schema.shape[key]);
  if (type === "array") return isVariable ? (texts[0] ?? "").split(",").filter((part) => part !== "") : texts;
  const text = texts.at(-1) ?? "";
  if (type === "boolean") return text === "true" || text === "1" ? true : text === "false" || text === "0" ? false : text;
  if (type === "number") return text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text);
  return text;
}

function unwrap(type: z.ZodType | undefined): z.core.$ZodTypeDef | undefined {
  type Nested = z.core.$ZodTypeDef & { readonly innerType?: z.ZodType; readonly in?: z.ZodType };
  let current: Nested | undefined = type?.def;
  while (current?.innerType !== undefined || current?.in !== undefined) current = (current.innerType ?? current.in)?.def;
  return current;
}

function baseType(type: z.ZodType | undefined): string {
  return unwrap(type)?.type ?? "string";
}

function defaultOf(type: z.ZodType): unknown {
  const definition = type.def as { type: string; defaultValue?: unknown };
  return definition.type === "default" ? definition.defaultValue : undefined;
}
