/**
 * How much one node may ask in a time: token buckets by the name in its certificate, so that a node that misbehaves is refused, with when to come again, and no
 * other feels it.
 *
 * The limits stand far above what an agent does in its worst minute. Who comes over the loopback listener without identity is not limited. Memory is bounded:
 * a bucket that is full again is as none, so the oldest can be forgotten. Rejected: limits by address (nodes behind one address are not one node).
 */
import { LRUCache } from "lru-cache";
import { describeIdentity, type Identity } from "./identity.ts";
import { CallError } from "./status.ts";

export const LIMITED = ["streams", "claims", "reports"] as const;
export type Limited = (typeof LIMITED)[number];

export interface Rate {
  /** At once. */
  readonly burst: number;
  readonly perSecond: number;
}

export type IdentityRates = Readonly<Record<Limited, Rate>>;

/** streams: connections that say Hello. claims: calls about blocks and addresses. reports: EndpointReports. */
export const IDENTITY_RATES: IdentityRates = {
  streams: { burst: 20, perSecond: 1 },
  claims: { burst: 100, perSecond: 10 },
  reports: { burst: 500, perSecond: 100 },
};

const MAX_REMEMBERED = 50_000;

export class IdentityLimits {
  readonly #rates: IdentityRates;
  readonly #now: () => number;
  readonly #onRefused: (what: Limited) => void;
  readonly #buckets = new LRUCache<string, { tokens: number; at: number }>({ max: MAX_REMEMBERED });

  /** `now`: monotonic ms. */
  constructor(options: { readonly now: () => number; readonly rates?: Partial<IdentityRates>; readonly onRefused?: (what: Limited) => void }) {
    this.#now = options.now;
    this.#rates = { ...IDENTITY_RATES, ...options.rates };
    this.#onRefused = options.onRefused ?? (() => undefined);
  }

  /** Undefined: it may. Otherwise why not, and when again: "too-many-streams" or "too-many-calls". */
  refusal(what: Limited, identity: Identity): CallError | undefined {
    if (identity.kind !== "node") return undefined;
    const { burst, perSecond } = this.#rates[what];
    const key = `${what} ${identity.node}`;
    const now = this.#now();
    const before = this.#buckets.get(key) ?? { tokens: burst, at: now };
    const tokens = Math.min(burst, before.tokens + ((now - before.at) * perSecond) / 1_000);
    const isAllowed = tokens >= 1;
    this.#buckets.set(key, { tokens: isAllowed ? tokens - 1 : tokens, at: now });
    if (isAllowed) return undefined;
    this.#onRefused(what);
    return new CallError(
      what === "streams" ? "too-many-streams" : "too-many-calls",
      `${describeIdentity(identity)}: more than ${perSecond} ${what} a second (${burst} at once)`,
      {
        retryAfterMs: Math.max(100, ((1 - tokens) * 1_000) / perSecond),
      },
    );
  }
}
