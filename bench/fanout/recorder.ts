/** What the agents of one process have received since `reset`: counts, times, and who got which message when, so that a baseline can send the same. */
import { Latency, type LatencyFigures, unixUs } from "./latency.ts";

/** One message that several agents got. */
export interface TracedMessage {
  /** When it was committed, microseconds since 1970. */
  readonly atUnixUs: number;
  readonly revision: number;
  readonly bytes: number;
  readonly recipients: readonly number[];
}

/** How agents got level after their Hello. */
export interface AnswerCounts {
  readonly answers: number;
  /** The digest exchange was all: no record came. */
  readonly unchanged: number;
  /** More than half of the view came. */
  readonly full: number;
  readonly records: number;
}

export interface Received {
  readonly messages: number;
  readonly records: number;
  /** Of the messages, without HTTP/2 and TCP. */
  readonly bytes: number;
  readonly mostMessagesOfOneAgent: number;
  readonly mostBytesOfOneAgent: number;
  readonly latency: LatencyFigures;
  readonly trace: readonly TracedMessage[];
  readonly answers: AnswerCounts;
  readonly heartbeats: number;
  readonly repairs: number;
  /** Streams that ended without being asked to, with the reason of the first. */
  readonly ended: number;
  readonly firstEnd: string;
}

export class Recorder {
  readonly #latency = new Latency();
  #trace = new Map<number, { atUnixUs: number; revision: number; bytes: number; recipients: number[] }[]>();
  #messagesOf: number[] = [];
  #bytesOf: number[] = [];
  #messages = 0;
  #records = 0;
  #bytes = 0;
  #answers = { answers: 0, unchanged: 0, full: 0, records: 0 };
  heartbeats = 0;
  repairs = 0;
  ended = 0;
  firstEnd = "";

  reset(): void {
    this.#latency.reset();
    this.#trace = new Map();
    this.#messagesOf = [];
    this.#bytesOf = [];
    this.#messages = 0;
    this.#records = 0;
    this.#bytes = 0;
    this.#answers = { answers: 0, unchanged: 0, full: 0, records: 0 };
    this.heartbeats = 0;
    this.repairs = 0;
    this.ended = 0;
    this.firstEnd = "";
  }

  end(reason: string): void {
    this.ended++;
    if (this.firstEnd === "") this.firstEnd = reason;
  }

  /** An agent's view is complete, by so many records of the `viewRecords` that it has. */
  answer({ records, viewRecords }: { readonly records: number; readonly viewRecords: number }): void {
    this.#answers.answers++;
    this.#answers.records += records;
    if (records === 0) this.#answers.unchanged++;
    else if (records > viewRecords / 2) this.#answers.full++;
  }

  /** An agent has a delta. Those of one revision that are equally long count as one message in the trace. */
  delta({
    agent,
    revision,
    committedAtUnixUs,
    bytes,
    records,
  }: {
    readonly agent: number;
    readonly revision: number;
    readonly committedAtUnixUs: number;
    readonly bytes: number;
    readonly records: number;
  }): void {
    this.#latency.record(unixUs() - committedAtUnixUs);
    this.#messages++;
    this.#records += records;
    this.#bytes += bytes;
    this.#messagesOf[agent] = (this.#messagesOf[agent] ?? 0) + 1;
    this.#bytesOf[agent] = (this.#bytesOf[agent] ?? 0) + bytes;
    let ofRevision = this.#trace.get(revision);
    if (ofRevision === undefined) this.#trace.set(revision, (ofRevision = []));
    const same = ofRevision.find((message) => message.bytes === bytes);
    if (same === undefined) ofRevision.push({ atUnixUs: committedAtUnixUs, revision, bytes, recipients: [agent] });
    else same.recipients.push(agent);
  }

  received(): Received {
    const largest = (list: readonly number[]): number => list.reduce((most, value) => Math.max(most, value ?? 0), 0);
    return {
      messages: this.#messages,
      records: this.#records,
      bytes: this.#bytes,
      mostMessagesOfOneAgent: largest(this.#messagesOf),
      mostBytesOfOneAgent: largest(this.#bytesOf),
      latency: this.#latency.figures(),
      trace: [...this.#trace.values()].flat(),
      answers: { ...this.#answers },
      heartbeats: this.heartbeats,
      repairs: this.repairs,
      ended: this.ended,
      firstEnd: this.firstEnd,
    };
  }
}
