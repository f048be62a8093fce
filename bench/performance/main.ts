/** `sedge bench page`: writes the figures of bench/baselines into docs/performance.md. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { benchSettings } from "../settings.ts";
import { readBaselines } from "./lines.ts";
import { rendered } from "./page.ts";

const PAGE = fileURLToPath(new URL("../../docs/performance.md", import.meta.url));

/** 0: written, or as it was. */
export function main(argv: readonly string[]): Promise<number> {
  if (benchSettings(z.strictObject({}), { argv, usage: { name: "page" } }) === undefined) return Promise.resolve(0);
  writeFileSync(PAGE, rendered(readFileSync(PAGE, "utf8"), readBaselines));
  return Promise.resolve(0);
}
