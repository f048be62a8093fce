/** The program runs to its end on a small scale; whether memory is bounded needs minutes, and is judged by `bench stuck --minutes 10`. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { exec } from "../../src/runtime/exec.ts";

it("bench stuck, 60 agents: the stuck ones fall behind, the others do not, and all are level once they go on", async () => {
  const out = mkdtempSync(join(tmpdir(), "sedge-stuck-"));
  try {
    const sedge = join(import.meta.dirname, "../../bin/sedge.ts");
    const { code, stdout, stderr } = await exec([process.execPath, sedge, "bench", "stuck", "--agents", "60", "--seconds", "3", "--out", out]);
    expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
    const result: unknown = JSON.parse(stdout);
    expect(result).toMatchObject({ bench: "stuck", agents: 60, stuck: 6, behindBeforeGoingOn: 6, failures: [] });
    expect(readFileSync(join(out, "stuck-60.svg"), "utf8")).toContain("<polyline");
    expect(JSON.parse(readFileSync(join(out, "stuck-60.jsonl"), "utf8"))).toEqual(result);
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
});
