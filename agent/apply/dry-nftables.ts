/** nftables that does nothing, for `--no-dataplane`: the whole agent runs, and the kernel is left alone. */

import type { Nftables } from "../drivers/nftables/driver.ts";
import type { NftTable } from "../plan/nft/ruleset.ts";

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

export function dryNftables(): Nftables {
  return {
    apply: () => Promise.resolve(),
    readTable: (_table: NftTable) => Promise.resolve(undefined),
    ruleCounts: () => Promise.resolve([]),
    generation: () => Promise.resolve(1),
    watch: (_table, _onChange, signal) => untilAborted(signal),
    close: () => undefined,
  };
}
