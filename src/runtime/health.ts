/** Liveness and readiness from named reporters. A reporter that has not spoken within its time-out counts as failed. */
import type { Clock } from "./clock.ts";

export interface Report {
  readonly live: boolean;
  readonly ready: boolean;
  /** For people: why. */
  readonly detail?: string;
}

export interface HealthSummary {
  readonly live: boolean;
  readonly ready: boolean;
  readonly text: string;
}

export class Health {
  readonly #clock: Clock;
  readonly #reporters = new Map<string, { timeoutMs: number; at: number; report: Report }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Names a reporter, not ready until it says so. `timeoutMs` 0: a report never grows old. */
  register(name: string, timeoutMs = 0): (report: Report) => void {
    const entry = { timeoutMs, at: this.#clock.now(), report: { live: true, ready: false, detail: "starting" } as Report };
    this.#reporters.set(name, entry);
    return (report) => {
      entry.report = report;
      entry.at = this.#clock.now();
    };
  }

  summary(): HealthSummary {
    let live = true;
    let ready = true;
    const lines: string[] = [];
    for (const [name, { timeoutMs, at, report }] of this.#reporters) {
      const isLate = timeoutMs > 0 && this.#clock.now() - at > timeoutMs;
      live &&= report.live && !isLate;
      ready &&= report.ready && !isLate;
      lines.push(
        `${name} live=${report.live && !isLate} ready=${report.ready && !isLate}${isLate ? " (no report in time)" : ""}${report.detail === undefined ? "" : ` ${report.detail}`}`,
      );
    }
    return { live, ready, text: `${lines.join("\n")}\n` };
  }
}
