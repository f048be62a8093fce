/**
 * How long a certificate file is still good, for a metric and a warning. The file is read each time it is asked: whoever rotates it writes it in place.
 */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Clock } from "./clock.ts";
import type { Logger } from "./log.ts";
import type { Part } from "./supervisor.ts";

const CHECK_INTERVAL_MS = 3_600_000;
/** From here on each check warns. */
const WARN_BELOW_SECONDS = 7 * 86_400;

export class CertificateExpiry implements Part {
  readonly name = "certificate-expiry";
  readonly #options: { readonly file: string; readonly clock: Clock; readonly log: Logger };

  constructor(options: { readonly file: string; readonly clock: Clock; readonly log: Logger }) {
    this.#options = options;
  }

  /** Until the certificate's end; below 0 after it; NaN when the file cannot be read. */
  secondsLeft(): number {
    const { file, clock } = this.#options;
    try {
      return (Date.parse(new X509Certificate(readFileSync(file)).validTo) - clock.wallTime()) / 1_000;
    } catch {
      return Number.NaN;
    }
  }

  /** Warns when the end is near, or cannot be told. */
  check(): void {
    const { file, log } = this.#options;
    const secondsLeft = this.secondsLeft();
    if (Number.isNaN(secondsLeft)) log.warn({ file }, "the certificate cannot be read");
    else if (secondsLeft <= 0)
      log.error({ file, secondsLeft: Math.round(secondsLeft) }, "the certificate has expired: the other end refuses it; replace the file");
    else if (secondsLeft < WARN_BELOW_SECONDS) log.warn({ file, secondsLeft: Math.round(secondsLeft) }, "the certificate expires soon: replace the file");
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.check();
      await this.#options.clock.sleep(CHECK_INTERVAL_MS, signal);
    }
  }
}
