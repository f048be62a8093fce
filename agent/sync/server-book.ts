/**
 * The servers that an agent knows, in the order in which it wants them, and what it remembers of each: which failed, and until when it waits.
 *
 * Two sources: the addresses that it was given (names among them, which can stand for many), and the list that a server told it. The told list comes first,
 * ranked as the servers rank it (src/wire/rendezvous.ts); the given ones stand behind it, so that an agent whose list is old still finds the way. Given
 * servers alone are ranked the same way, or kept in their order when the owner says so.
 * Invariant: a server that failed delays only itself; only when all have failed is there a wait. Pure: time and chance come in.
 */
import type { ServerList } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { rankServers } from "../../src/wire/rendezvous.ts";

export interface KnownServer {
  readonly addresses: readonly string[];
  readonly name: string;
  readonly isNear: boolean;
}

/** One address to try. `given`: the setting that it stands for, against whose host name the certificate is judged. */
export interface Candidate {
  readonly address: string;
  readonly identity: string;
  readonly given: string;
}

export interface ServerBookOptions {
  readonly node: string;
  /** "host:port" or "unix:/path", as in the settings. */
  readonly given: readonly string[];
  /** spread: ranked by hash. listed: in their order, before what a server tells. */
  readonly order: "spread" | "listed";
  readonly random?: () => number;
}

/** How a try ended. */
export interface Failure {
  /** What the server asks us to wait. */
  readonly retryAfterMs: number;
  /** Trying again soon cannot help. */
  readonly isLasting: boolean;
  /** Nothing listens there: the question costs nobody anything. */
  readonly isRefused: boolean;
}

interface Memory {
  tries: number;
  notBefore: number;
  failedAt: number;
}

const MAX_TOLD = 256;
const MAX_ADDRESSES = 4;
const MAX_REMEMBERED = 2_048;
const FIRST_DELAY_MS = 200;
/** A machine that answers with a reset is up: its server may be there any moment, and must not wait for agents. */
const REFUSED_MAX_MS = 1_500;
const FAILED_MAX_MS = 15_000;
const LASTING_MS = 30_000;
const HOST_AND_PORT = /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):\d{1,5}$/;

export class ServerBook {
  readonly #options: ServerBookOptions;
  readonly #random: () => number;
  readonly #memory = new Map<string, Memory>();
  readonly #resolved = new Map<string, readonly string[]>();
  #told: readonly KnownServer[] = [];
  #candidates: readonly Candidate[];

  constructor(options: ServerBookOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#candidates = this.#rank();
  }

  /** Best first; an address is there once. */
  get candidates(): readonly Candidate[] {
    return this.#candidates;
  }

  /** What a server told; empty: nothing. */
  get told(): readonly KnownServer[] {
    return this.#told;
  }

  /** Given names that stand for addresses which are to be looked up. */
  get names(): readonly string[] {
    return this.#options.given.filter((address) => hostOf(address) !== undefined);
  }

  /** The list as a server tells it, instead of the one before. What is no address is left out. */
  tell(servers: readonly KnownServer[]): void {
    this.#told = servers
      .slice(0, MAX_TOLD)
      .map((server) => ({ ...server, addresses: server.addresses.filter((address) => HOST_AND_PORT.test(address)).slice(0, MAX_ADDRESSES) }))
      .filter(({ addresses }) => addresses.length > 0);
    this.#candidates = this.#rank();
  }

  /** What a given name stands for; empty: not known, the name itself is tried. */
  resolve(given: string, addresses: readonly string[]): void {
    this.#resolved.set(given, addresses.slice(0, MAX_TOLD));
    this.#candidates = this.#rank();
  }

  /** The best that may be tried at `now`; undefined: none. */
  next(now: number, except: ReadonlySet<string> = new Set()): Candidate | undefined {
    return this.#candidates.find(({ address }) => !except.has(address) && (this.#memory.get(address)?.notBefore ?? 0) <= now);
  }

  /** Until one may be tried (ms); 0: one may be. */
  waitMs(now: number, except: ReadonlySet<string> = new Set()): number {
    const times = this.#candidates.filter(({ address }) => !except.has(address)).map(({ address }) => this.#memory.get(address)?.notBefore ?? 0);
    return times.length === 0 ? FAILED_MAX_MS : Math.max(0, Math.min(...times) - now);
  }

  /** The first choice, when it is not the server at `address` and has not failed for `healthyMs`; undefined otherwise. */
  better(address: string, { now, healthyMs }: { readonly now: number; readonly healthyMs: number }): Candidate | undefined {
    const [first] = this.#candidates;
    const present = this.#candidates.find((candidate) => candidate.address === address);
    if (first === undefined || first.identity === present?.identity) return undefined;
    const failedAt = this.#memory.get(first.address)?.failedAt;
    return failedAt !== undefined && now - failedAt < healthyMs ? undefined : first;
  }

  worked(address: string): void {
    const memory = this.#memory.get(address);
    if (memory !== undefined) this.#memory.set(address, { ...memory, tries: 0, notBefore: 0 });
  }

  failed(address: string, now: number, { retryAfterMs, isLasting, isRefused }: Failure): void {
    const tries = (this.#memory.get(address)?.tries ?? 0) + 1;
    const ceiling = Math.min(isRefused ? REFUSED_MAX_MS : FAILED_MAX_MS, FIRST_DELAY_MS * 2 ** Math.min(tries - 1, 20));
    const own = ceiling / 2 + (ceiling / 2) * this.#random();
    const asked = isLasting ? Math.max(LASTING_MS, retryAfterMs) : retryAfterMs;
    const delay = Math.max(own, asked + Math.min(asked, ceiling) * 0.5 * this.#random());
    this.#memory.delete(address);
    this.#memory.set(address, { tries, notBefore: now + delay, failedAt: now });
    for (const [oldest] of this.#memory) if (this.#memory.size > MAX_REMEMBERED) this.#memory.delete(oldest);
  }

  #rank(): readonly Candidate[] {
    const { node, given, order } = this.#options;
    const told = rankServers(
      node,
      this.#told.map((server) => ({ identity: server.addresses[0] ?? "", isNear: server.isNear, server })),
    ).flatMap(({ identity, server }) => server.addresses.map((address) => ({ address, identity, given: address })));
    const seeds = given.flatMap((setting) => {
      const addresses = this.#resolved.get(setting) ?? [];
      return (addresses.length === 0 ? [setting] : addresses).map((address) => ({ address, identity: address, isNear: false, given: setting }));
    });
    const ranked = (order === "listed" ? seeds : rankServers(node, seeds)).map(({ address, identity, given: setting }) => ({
      address,
      identity,
      given: setting,
    }));
    const all = order === "listed" ? [...ranked, ...told] : [...told, ...ranked];
    const seen = new Set<string>();
    return all.filter(({ address }) => !seen.has(address) && seen.add(address));
  }
}

export function knownServers({ servers }: ServerList): readonly KnownServer[] {
  return servers.map(({ addresses, name, near }) => ({ addresses, name, isNear: near }));
}

/** The name in "name:port"; undefined for an address, which needs no look-up. */
export function hostOf(address: string): string | undefined {
  if (address.startsWith("unix:") || address.startsWith("[")) return undefined;
  const host = address.slice(0, address.lastIndexOf(":"));
  return /^\d+(\.\d+){3}$/.test(host) ? undefined : host;
}
