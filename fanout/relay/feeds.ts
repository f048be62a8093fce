/**
 * The relays below this server: brings each commit to those whose nodes it concerns, and knows which nodes have their session there.
 *
 * Invariant: a commit costs a relay what concerns its nodes, once, however many they are. There is no window before a flush: commits are already gathered, and
 * the relay has a window of its own.
 */
import type { Clock } from "../../src/runtime/clock.ts";
import { type Logger, silentLogger } from "../../src/runtime/log.ts";
import type { RelayHello } from "../../src/wire/gen/sedge/sync/v1/relay.ts";
import type { PeerStream, StreamHandler } from "../delivery/delivery.ts";
import { requireRelay } from "../identity.ts";
import type { ClientState } from "../session/client-state.ts";
import { CallError } from "../status.ts";
import type { NodeId } from "../table/node-ids.ts";
import type { Commit } from "../table/table.ts";
import { FEED_LIMITS, Feed, type FeedHost, type FeedLimits } from "./feed.ts";
import type { RelayedNode } from "./relayed-node.ts";

/** Servers between the root and a relay, the root among them. */
export const MAX_PATH = 4;
/** Relays that lately asked for views count as below for this long (ms); one that is refused comes again sooner. */
const BELOW_FOR_MS = 60_000;
const MAX_BELOW = 256;
/** A relay learns of revisions that concern none of its nodes after at most this long (ms). */
const REVISION_TELL_MS = 500;

export interface FeedsOptions
  extends Pick<
    FeedHost,
    | "table"
    | "serverName"
    | "heartbeatIntervalMs"
    | "path"
    | "epoch"
    | "refusal"
    | "versions"
    | "upstream"
    | "syncStatus"
    | "hold"
    | "report"
    | "sent"
    | "ended"
  > {
  /** Names this run of the server. */
  readonly id: string;
  readonly clock: Clock;
  readonly log?: Logger;
  readonly helloTimeoutMs: number;
  readonly limits?: Partial<FeedLimits>;
  /** A node below a relay has come or changed. */
  readonly onNode?: (node: RelayedNode) => void;
}

export class Feeds {
  readonly #options: FeedsOptions;
  readonly #host: FeedHost;
  readonly #log: Logger;
  readonly #open = new Set<Feed>();
  readonly #registered = new Set<Feed>();
  readonly #byNode = new Map<NodeId, RelayedNode>();
  readonly #below = new Map<string, number>();
  readonly #stopped = new AbortController();
  #isFlushScheduled = false;

  constructor(options: FeedsOptions) {
    this.#options = options;
    this.#log = options.log ?? silentLogger();
    const { clock } = options;
    this.#host = {
      ...options,
      limits: { ...FEED_LIMITS, ...options.limits },
      now: () => clock.now(),
      wallTimeUs: () => Math.round(clock.wallTime() * 1000),
      loopOf: (hello) => this.#loopOf(hello),
      register: (feed) => this.#register(feed),
      unregister: (feed) => {
        this.#open.delete(feed);
        this.#registered.delete(feed);
      },
      nodeChanged: (node, isConnected) => this.#nodeChanged(node, isConnected),
    };
  }

  /** Relays that have said RelayHello. */
  get feeds(): ReadonlySet<Feed> {
    return this.#registered;
  }

  /** Nodes whose session is at a relay below. */
  get nodes(): ReadonlyMap<NodeId, RelayedNode> {
    return this.#byNode;
  }

  clientOf(node: NodeId): ClientState | undefined {
    return this.#byNode.get(node);
  }

  /** Ids of the relays that lately asked for views here, and of those below them. */
  get below(): readonly string[] {
    const limit = this.#options.clock.now() - BELOW_FOR_MS;
    for (const [id, at] of this.#below) if (at < limit) this.#below.delete(id);
    return [...this.#below.keys()];
  }

  /** Whether a relay with a certificate of this name serves the node, so that it may speak for it. */
  serves(name: string, node: NodeId): boolean {
    for (const feed of this.#registered) if (feed.identityName === name && feed.serves(node)) return true;
    return false;
  }

  accept(stream: PeerStream): StreamHandler {
    const feed = new Feed({ stream, host: this.#host });
    this.#open.add(feed);
    try {
      requireRelay(stream.identity);
    } catch (error) {
      if (error instanceof CallError) feed.cut(error);
      return feed;
    }
    const { clock, helloTimeoutMs } = this.#options;
    clock.sleep(helloTimeoutMs, this.#stopped.signal).then(
      () => feed.handle("hello-overdue"),
      (error: unknown) => this.#log.error({ err: error }, "timer failed"),
    );
    return feed;
  }

  publish(commit: Commit): void {
    let isAny = false;
    for (const feed of this.#registered) if (feed.publish(commit)) isAny = true;
    if (!isAny || this.#isFlushScheduled) return;
    this.#isFlushScheduled = true;
    setImmediate(() => this.flush());
  }

  flush(): void {
    this.#isFlushScheduled = false;
    for (const feed of this.#registered) feed.flush();
  }

  /** Sends heartbeats until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, heartbeatIntervalMs } = this.#options;
    const tickMs = Math.max(1, Math.min(REVISION_TELL_MS, heartbeatIntervalMs / 4));
    while (!signal.aborted) {
      await clock.sleep(tickMs, signal);
      const now = clock.now();
      for (const feed of this.#registered) {
        if (now < feed.heartbeatDueAt && !feed.isBehindRevision) continue;
        feed.heartbeat();
        feed.heartbeatDueAt = now + heartbeatIntervalMs - tickMs;
      }
    }
    this.#stopped.abort();
  }

  /** Asks all to move, and ends those that are still there after the deadline. */
  async drain(deadlineMs: number, targets: readonly string[]): Promise<void> {
    const { clock } = this.#options;
    const end = clock.now() + deadlineMs;
    for (const feed of this.#open) feed.drain(deadlineMs, targets);
    while (this.#open.size > 0 && clock.now() < end) await clock.sleep(Math.max(0, Math.min(50, end - clock.now())));
    for (const feed of this.#open) feed.handle("drain-overdue");
  }

  /** Ends every stream: what the relays were told does not hold any more. */
  cutAll(error: CallError): void {
    for (const feed of this.#open) feed.cut(error);
  }

  #loopOf(hello: RelayHello): CallError | undefined {
    const now = this.#options.clock.now();
    for (const id of [hello.id, ...hello.below]) if (this.#below.has(id) || this.#below.size < MAX_BELOW) this.#below.set(id, now);
    const { id } = this.#options;
    const path = this.#options.path();
    if (hello.id === id || hello.below.includes(id) || path.includes(hello.id))
      return new CallError(
        "relay-loop",
        `relay ${hello.name} is its own parent, by way of ${this.#options.serverName}: give it --upstream that leads to the root`,
      );
    return path.length >= MAX_PATH
      ? new CallError(
          "too-many-hops",
          `there are ${path.length} servers from the root to ${this.#options.serverName}: a relay below it would be too far away (at most ${MAX_PATH})`,
        )
      : undefined;
  }

  #register(feed: Feed): void {
    for (const other of this.#registered) if (other.id === feed.id) other.handle("replaced");
    this.#registered.add(feed);
    feed.heartbeatDueAt = this.#options.clock.now() + this.#options.heartbeatIntervalMs / 2;
  }

  /** A node that moves is told of by two relays for a while: its newest session counts, whatever the other still says. */
  #nodeChanged(node: RelayedNode, isConnected: boolean): void {
    const { id } = node.node;
    const known = this.#byNode.get(id);
    if (isConnected) {
      if (known === undefined || known === node || known.connectedAt <= node.connectedAt) this.#byNode.set(id, node);
    } else if (known === node) {
      this.#byNode.delete(id);
      for (const feed of this.#registered) {
        const other = feed.relayedOf(id);
        const best = this.#byNode.get(id);
        if (other !== undefined && (best === undefined || best.connectedAt < other.connectedAt)) this.#byNode.set(id, other);
      }
    }
    this.#options.onNode?.(node);
  }
}
