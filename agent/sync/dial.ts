/**
 * Making the connection to one server, apart from using it: so that an agent has the next connection before it leaves the one that it has, and can try a second
 * server while the first does not answer.
 */
import { lookup } from "node:dns/promises";
import { readFile } from "node:fs/promises";
import { connectivityState, Metadata } from "@grpc/grpc-js";
import { connect, failureOf, type SessionFailure, type SyncConnection, type TlsFiles } from "../../src/wire/sync-connection.ts";
import type { Candidate } from "./server-book.ts";
import { hostOf } from "./server-book.ts";

/** A record stream as a session uses it. */
export interface SyncStream extends AsyncIterable<unknown> {
  readonly writable: boolean;
  write(bytes: Uint8Array): unknown;
  cancel(): void;
  on(event: "error", listener: (error: unknown) => void): unknown;
}

export interface Dialed {
  readonly address: string;
  /** The record stream; once. */
  open(): SyncStream;
  /** For unary calls. */
  readonly calls: SyncConnection | undefined;
  /** False: another certificate has taken the place of the one with which the connection was made. Rejects when the file cannot be read. */
  isCurrent?(): Promise<boolean>;
  close(): void;
}

/** Rejects with DialError. Aborted: nothing is left open. */
export type Dial = (candidate: Candidate, signal: AbortSignal) => Promise<Dialed>;

export class DialError extends Error {
  readonly failure: SessionFailure;
  /** There was an answer, and it was no: nothing listens there. */
  readonly isRefused: boolean;

  constructor(failure: SessionFailure, options: { readonly isRefused: boolean }) {
    super(failure.detail);
    this.name = "DialError";
    this.failure = failure;
    this.isRefused = options.isRefused;
  }
}

const CONNECT_TIMEOUT_MS = 10_000;
/** For the reason of a connection that has failed already. */
const REASON_TIMEOUT_MS = 1_000;
/** A connection that fails sooner than this was refused; a peer that is away is silent. */
const REFUSED_WITHIN_MS = 500;

export function dialer(tls: TlsFiles | undefined): Dial {
  return async ({ address, given }, signal) => {
    const startedAt = performance.now();
    let connection: SyncConnection;
    let certificate: Buffer | undefined;
    try {
      certificate = tls === undefined ? undefined : await readFile(tls.cert);
      connection = await connect(address, tls, given);
    } catch (error) {
      throw new DialError(failureOf(error), { isRefused: false });
    }
    try {
      if (!(await becomesReady(connection, signal))) {
        const isRefused = performance.now() - startedAt < REFUSED_WITHIN_MS;
        throw new DialError(signal.aborted ? ABORTED : await reasonOf(connection), { isRefused });
      }
    } catch (error) {
      connection.close();
      throw error;
    }
    return {
      address,
      open: () => openStream(connection),
      calls: connection,
      isCurrent: async () => tls === undefined || certificate?.equals(await readFile(tls.cert)) === true,
      close: () => connection.close(),
    };
  };
}

/** False: it failed, in time or not. */
async function becomesReady(connection: SyncConnection, signal: AbortSignal): Promise<boolean> {
  const channel = connection.getChannel();
  const deadline = Date.now() + CONNECT_TIMEOUT_MS;
  const aborted = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
  for (;;) {
    const state = channel.getConnectivityState(true);
    if (state === connectivityState.READY) return !signal.aborted;
    if (signal.aborted || Date.now() >= deadline || state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN) return false;
    await Promise.race([aborted, new Promise<void>((resolve) => channel.watchConnectivityState(state, deadline, () => resolve()))]);
  }
}

/** What a call over a connection that has failed fails with. */
function reasonOf(connection: SyncConnection): Promise<SessionFailure> {
  return new Promise((resolve) => {
    const stream = openStream(connection);
    const timer = setTimeout(() => {
      stream.cancel();
      resolve({ code: "UNAVAILABLE", detail: `no connection within ${CONNECT_TIMEOUT_MS} ms`, retryAfterMs: 0, isLasting: false });
    }, REASON_TIMEOUT_MS);
    stream.on("error", (error) => {
      clearTimeout(timer);
      resolve(failureOf(error));
    });
  });
}

function openStream(connection: SyncConnection): SyncStream {
  const open = connection["sync"]?.bind(connection) as ((metadata: Metadata) => SyncStream) | undefined;
  if (open === undefined) throw new TypeError("the client has no method sync");
  return open(new Metadata());
}

/** The addresses "host:port" of a name "host:port", in a stable order. Rejects with the resolver's reason. */
export async function resolveName(given: string): Promise<readonly string[]> {
  const host = hostOf(given);
  if (host === undefined) return [given];
  const port = given.slice(given.lastIndexOf(":"));
  const found = await lookup(host, { all: true });
  return [...new Set(found.map(({ address, family }) => `${family === 6 ? `[${address}]` : address}${port}`))].sort();
}

export const ABORTED: SessionFailure = { code: "ABORTED", detail: "stopping", retryAfterMs: 0, isLasting: false };
