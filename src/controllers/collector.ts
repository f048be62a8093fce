/**
 * Frees addresses and blocks that nobody has any more.
 *
 * A finding is acted on when successive passes have made it for its grace period; the repair itself asks the API again. Invariant: a pass that could not read
 * everything acts on nothing and forgets nothing. Every decision is one log line. Rejected: acting on watch events at once (a late cache frees live addresses).
 */
import type { AddressRepair } from "../datastore/address-repair.ts";
import { type AddressSnapshot, auditAddresses, describeFinding, type Finding, findingKey } from "../ipam/audit.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../runtime/log.ts";
import { jittered } from "../runtime/retry.ts";

export interface CollectorOptions {
  readonly read: (signal: AbortSignal) => Promise<AddressSnapshot>;
  readonly repair: Pick<AddressRepair, "repair">;
  readonly clock: Clock;
  readonly log: Logger;
  readonly intervalMs: number;
  /** 0: never. */
  readonly leakGraceMs: number;
  readonly nodeGraceMs: number;
  readonly maxRepairs: number;
  readonly isDryRun: boolean;
  readonly onPass?: (pass: CollectorPass) => void;
}

export interface CollectorPass {
  readonly findings: readonly Finding[];
  readonly freed: number;
  readonly kept: number;
  readonly failed: number;
}

export class Collector {
  readonly #options: CollectorOptions;
  readonly #firstSeen = new Map<string, number>();

  constructor(options: CollectorOptions) {
    this.#options = options;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, intervalMs, log } = this.#options;
    while (!signal.aborted) {
      try {
        await this.pass(signal);
      } catch (error) {
        if (!signal.aborted) log.warn({ err: error }, "the addresses could not be read: nothing is freed");
      }
      // What waits for its grace period is looked at when that is over.
      await clock.sleep(jittered(intervalMs), signal);
    }
  }

  async pass(signal: AbortSignal): Promise<CollectorPass> {
    const { clock, isDryRun, log, maxRepairs, onPass, read, repair } = this.#options;
    const findings = auditAddresses(await read(signal));
    const now = clock.now();
    this.#remember(findings, now);
    let freed = 0;
    let kept = 0;
    let failed = 0;
    for (const finding of findings) {
      if (signal.aborted || freed + failed >= maxRepairs) break;
      const graceMs = this.#graceOf(finding);
      const seenMs = now - (this.#firstSeen.get(findingKey(finding)) ?? now);
      if (graceMs === undefined || seenMs < graceMs) continue;
      const facts = { decision: finding.kind, seenMs: Math.round(seenMs), reason: describeFinding(finding) };
      if (isDryRun) {
        log.info(facts, "would be freed");
        continue;
      }
      try {
        const outcome = await repair.repair(finding);
        if (outcome.kind === "done") {
          freed++;
          log.info(facts, "freed");
        } else {
          kept++;
          this.#firstSeen.delete(findingKey(finding));
          log.info({ ...facts, kept: outcome.reason }, "kept");
        }
      } catch (error) {
        failed++;
        log.warn({ ...facts, err: error }, "could not be freed");
      }
    }
    const pass = { findings, freed, kept, failed };
    onPass?.(pass);
    return pass;
  }

  #remember(findings: readonly Finding[], now: number): void {
    const present = new Set(findings.map(findingKey));
    for (const key of this.#firstSeen.keys()) if (!present.has(key)) this.#firstSeen.delete(key);
    for (const key of present) if (!this.#firstSeen.has(key)) this.#firstSeen.set(key, now);
  }

  /** undefined: not ours to free. */
  #graceOf(finding: Finding): number | undefined {
    const { leakGraceMs, nodeGraceMs } = this.#options;
    switch (finding.kind) {
      case "node-gone":
      case "empty-block":
      case "stale-affinity":
        return nodeGraceMs;
      case "pod-gone":
        return leakGraceMs === 0 ? undefined : leakGraceMs;
      default:
        return undefined;
    }
  }
}
