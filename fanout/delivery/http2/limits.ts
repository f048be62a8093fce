/**
 * Bounds of one HTTP/2 connection, and what is counted when a peer goes beyond them. Each kind of frame that costs us more than it costs the peer has a
 * budget that refills with time; one that is spent ends the connection with ENHANCE_YOUR_CALM.
 */

export interface Http2Limits {
  /** Connections of one listener; more are closed at once. */
  readonly maxConnections: number;
  /** Connections that have not made a request yet; more are closed at once. */
  readonly maxIdleConnections: number;
  /** From the connection (TLS included: from the end of the handshake) to the peer's SETTINGS. */
  readonly prefaceTimeoutMs: number;
  readonly handshakeTimeoutMs: number;
  /** TLS handshakes at once; the others wait for at most `handshakeTimeoutMs`. See handshakes.ts. */
  readonly handshakesAtOnce: number;
  /** A handshake that takes longer counts no more among them. */
  readonly handshakePlaceMs: number;
  /** A connection without any request for this long is closed. */
  readonly firstRequestTimeoutMs: number;
  /** A call that has ended, and whose last bytes the peer does not take for this long, is reset. An open record stream is never ended for being slow. */
  readonly stallTimeoutMs: number;
  readonly maxStreams: number;
  /** The size of a header list as RFC 9113 counts it: more is answered with 431. */
  readonly maxHeaderListBytes: number;
  /** Of one header block as it is sent, CONTINUATIONs included: more ends the connection. */
  readonly maxHeaderBlockBytes: number;
  readonly maxContinuations: number;
  /** Window of a stream, and what a call that is not read holds. */
  readonly streamWindowBytes: number;
  readonly connectionWindowBytes: number;
  /** Largest message of a client. */
  readonly maxMessageBytes: number;
  /** Incomplete messages of all calls of a connection. */
  readonly maxBufferedBytes: number;
  /** Answers to pings and settings that the peer does not read. */
  readonly maxControlBacklogBytes: number;
}

export const HTTP2_LIMITS: Http2Limits = {
  maxConnections: 50_000,
  maxIdleConnections: 20_000,
  prefaceTimeoutMs: 10_000,
  handshakeTimeoutMs: 10_000,
  handshakesAtOnce: 4,
  handshakePlaceMs: 1_000,
  firstRequestTimeoutMs: 30_000,
  stallTimeoutMs: 30_000,
  maxStreams: 100,
  maxHeaderListBytes: 16 * 1024,
  maxHeaderBlockBytes: 32 * 1024,
  maxContinuations: 16,
  streamWindowBytes: 65_535,
  connectionWindowBytes: 1024 * 1024,
  maxMessageBytes: 1024 * 1024,
  maxBufferedBytes: 4 * 1024 * 1024,
  maxControlBacklogBytes: 64 * 1024,
};

/** Why a peer was refused or cut; the closed set of the metric's labels. */
export const ABUSES = [
  "rapid-reset",
  "continuation-flood",
  "settings-flood",
  "ping-flood",
  "window-flood",
  "priority-flood",
  "empty-frames",
  "header-bomb",
  "zero-window",
  "handshake-timeout",
  "slow-preface",
  "no-request",
  "too-many-streams",
  "too-many-connections",
  "too-much-buffered",
  "control-backlog",
  "protocol-error",
  "dead",
] as const;
export type Abuse = (typeof ABUSES)[number];

/** Kinds of frames with a budget. */
export type Budgeted = "rapid-reset" | "settings-flood" | "ping-flood" | "window-flood" | "priority-flood" | "empty-frames" | "too-many-streams";

/** At once; and refilled per second. A client that updates its window at each DATA frame is far below. */
const BUDGETS: Readonly<Record<Budgeted, { readonly burst: number; readonly perSecond: number }>> = {
  "rapid-reset": { burst: 200, perSecond: 20 },
  "settings-flood": { burst: 50, perSecond: 1 },
  "ping-flood": { burst: 100, perSecond: 10 },
  "window-flood": { burst: 20_000, perSecond: 5_000 },
  "priority-flood": { burst: 500, perSecond: 10 },
  "empty-frames": { burst: 200, perSecond: 10 },
  "too-many-streams": { burst: 200, perSecond: 20 },
};

/** Of one connection; made when the first frame with a budget comes. */
export class Budgets {
  readonly #spent = new Map<Budgeted, { amount: number; at: number }>();

  /** False: the budget is spent. `now`: monotonic ms. */
  spend(kind: Budgeted, now: number): boolean {
    const { burst, perSecond } = BUDGETS[kind];
    const spent = this.#spent.get(kind);
    if (spent === undefined) {
      this.#spent.set(kind, { amount: 1, at: now });
      return true;
    }
    spent.amount = Math.max(0, spent.amount - ((now - spent.at) / 1000) * perSecond) + 1;
    spent.at = now;
    return spent.amount <= burst;
  }
}
