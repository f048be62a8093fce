import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { Registry } from "./registry.ts";

const PREFIX = "sedge-registry-test-";

function folder(): string {
  const parent = mkdtempSync(join(tmpdir(), "sedge-registry-"));
  onTestFinished(() => rmSync(parent, { recursive: true, force: true }));
  return join(parent, "demo");
}

describe("Registry.claim", () => {
  it("a demo that runs is left alone, and named", () => {
    const dir = folder();
    new Registry(dir, PREFIX).claim();
    expect(() => new Registry(dir, PREFIX).claim()).toThrow(`process ${process.pid}`);
    expect(existsSync(dir)).toBe(true);
  });

  it("what a killed demo left is taken over and removed, its processes too", async () => {
    const dir = folder();
    const before = new Registry(dir, PREFIX);
    before.claim();
    const left = spawn("sleep", ["600"], { stdio: "ignore" });
    const ended = new Promise<string | null>((resolve) => left.once("exit", (_code, signal) => resolve(signal)));
    before.noteProcess(left.pid ?? 0);
    // The pid of this process with another start time: the owner is gone and its number was given away.
    writeFileSync(join(dir, "owner"), `${process.pid} 1\n`);
    const next = new Registry(dir, PREFIX);
    next.claim();
    expect(await next.cleanUp()).toEqual([`process ${left.pid ?? 0}`]);
    expect(await ended).toBe("SIGKILL");
    expect(existsSync(join(dir, "processes"))).toBe(false);
    expect(() => new Registry(dir, PREFIX).claim()).toThrow("is running");
    await next.release();
    expect(existsSync(dir)).toBe(false);
  });

  it("a folder with somebody's files is not touched", () => {
    const dir = mkdtempSync(join(tmpdir(), "sedge-registry-"));
    onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
    writeFileSync(join(dir, "thesis.txt"), "three years");
    expect(() => new Registry(dir, PREFIX).claim()).toThrow(dir);
    expect(readFileSync(join(dir, "thesis.txt"), "utf8")).toBe("three years");
  });
});
