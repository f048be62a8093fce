/**
 * A relay's end towards its parents: keeps the table what the parent's is, cut to the nodes that are asked for here, for as long as the relay lives.
 *
 * The protocol is `UpstreamSession` (src/wire), pure; this carries its outputs out. Parents are tried in order; one that answers is kept. A parent that is lost
 * takes nothing away: the table stays, its age grows, and the next session costs an exchange of digests.
 * Invariants: the table is at every moment a whole commit of one parent; a node's view is served only while it is held. Every wait has a bound.
 */
import type { NodeName } from "../../src/model/names.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import { Backoff, jittered } from "../../src/runtime/retry.ts";
import type { Part } from "../../src/runtime/supervisor.ts";
import { addDigest, bucketBitsFor } from "../../src/wire/digest.ts";
import type { RelayAck, RelayHeartbeat, RelayHello, RelayWelcome, Subscribe, SubscribedNode } from "../../src/wire/gen/sedge/sync/v1/relay.ts";
import type { EndpointReport, ReportResult } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import type { RelayCommit, UpstreamOutput } from "../../src/wire/relay-protocol.ts";
import type { RelayConnection, SessionFailure, TlsFiles } from "../../src/wire/sync-connection.ts";
import { CallError } from "../status.ts";
import type { NodeId } from "../table/node-ids.ts";
import { type Commit, MirrorError, type Table } from "../table/table.ts";
import { RelayedVersions } from "../upstream-versions.ts";
import { MAX_PATH } from "./feeds.ts";
import { Link } from "./link.ts";
import { comeAgain, Outstanding } from "./outstanding.ts";

export interface UpstreamOptions {
  readonly table: Table;
  /** "host:port" or "unix:/path", in order of preference. */
  readonly parents: readonly string[];
  /** undefined: plain text. */
  readonly tls: TlsFiles | undefined;
  readonly name: string;
  readonly version: string;
  /** Names this run of the relay. */
  readonly id: string;
  /** Hold the views of all nodes that there are, not only of those that have asked. */
  readonly isForAll: boolean;
  readonly staleAfterMs: number;
  /** A node that nobody asks for is still held for this long (ms). */
  readonly lingerMs?: number;
  readonly clock: Clock;
  readonly log: Logger;
  /** Relays that asked here for views. */
  readonly below: () => readonly string[];
  /** The table is of another run of a server than before: it has its content, and its revision. */
  readonly onEpoch: (epoch: string) => void;
  /** Right after the table took it. */
  readonly onCommit: (commit: Commit) => void;
  /** Once: the table has a complete view. */
  readonly onInSync: () => void;
  /** The parent answers from now on; undefined: it is gone. */
  readonly onParent: (send: ((ack: RelayAck) => void) | undefined) => void;
  /** The table's revision has moved. */
  readonly onAdvance: () => void;
  readonly onReportResult: (node: NodeId, result: ReportResult) => void;
  readonly onSessionEnd?: (failure: SessionFailure) => void;
}

const LASTING_FAILURE_DELAY_MS = 30_000;
const LINGER_MS = 300_000;
/** Subscribes are cut so that each is far below the largest message that a server takes. */
const MAX_SUBSCRIBE_BYTES = 256 * 1024;

/** A node that is asked for here. */
interface Wish {
  readonly name: NodeName;
  /** asked: the parent was told, or will be. held: the table has its view. dropping: the parent was told that nobody asks any more. */
  state: "asked" | "held" | "dropping";
  users: number;
  idleSince: number;
  /** Called when it is held, or with an error. */
  readonly waiters: Set<(error?: CallError) => void>;
}

export class Upstream implements Part {
  readonly name = "upstream";
  readonly versions = new RelayedVersions();
  readonly #options: UpstreamOptions;
  readonly #wishes = new Map<NodeId, Wish>();
  readonly #outstanding = new Outstanding();
  readonly #backoff = new Backoff({ initialMs: 200, maxMs: 15_000 });
  /** Of every node that there is, when the relay is for all. */
  readonly #forAll = new Map<NodeName, () => void>();
  #preferred: readonly string[] = [];
  #toSubscribe: NodeId[] = [];
  #isScheduled = false;
  #link: Link | undefined;
  #epoch = "";
  #path: readonly string[] = [];
  #isInSync = false;
  /** The table did not have the digest: the next hello states all wrong, so that everything comes. */
  #isWhole = false;
  #heard = { at: 0, ageMs: 0, isStale: false };
  #syncStatus = "wait-for-datastore";

  constructor(options: UpstreamOptions) {
    this.#options = options;
  }

  get epoch(): string {
    return this.#epoch;
  }

  /** The table has had a complete view. */
  get isInSync(): boolean {
    return this.#isInSync;
  }

  get isLive(): boolean {
    return this.#link?.isLive === true;
  }

  /** Address of the parent that answers; "": none does. */
  get parent(): string {
    return this.isLive ? (this.#link?.address ?? "") : "";
  }

  /** Of the source, as the parent told. */
  get syncStatus(): string {
    return this.#syncStatus;
  }

  /** Servers from the root to this relay, by id. */
  get path(): readonly string[] {
    return [...this.#path, this.#options.id];
  }

  /** For unary calls; undefined: there is no parent now. */
  get connection(): RelayConnection | undefined {
    return this.isLive ? this.#link?.connection : undefined;
  }

  /** Nodes whose views are held. */
  get heldNodes(): number {
    return this.#held().size;
  }

  /** Age of what the table is of: as the parent told, and grown since. */
  upstream(): { readonly ageMs: number; readonly isStale: boolean } {
    const ageMs = this.#heard.ageMs + this.#options.clock.now() - this.#heard.at;
    return { ageMs, isStale: this.#heard.isStale || ageMs > this.#options.staleAfterMs };
  }

  isHeld(node: NodeName): boolean {
    const id = this.#options.table.nodes.findId(node);
    return id !== undefined && this.#wishes.get(id)?.state === "held";
  }

  /** See SessionHost.hold. */
  hold(name: NodeName, onHeld: (error?: CallError) => void): () => void {
    const { table, clock } = this.#options;
    if (this.#link === undefined && !this.isHeld(name)) {
      onHeld(this.#lost(name));
      return () => undefined;
    }
    const id = table.nodes.idOf(name);
    let wish = this.#wishes.get(id);
    if (wish === undefined) {
      wish = { name, state: "asked", users: 0, idleSince: 0, waiters: new Set() };
      this.#wishes.set(id, wish);
      table.nodes.hold(id);
      this.#ask(id);
    }
    const own = wish;
    own.users++;
    if (own.state === "held") onHeld();
    else own.waiters.add(onHeld);
    let isReleased = false;
    return () => {
      if (isReleased) return;
      isReleased = true;
      own.waiters.delete(onHeld);
      if (--own.users === 0) own.idleSince = clock.now();
    };
  }

  /** Sends a report of a node up; the result comes by `onReportResult`, also when the parent is lost meanwhile. */
  report(node: NodeId, report: EndpointReport): void {
    if (!this.isLive) {
      this.#options.onReportResult(node, comeAgain(report, "the relay has no parent now"));
      return;
    }
    this.#outstanding.add(node, report);
    this.#link?.write({ $case: "report", value: { slot: node, report } });
  }

  async run(signal: AbortSignal): Promise<void> {
    const { log, clock, onSessionEnd, parents } = this.#options;
    void this.#sweep(signal).catch((error: unknown) => log.error({ err: error }, "the sweep over nodes failed"));
    for (let next = 0; !signal.aborted; ) {
      const servers = [...this.#preferred, ...parents.filter((parent) => !this.#preferred.includes(parent))];
      const address = servers[next % servers.length] ?? "";
      const link = new Link({ address, tls: this.#options.tls, clock, log, hello: () => this.#hello(), carryOut: (output) => this.#carryOut(output) });
      this.#link = link;
      const failure = await link.run(signal);
      this.#link = undefined;
      this.#lose();
      if (signal.aborted) return;
      onSessionEnd?.(failure);
      if (link.wasLive) this.#backoff.reset();
      if (link.moveTo !== undefined) {
        next = link.moveTo.length > 0 ? 0 : next + 1;
        this.#preferred = link.moveTo;
        continue;
      }
      log.warn(
        { parent: address, code: failure.code, reason: failure.detail, retryAfterMs: failure.retryAfterMs },
        failure.isLasting ? "the parent refuses this relay" : "the parent is lost: what is held is still served",
      );
      if (!link.wasLive) next++;
      const isRoundOver = next % servers.length === 0 || link.wasLive;
      // Another parent is tried at once.
      const asked = servers.length > 1 && !isRoundOver ? 0 : failure.isLasting ? LASTING_FAILURE_DELAY_MS : failure.retryAfterMs;
      await clock.sleep(isRoundOver || asked > 0 ? this.#backoff.next(asked) : jittered(50, 0.5), signal);
    }
  }

  #carryOut(output: UpstreamOutput): void {
    switch (output.kind) {
      case "send":
        this.#link?.writeBytes(output.bytes);
        return;
      case "welcome":
        this.#welcome(output.welcome);
        return;
      case "commit":
        this.#apply(output.commit, output.isAnswer);
        return;
      case "heartbeat":
        this.#note(output.heartbeat, output.isLive);
        return;
      case "report-result": {
        const { slot, result } = output.result;
        if (result === undefined) return;
        const node = slot as NodeId;
        this.#outstanding.settle(node, result);
        this.#options.onReportResult(node, result);
        return;
      }
      case "move":
        this.#options.log.info({ reason: output.move.reason, targets: output.move.targets }, "the parent asks to move");
        this.#link?.leave(output.move.targets);
        return;
      case "end":
        this.#link?.end(output);
        return;
    }
  }

  #welcome(welcome: RelayWelcome): void {
    const { id, table, log } = this.#options;
    if (welcome.path.includes(id))
      return this.#refuse("RELAY_LOOP", "this relay is its own parent, by way of others: give it --upstream that leads to the root");
    if (welcome.path.length >= MAX_PATH)
      return this.#refuse("TOO_MANY_HOPS", `there are ${welcome.path.length} servers from the root to the parent; at most ${MAX_PATH - 1} may be`);
    if (!table.adoptSeed(welcome.hashSeed))
      return this.#refuse("ANOTHER_CLUSTER", "the parent serves another cluster than the one that this relay has views of: restart the relay to take it");
    this.#link?.greeted(welcome);
    log.info({ server: welcome.server, parent: this.#link?.address, epoch: welcome.epoch, revision: String(welcome.revision) }, "connected to the parent");
  }

  #refuse(code: string, detail: string): void {
    this.#link?.fail({ code, detail, retryAfterMs: 0, isLasting: true });
  }

  #apply(commit: RelayCommit, isAnswer: boolean): void {
    const { table, onEpoch, onCommit, onInSync, onParent } = this.#options;
    const link = this.#link;
    if (link?.welcome === undefined) return;
    const { epoch, path, upstreamKinds } = link.welcome;
    const isRestart = isAnswer && epoch !== this.#epoch;
    if (isAnswer) this.#path = path;
    let made: Commit;
    try {
      made = table.mirror(commit, (node) => this.#wishes.has(node), isRestart);
    } catch (error) {
      if (!(error instanceof MirrorError)) throw error;
      this.#isWhole = true;
      this.#violated(error.message);
      return;
    }
    this.versions.settle({ kinds: upstreamKinds, revision: commit.revision, told: commit.upstream, isAnswer });
    if (isRestart) {
      this.#epoch = epoch;
      onEpoch(epoch);
    }
    for (const slot of commit.dropped) this.#dropped(slot as NodeId);
    const held: Wish[] = [];
    for (const slot of commit.held) {
      const wish = this.#wishes.get(slot as NodeId);
      if (wish === undefined) continue;
      wish.state = "held";
      held.push(wish);
    }
    onCommit(made);
    this.#followNodes(made, isAnswer);
    if (isAnswer) {
      if (commit.digest !== table.unionDigest(this.#held())) {
        this.#options.log.warn({ isWhole: this.#isWhole }, "the table differs from the parent's: everything is asked for anew");
        this.#isWhole = true;
        this.#violated("the table does not have the parent's digest");
        return;
      }
      this.#isWhole = false;
      link.becameLive();
      this.#heard = { ...this.#heard, at: this.#options.clock.now() };
      if (!this.#isInSync) {
        this.#isInSync = true;
        onInSync();
      }
      onParent((ack) => link.write({ $case: "ack", value: ack }));
      this.#schedule();
    }
    for (const { waiters } of held) {
      const called = [...waiters];
      waiters.clear();
      for (const onHeld of called) onHeld();
    }
  }

  #note({ revision, digest, upstreamAgeMs, stale, reached, syncStatus }: RelayHeartbeat, isLive: boolean): void {
    const { table, clock, onAdvance } = this.#options;
    this.#heard = { at: clock.now(), ageMs: Number(upstreamAgeMs), isStale: stale };
    this.#syncStatus = syncStatus;
    if (!isLive || digest === undefined) return;
    if (digest !== table.unionDigest(this.#held())) {
      this.#options.log.warn({ revision: String(revision) }, "the table differs from the parent's: resuming by digests");
      this.#violated("the table does not have the digest of a heartbeat");
      return;
    }
    table.advance(revision);
    this.versions.reach(reached);
    onAdvance();
  }

  #violated(detail: string): void {
    for (const output of this.#link?.session?.violated(detail) ?? []) this.#carryOut(output);
  }

  /** The stream is over: who waits for a view does not get it now. */
  #lose(): void {
    const { onParent, table } = this.#options;
    onParent(undefined);
    for (const [node, result] of this.#outstanding.takeAll()) this.#options.onReportResult(node, result);
    this.#toSubscribe = [];
    for (const [id, wish] of this.#wishes) {
      if (wish.state === "held") continue;
      const waiters = [...wish.waiters];
      wish.waiters.clear();
      for (const onHeld of waiters) onHeld(this.#lost(wish.name));
      if (wish.users > 0 && wish.state === "asked") continue;
      this.#wishes.delete(id);
      table.forgetNode(id);
      table.nodes.release(id);
    }
  }

  #lost(name: NodeName): CallError {
    return new CallError("parent-lost", `this relay has no parent now and does not hold the view of ${name}`);
  }

  /** What the table has, digest by digest, and the nodes that are asked for. */
  #hello(): { hello: RelayHello; subscribes: Subscribe[] } {
    const { table, name, version, id, below } = this.#options;
    const sharedBits = bucketBitsFor(table.sharedSize);
    const stated = (digests: BigUint64Array): bigint[] => [...digests].map((digest) => (this.#isWhole ? addDigest(digest, 1n) : digest));
    const nodes: SubscribedNode[] = [];
    for (const [slot, wish] of this.#wishes) {
      const size = wish.state === "held" ? table.ownSize(slot) : 0;
      const bucketBits = bucketBitsFor(size);
      nodes.push({ slot, node: wish.name, bucketBits, digests: wish.state === "held" ? stated(table.ownBucketDigests(slot, bucketBits)) : [] });
    }
    const hello: RelayHello = {
      name,
      version,
      features: [],
      id,
      below: [...below()],
      epoch: this.#epoch,
      revision: this.#isInSync ? table.revision : 0n,
      shared: { hashSeed: table.seed, bucketBits: sharedBits, digests: stated(table.sharedBucketDigests(sharedBits)) },
      upstream: this.versions.positions,
      nodes: nodes.length,
    };
    return { hello, subscribes: chunked(nodes) };
  }

  #held(): Set<NodeId> {
    const held = new Set<NodeId>();
    for (const [id, { state }] of this.#wishes) if (state !== "asked") held.add(id);
    return held;
  }

  #ask(node: NodeId): void {
    this.#toSubscribe.push(node);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled || !this.isLive || this.#toSubscribe.length === 0) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      if (!this.isLive) return;
      const nodes: SubscribedNode[] = [];
      for (const slot of this.#toSubscribe) {
        const wish = this.#wishes.get(slot);
        if (wish?.state === "asked") nodes.push({ slot, node: wish.name, bucketBits: 0, digests: [] });
      }
      this.#toSubscribe = [];
      for (const value of chunked(nodes)) this.#link?.write({ $case: "subscribe", value });
    });
  }

  /** The table has forgotten the node; whoever asked meanwhile asks anew, under another number. */
  #dropped(slot: NodeId): void {
    const { table } = this.#options;
    const wish = this.#wishes.get(slot);
    if (wish === undefined) return;
    this.#wishes.delete(slot);
    table.nodes.release(slot);
    const again = [...wish.waiters];
    wish.waiters.clear();
    for (const onHeld of again) onHeld(new CallError("parent-lost", `the view of ${wish.name} was just given up: it is asked for anew`, { retryAfterMs: 100 }));
  }

  /** Tells the parent of nodes that nobody has asked for for a while. */
  async #sweep(signal: AbortSignal): Promise<void> {
    const { clock, lingerMs = LINGER_MS } = this.#options;
    while (!signal.aborted) {
      await clock.sleep(lingerMs / 4, signal);
      if (!this.isLive) continue;
      const slots: number[] = [];
      for (const [id, wish] of this.#wishes) {
        if (wish.state !== "held" || wish.users > 0 || clock.now() - wish.idleSince < lingerMs) continue;
        wish.state = "dropping";
        slots.push(id);
      }
      if (slots.length > 0) this.#link?.write({ $case: "unsubscribe", value: { slots } });
    }
  }

  /** A relay for all asks for each node as it comes and goes. */
  #followNodes({ touched }: Commit, isAnswer: boolean): void {
    const { isForAll, table } = this.#options;
    if (!isForAll) return;
    const keys = isAnswer
      ? [...[...table.entries()].map(({ key }) => key), ...[...this.#forAll.keys()].map((name) => `node/${name}`)]
      : touched.map(({ key }) => key);
    for (const key of new Set(keys)) {
      if (!key.startsWith("node/")) continue;
      const name = key.slice("node/".length) as NodeName;
      const release = this.#forAll.get(name);
      if (table.findEntry(key) !== undefined && release === undefined)
        this.#forAll.set(
          name,
          this.hold(name, () => undefined),
        );
      else if (table.findEntry(key) === undefined && release !== undefined) {
        release();
        this.#forAll.delete(name);
      }
    }
  }
}

function chunked(nodes: readonly SubscribedNode[]): Subscribe[] {
  const chunks: SubscribedNode[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const node of nodes) {
    const size = node.node.length + 12 + 8 * node.digests.length;
    if (bytes + size > MAX_SUBSCRIBE_BYTES) {
      chunks.push([]);
      bytes = 0;
    }
    chunks.at(-1)?.push(node);
    bytes += size;
  }
  return chunks.map((part) => ({ nodes: part }));
}
