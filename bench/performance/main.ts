/** `sedge bench page`: writes the figures of bench/baselines into docs/performance.md. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { readBaselines } from "./lines.ts";
import { rendered } from "./page.ts";

const PAGE = fileURLToPath(new URL("../../docs/performance.md", import.meta.url));

/** 0: written, or as it was. */
export function main(): Promise<number> {
  writeFileSync(PAGE, rendered(readFileSync(PAGE, "utf8"), readBaselines));
  return Promise.resolve(0);
}
