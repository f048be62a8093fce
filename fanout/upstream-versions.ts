/**
 * How far the server is in the history of the API, kind by kind, so that an agent never takes an older state from one server than it has from another.
 *
 * Two bounds for each kind. `told` is the newest resourceVersion that can be in the table: agents keep it with their view. `reached` is what surely is in
 * the table: an agent is served when it covers all that the agent was told, by whichever server. A kind without changes keeps its `told`, so that a server
 * whose watch has merely had no bookmark yet is not taken for an older one.
 * Comparing: Kubernetes promises since 1.35 (KEP-5504) that resourceVersions of one kind are decimal numbers that grow; other versions count as not known (0)
 * and refuse nobody. Rejected: one number for all kinds (no order is promised between kinds), and a clock (replicas disagree, and the API has none).
 */
import type { ClusterEvent } from "../src/model/event.ts";

/** Where the source's watches stand, by kind; "" before the first list. */
export type SourceVersions = () => ReadonlyMap<string, string>;

/** What sessions and relays are told of it. */
export interface UpstreamPositions {
  /** In the order of the arrays. */
  readonly kinds: readonly string[];
  /** For a commit message with what changed since `revision`; 0n for kinds that did not, empty when none did. The array is shared: not to be changed. */
  toldSince(revision: bigint): readonly bigint[];
  /** What surely is in the table. */
  readonly reachedVersions: readonly bigint[];
  /** The first kind of which the agent has a newer state than this server; undefined: it can be served. */
  olderThan(agent: readonly UpstreamPosition[]): { readonly kind: string; readonly has: bigint } | undefined;
}

interface UpstreamPosition {
  readonly kind: string;
  readonly resourceVersion: bigint;
}

const DECIMAL = /^[1-9][0-9]{0,18}$/;

export class UpstreamVersions implements UpstreamPositions {
  readonly #source: SourceVersions;
  readonly #kinds: readonly string[];
  readonly #indexes = new Map<string, number>();
  readonly #told: bigint[] = [];
  readonly #toldAt: bigint[] = [];
  readonly #reached: bigint[] = [];
  /** Kinds that had events since their version was last told. */
  readonly #changed = new Set<string>();
  readonly #frozen = new Map<bigint, readonly bigint[]>();

  constructor(options: { readonly kinds: readonly string[]; readonly source: SourceVersions }) {
    this.#source = options.source;
    this.#kinds = options.kinds;
    for (const [i, kind] of options.kinds.entries()) {
      this.#indexes.set(kind, i);
      this.#told.push(0n);
      this.#toldAt.push(0n);
      this.#reached.push(0n);
    }
  }

  /** In the order of `told`. */
  get kinds(): readonly string[] {
    return this.#kinds;
  }

  note(event: ClusterEvent): void {
    if (event.kind === "upsert") this.#changed.add(event.resource.kind);
    else if (event.kind === "delete" || event.kind === "invalid") this.#changed.add(event.key.kind);
  }

  /**
   * The table has been brought to `revision`. `isDrained`: with every event that the source has delivered. `isListed`: no list is under way; until then the
   * version of a list that is being read is not known.
   */
  settle({ revision, isDrained, isListed }: { readonly revision: bigint; readonly isDrained: boolean; readonly isListed: boolean }): void {
    const versions = this.#source();
    this.#frozen.clear();
    for (const [i, kind] of this.#kinds.entries()) {
      const version = numberOf(versions.get(kind));
      if (isDrained && version > (this.#reached[i] ?? 0n)) this.#reached[i] = version;
      if (!this.#changed.has(kind) || version <= (this.#told[i] ?? 0n)) continue;
      this.#told[i] = version;
      this.#toldAt[i] = revision;
      if (isDrained && isListed) this.#changed.delete(kind);
    }
  }

  get reachedVersions(): readonly bigint[] {
    return this.#reached;
  }

  toldSince(revision: bigint): readonly bigint[] {
    let told = this.#frozen.get(revision);
    if (told === undefined) {
      told = this.#told.map((version, i) => ((this.#toldAt[i] ?? 0n) >= revision ? version : 0n));
      if (told.every((version) => version === 0n)) told = [];
      this.#frozen.set(revision, told);
    }
    return told;
  }

  /** By kind, how far the table surely is; kinds of which that is not known are left out. */
  reached(): ReadonlyMap<string, bigint> {
    return new Map(this.#kinds.flatMap((kind, i) => ((this.#reached[i] ?? 0n) > 0n ? [[kind, this.#reached[i] ?? 0n] as const] : [])));
  }

  olderThan(agent: readonly UpstreamPosition[]): { readonly kind: string; readonly has: bigint } | undefined {
    return firstOlder(agent, (kind) => this.#reached[this.#indexes.get(kind) ?? -1]);
  }
}

function firstOlder(
  agent: readonly UpstreamPosition[],
  reached: (kind: string) => bigint | undefined,
): { readonly kind: string; readonly has: bigint } | undefined {
  for (const { kind, resourceVersion } of agent) {
    const has = reached(kind);
    // Not known here, so it cannot be compared.
    if (has === undefined || has === 0n) continue;
    if (has < resourceVersion) return { kind, has };
  }
  return undefined;
}

/** A relay's: what its parent tells. The kinds come with each Welcome, and the order may differ between two parents. */
export class RelayedVersions implements UpstreamPositions {
  #kinds: readonly string[] = [];
  #reached: bigint[] = [];
  #told = new Map<string, bigint>();
  #toldAt = new Map<string, bigint>();
  readonly #frozen = new Map<bigint, readonly bigint[]>();

  get kinds(): readonly string[] {
    return this.#kinds;
  }

  get reachedVersions(): readonly bigint[] {
    return this.#reached;
  }

  /** What the table is of, for RelayHello. */
  get positions(): UpstreamPosition[] {
    return [...this.#told].map(([kind, resourceVersion]) => ({ kind, resourceVersion }));
  }

  /** A commit of the parent, whose kinds are these. `isAnswer`: it replaces what was told before. */
  settle({
    kinds,
    revision,
    told,
    isAnswer,
  }: {
    readonly kinds: readonly string[];
    readonly revision: bigint;
    readonly told: readonly bigint[];
    readonly isAnswer: boolean;
  }): void {
    this.#frozen.clear();
    if (isAnswer) {
      this.#told = new Map();
      this.#toldAt = new Map();
      // Until a heartbeat says how far it is.
      this.#reached = kinds.map(() => 0n);
    }
    this.#kinds = kinds;
    for (const [i, version] of told.entries()) {
      const kind = kinds[i];
      if (kind === undefined || version <= (this.#told.get(kind) ?? 0n)) continue;
      this.#told.set(kind, version);
      this.#toldAt.set(kind, revision);
      if (version > (this.#reached[i] ?? 0n)) this.#reached[i] = version;
    }
  }

  /** A heartbeat told how far the parent is. It is as true of this table only when nothing was on its way. */
  reach(reached: readonly bigint[]): void {
    this.#reached = this.#kinds.map((_, i) => reached[i] ?? 0n);
  }

  toldSince(revision: bigint): readonly bigint[] {
    let told = this.#frozen.get(revision);
    if (told === undefined) {
      told = this.#kinds.map((kind) => ((this.#toldAt.get(kind) ?? 0n) >= revision ? (this.#told.get(kind) ?? 0n) : 0n));
      if (told.every((version) => version === 0n)) told = [];
      this.#frozen.set(revision, told);
    }
    return told;
  }

  olderThan(agent: readonly UpstreamPosition[]): { readonly kind: string; readonly has: bigint } | undefined {
    return firstOlder(agent, (kind) => this.#reached[this.#kinds.indexOf(kind)]);
  }
}

/** 0n: not a version that can be compared. */
function numberOf(version: string | undefined): bigint {
  return version !== undefined && DECIMAL.test(version) ? BigInt(version) : 0n;
}
