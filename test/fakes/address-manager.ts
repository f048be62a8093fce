/** An address manager of node n1 on a journal in memory, a pretended block API and a clock that stands; what a test says otherwise takes the place of each. */
import { Journal } from "../../agent/addresses/journal.ts";
import { type AddressManager, type AddressManagerOptions, createAddressManager } from "../../agent/addresses/manager.ts";
import type { Pool } from "../../src/model/record.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { FakeBlockApi } from "./fake-block-api.ts";
import { MemoryJournalFiles } from "./memory-journal-files.ts";

export interface AddressWorld {
  readonly api: FakeBlockApi;
  readonly clock: ManualClock;
  readonly files: MemoryJournalFiles;
  readonly journal: Journal;
  readonly manager: AddressManager;
}

export interface AddressWorldChanges extends Partial<Omit<AddressManagerOptions, "clock">> {
  readonly files?: MemoryJournalFiles;
  readonly api?: FakeBlockApi;
  readonly clock?: ManualClock;
  /** Absent: "boot". Another than at the last start on the same files: the machine was booted meanwhile. */
  readonly bootId?: string;
}

/** `pools`: of the API that is made; with `changes.api` they are that one's. */
export async function startAddresses(pools: readonly Pool[], changes: AddressWorldChanges = {}): Promise<AddressWorld> {
  const { files = new MemoryJournalFiles(), api = new FakeBlockApi({ node: "n1", pools }), clock = new ManualClock(), bootId = "boot", ...options } = changes;
  const journal = await Journal.open({ files, node: "n1", time: { bootId, upMs: clock.now(), wallMs: clock.wallTime() } });
  const manager = createAddressManager({
    journal,
    claims: api,
    reports: api,
    clock,
    log: silentLogger(),
    pools: () => api.pools,
    usedAddresses: () => [],
    interfacePrefix: "cali",
    cooldownMs: 1_000,
    ...options,
  });
  return { api, clock, files, journal, manager };
}
