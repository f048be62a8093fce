// The soak, short: what it keeps is in its header. The long one: node test/cni/soak.ts --operations 20000
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { hasCniExecutable } from "../fakes/cni-caller.ts";
import { runSoak } from "./soak.ts";

describe.skipIf(!hasCniExecutable())("ADDs and DELs while everything is killed", () => {
  it("no address twice, none leaked, journals and API equal", { timeout: 600_000 }, async () => {
    const directory = await mkdtemp(join(tmpdir(), "sedge-soak-"));
    const result = await runSoak({ operations: 1_500, seed: 11, nodes: 3, killEveryMs: 1_500, directory });
    await rm(directory, { recursive: true, force: true });
    expect(result.problems).toEqual([]);
    expect(result.added).toBeGreaterThan(0);
  });
});
