/**
 * What the whole tier knows: this server's own report and those of the others, asked when somebody wants to know.
 *
 * Nothing is kept between questions but the connections, and for two seconds the last answers, so that the tier has no state of its own that could be wrong.
 * A server that does not answer in time is named, and nothing is concluded from its silence. Rejected: servers that tell each other all the time (a
 * hundred replicas would exchange ten thousand messages for a question that is asked every few seconds by one).
 */
import type { RecordKey } from "../../src/model/record.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import type { GetObjectStatusRequest, GetObjectStatusResponse, ReplicaReport } from "../../src/wire/gen/sedge/sync/v1/introspection.ts";
import type { TierAnswers } from "../policy-status/tier-lag.ts";
import type { Member, Members } from "./members.ts";
import { mergeObjectStatuses } from "./merge-object-statuses.ts";
import type { Peer } from "./peer-calls.ts";

export interface TierOptions {
  readonly members: Members;
  readonly clock: Clock;
  readonly log: Logger;
  readonly connect: (address: string) => Peer;
  readonly ownReport: () => ReplicaReport;
  /** As GetObjectStatuses of this server; `isElsewhere` as in ObjectStatusSources. */
  readonly ownStatuses: (objects: readonly GetObjectStatusRequest[], isElsewhere: (node: string) => boolean) => readonly GetObjectStatusResponse[];
}

export interface HeardReplica {
  readonly name: string;
  readonly identity: string;
  readonly isSelf: boolean;
  readonly report: ReplicaReport;
}

export interface TierReport {
  /** By identity, this server among them even when the list does not have it. */
  readonly heard: readonly HeardReplica[];
  /** Names of servers of the list that did not answer. */
  readonly unheard: readonly string[];
  /** Servers of the list that are not ready; they are asked too, since agents may still be there. */
  readonly unready: readonly string[];
}

/** For a server's answer. */
const DEADLINE_MS = 2_000;
/** Answers younger than this are used again. */
const KEPT_MS = 2_000;

export class Tier {
  readonly #options: TierOptions;
  readonly #peers = new Map<string, Peer>();
  #last: { readonly at: number; readonly report: Promise<TierReport> } | undefined;

  constructor(options: TierOptions) {
    this.#options = options;
  }

  get members(): Members {
    return this.#options.members;
  }

  /** Never rejects: who does not answer is in `unheard`. */
  collect(): Promise<TierReport> {
    const now = this.#options.clock.now();
    if (this.#last === undefined || now - this.#last.at > KEPT_MS) this.#last = { at: now, report: this.#collect() };
    return this.#last.report;
  }

  /**
   * The objects' state over all servers that answer, in the order of the request; `unheard` of each names those that did not. At most 1000 objects, of kinds
   * that there are; one that this server does not know comes back with an empty resourceVersion.
   */
  async objectStatuses(objects: readonly GetObjectStatusRequest[]): Promise<readonly GetObjectStatusResponse[]> {
    const { ownStatuses } = this.#options;
    const report = await this.collect();
    const elsewhere = new Set(report.heard.flatMap((replica) => (replica.isSelf ? [] : replica.report.nodes)));
    const others = await this.#ask((peer) => peer.objectStatuses(objects, DEADLINE_MS));
    const own = ownStatuses(objects, (node) => elsewhere.has(node));
    return own.map((status, i) =>
      mergeObjectStatuses(
        status,
        others.heard.flatMap(({ answer }) => answer.statuses[i] ?? []),
        others.unheard,
      ),
    );
  }

  /** Which policies lack on which nodes, as the other servers tell it; with a record key, of that policy alone. */
  async lag(policy?: RecordKey): Promise<TierAnswers> {
    const { heard, unheard } = await this.#ask((peer) => peer.lag(policy, DEADLINE_MS));
    return { reports: heard.map(({ answer }) => answer), unanswered: unheard.map((server) => ({ server, reason: `no answer in ${DEADLINE_MS / 1_000} s` })) };
  }

  close(): void {
    for (const peer of this.#peers.values()) peer.close();
    this.#peers.clear();
  }

  async #collect(): Promise<TierReport> {
    const { members, ownReport } = this.#options;
    const others = await this.#ask((peer) => peer.report(DEADLINE_MS));
    const report = ownReport();
    const own = { name: report.status?.server ?? "", identity: members.self?.identity ?? "", isSelf: true, report };
    const heard = others.heard.map(({ member, answer }) => ({
      name: answer.status?.server ?? member.name,
      identity: member.identity,
      isSelf: false,
      report: answer,
    }));
    return {
      heard: [own, ...heard].sort((a, b) => (a.identity < b.identity ? -1 : 1)),
      unheard: others.unheard,
      unready: members.list.filter(({ isReady }) => !isReady).map(({ name }) => name),
    };
  }

  async #ask<T>(
    question: (peer: Peer) => Promise<T>,
  ): Promise<{ readonly heard: readonly { readonly member: Member; readonly answer: T }[]; readonly unheard: readonly string[] }> {
    const others = this.#options.members.list.filter(({ isSelf }) => !isSelf);
    this.#forgetOthers(new Set(others.map(({ identity }) => identity)));
    const answers = await Promise.all(
      others.map(async (member) => {
        try {
          return { member, answer: await question(this.#peerOf(member)) };
        } catch (error) {
          this.#options.log.debug({ err: error, server: member.name, address: member.identity }, "another server does not answer");
          return { member, answer: undefined };
        }
      }),
    );
    const heard: { member: Member; answer: T }[] = [];
    const unheard: string[] = [];
    for (const { member, answer } of answers)
      if (answer === undefined) {
        unheard.push(member.name);
        // Certificates are read anew with the next connection.
        this.#close(member.identity);
      } else heard.push({ member, answer });
    return { heard, unheard };
  }

  #peerOf({ identity }: Member): Peer {
    let peer = this.#peers.get(identity);
    if (peer === undefined) {
      peer = this.#options.connect(identity);
      this.#peers.set(identity, peer);
    }
    return peer;
  }

  #close(identity: string): void {
    this.#peers.get(identity)?.close();
    this.#peers.delete(identity);
  }

  #forgetOthers(wanted: ReadonlySet<string>): void {
    for (const identity of this.#peers.keys()) if (!wanted.has(identity)) this.#close(identity);
  }
}
