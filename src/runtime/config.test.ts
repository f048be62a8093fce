import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { z } from "zod";
import { ConfigError, type ConfigSources, loadConfig } from "./config.ts";

const schema = z.strictObject({ maxAnswers: z.number().int().default(64), level: z.enum(["info", "debug"]).default("info") });

function problemsOf({ argv = [], env = {} }: Partial<ConfigSources>): readonly string[] {
  try {
    loadConfig(schema, { argv, env, program: "fanout" });
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

function fileWith(text: string): string {
  const dir = mkdtempSync(join(tmpdir(), "sedge-config-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(join(dir, "config.yaml"), text);
  return join(dir, "config.yaml");
}

describe("loadConfig: a wrong value is named where it was given", () => {
  it("flag: with what was written", () => {
    expect(problemsOf({ argv: ["--max-answers", "many"] })).toEqual(['--max-answers: Invalid input: expected number, received string "many"']);
  });

  it("variable: not the flag that nobody wrote", () => {
    expect(problemsOf({ env: { SEDGE_FANOUT_MAX_ANSWERS: "many" } })).toEqual([
      'SEDGE_FANOUT_MAX_ANSWERS: Invalid input: expected number, received string "many"',
    ]);
  });

  it("file: its name and key, and an unknown key once", () => {
    const path = fileWith("maxAnswers: many\nfoo: 1\n");
    expect(problemsOf({ argv: ["--config", path] })).toEqual([
      `${path}: unknown key foo; known: maxAnswers, level`,
      `${path}: maxAnswers: Invalid input: expected number, received string "many"`,
    ]);
  });
});

describe("loadConfig: what is missing", () => {
  it("every required setting: its flag and its meaning; not what has a default or may be left out", () => {
    const required = z.strictObject({
      nodeName: z.string().min(1).describe("Name of the Node object"),
      server: z.array(z.string()).min(1).describe("Where the server is"),
      count: z.number(),
      mode: z.enum(["a", "b"]),
      level: z.string().default("info"),
      file: z.string().optional(),
    });
    expect(() => loadConfig(required, { argv: [], env: {}, program: "agent" })).toThrowError(
      expect.objectContaining({
        problems: [
          "--node-name is required: Name of the Node object",
          "--server is required: Where the server is",
          "--count is required",
          "--mode is required",
        ],
      }),
    );
  });
});
