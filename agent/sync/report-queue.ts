/**
 * Endpoint reports on their way to the API: one for each block, the newest; sent until the server says that it has it.
 *
 * Invariant: bounded by the node's blocks. After a reconnect everything unconfirmed is sent again; a refusal that may pass is repeated with back-off.
 */

import type { Cidr } from "../../src/net/cidr.ts";
import { ipBytes, ipFromBytes } from "../../src/net/ip.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import { Backoff } from "../../src/runtime/retry.ts";
import type { EndpointReport, ReportResult } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { prefixFromWire, prefixToWire } from "../../src/wire/prefix-codec.ts";
import type { BlockReport, ReportAnswer, ReportClient } from "./claims.ts";

interface Waiting {
  report: BlockReport;
  readonly backoff: Backoff;
}

export class ReportQueue implements ReportClient {
  readonly #waiting = new Map<Cidr, Waiting>();
  readonly #clock: Clock;
  readonly #log: Logger;
  #send: ((report: EndpointReport) => void) | undefined;
  #session = new AbortController();
  #listener: (answer: ReportAnswer) => void = () => undefined;

  constructor(options: { readonly clock: Clock; readonly log: Logger }) {
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** Blocks whose newest report the server has not confirmed. */
  get size(): number {
    return this.#waiting.size;
  }

  report(report: BlockReport): void {
    const waiting = this.#waiting.get(report.block);
    if (waiting !== undefined && waiting.report.generation > report.generation) return;
    if (waiting === undefined) this.#waiting.set(report.block, { report, backoff: new Backoff({ initialMs: 500, maxMs: 30_000 }) });
    else waiting.report = report;
    this.#send?.(toWire(report));
  }

  listen(listener: (answer: ReportAnswer) => void): void {
    this.#listener = listener;
  }

  begin(send: (report: EndpointReport) => void): void {
    this.#session.abort();
    this.#session = new AbortController();
    this.#send = send;
    for (const { report } of this.#waiting.values()) send(toWire(report));
  }

  end(): void {
    this.#session.abort();
    this.#send = undefined;
  }

  result({ block, ended, error, generation, retry, superseded }: ReportResult): void {
    const cidr = block === undefined ? undefined : prefixFromWire(block);
    const waiting = cidr === undefined ? undefined : this.#waiting.get(cidr);
    if (cidr === undefined || waiting === undefined || BigInt(waiting.report.generation) !== generation) return;
    if (error === "" || superseded) {
      this.#waiting.delete(cidr);
      if (superseded) this.#log.warn({ block: cidr, generation, reason: error }, "a block report is of an earlier claim: the block is taken over again");
      this.#listener({ block: cidr, ended: ended.map(ipFromBytes), isSuperseded: superseded });
      return;
    }
    if (!retry) {
      this.#log.error({ block: cidr, generation, reason: error }, "the server refuses a block report: addresses in it are not in the API");
      this.#waiting.delete(cidr);
      return;
    }
    this.#log.warn({ block: cidr, generation, reason: error }, "a block report did not reach the API: trying again");
    void this.#resendLater(cidr, waiting);
  }

  async #resendLater(block: Cidr, waiting: Waiting): Promise<void> {
    const { signal } = this.#session;
    await this.#clock.sleep(waiting.backoff.next(), signal);
    if (!signal.aborted && this.#waiting.get(block) === waiting) this.#send?.(toWire(waiting.report));
  }
}

function toWire({ block, generation, allocations, claim, declined, lent, of }: BlockReport): EndpointReport {
  return {
    block: prefixToWire(block),
    generation: BigInt(generation),
    allocations: allocations.map(({ address, handle, namespace, pod }) => ({ address: Buffer.from(ipBytes(address)), handle, namespace, pod })),
    claim,
    of: of === undefined ? undefined : prefixToWire(of),
    lent: lent.map(({ address, id }) => ({ address: Buffer.from(ipBytes(address)), id })),
    declined: [...declined],
  };
}
