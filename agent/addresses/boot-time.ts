/**
 * Two clocks at one moment, and the boot that the first belongs to: what tells a later process of the same boot how long ago something was, whatever the
 * wall clock was set to meanwhile. CLOCK_MONOTONIC goes on over the restart of a process (clock_gettime(2)); performance.now() begins with each.
 */
import { readFile } from "node:fs/promises";

export interface BootTime {
  /** Of /proc/sys/kernel/random/boot_id. */
  readonly bootId: string;
  /** CLOCK_MONOTONIC. */
  readonly upMs: number;
  /** Since 1970. */
  readonly wallMs: number;
}

/** Rejects with NodeJS.ErrnoException where there is no such file. */
export async function readBootTime(): Promise<BootTime> {
  const bootId = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
  return { bootId, upMs: Number(process.hrtime.bigint()) / 1e6, wallMs: Date.now() };
}
