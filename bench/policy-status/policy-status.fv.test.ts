/** The program runs to its end on a small scale, in every situation; times are judged by `bench policy-status` on an idle machine. */

import { join } from "node:path";
import { expect, it } from "vitest";
import { exec } from "../../src/runtime/exec.ts";

it("bench policy-status, 100 policies on 100 nodes: a line for each situation, with its baseline", async () => {
  const sedge = join(import.meta.dirname, "../../bin/sedge.ts");
  const { code, stdout, stderr } = await exec([process.execPath, sedge, "bench", "policy-status", "--policies", "100", "--nodes", "100"]);
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  const lines = stdout
    .trim()
    .split("\n")
    .map((line): unknown => JSON.parse(line));
  expect(lines).toHaveLength(5);
  const some: unknown = expect.any(Number);
  const result = { bench: "policy-status", policies: 100, nodes: 100, passMs: some, cpuMs: some, longestBlockMs: some, findEachMs: some };
  for (const line of lines) expect(line).toMatchObject(result);
});
