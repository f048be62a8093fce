/**
 * Connections to a fan-out server: credentials, channel options, and what an error of gRPC means for the next try.
 *
 * A client is made for each session and closed with it: certificates are read anew each time, and the library's own reconnecting, with back-off of
 * its own, does not run beside ours.
 */
import { readFile } from "node:fs/promises";
import { type ChannelCredentials, credentials, type Metadata, status } from "@grpc/grpc-js";
import { SERVER_NAME, verifyServer } from "./server-identity.ts";
import { RawRelayClient, RawSyncClient, type RawSyncStream } from "./service.ts";

export type SyncConnection = InstanceType<typeof RawSyncClient>;

/** A relay's connection to its parent: the stream, and the calls that it passes on. */
export type RelayConnection = InstanceType<typeof RawRelayClient> & { openRelay(metadata: Metadata): RawSyncStream };

export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

/** Messages are at most 1 MiB, or as large as their one record; a message above this is a fault. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** `tls` undefined: plain text. `given`: "host:port" by whose host the certificate is judged, when it names one. Rejects when a file cannot be read. */
export async function connect(address: string, tls: TlsFiles | undefined, given = address): Promise<SyncConnection> {
  return new RawSyncClient(address, tls === undefined ? credentials.createInsecure() : await tlsCredentials(given, tls), CHANNEL_OPTIONS);
}

/** As `connect`, for a relay. */
export async function connectRelay(address: string, tls: TlsFiles | undefined): Promise<RelayConnection> {
  const client = new RawRelayClient(address, tls === undefined ? credentials.createInsecure() : await tlsCredentials(address, tls), CHANNEL_OPTIONS);
  return Object.assign(client, {
    openRelay: (metadata: Metadata) => (client["relay"] as (metadata: Metadata) => RawSyncStream).call(client, metadata),
  });
}

const CHANNEL_OPTIONS = {
  "grpc.ssl_target_name_override": SERVER_NAME,
  "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
  "grpc.use_local_subchannel_pool": 1,
  "grpc.service_config_disable_resolution": 1,
  "grpc.enable_retries": 0,
  "grpc.initial_reconnect_backoff_ms": 200,
  // A peer whose machine is gone sends no reset.
  "grpc.keepalive_time_ms": 20_000,
  "grpc.keepalive_timeout_ms": 10_000,
};

async function tlsCredentials(given: string, { cert, key, ca }: TlsFiles): Promise<ChannelCredentials> {
  const [caPem, keyPem, certPem] = await Promise.all([readFile(ca), readFile(key), readFile(cert)]);
  return credentials.createSsl(caPem, keyPem, certPem, verifyServer(given));
}

export interface SessionFailure {
  /** "UNAVAILABLE", …; "CONNECT" when not even a call was made, as for a certificate that cannot be read. */
  readonly code: string;
  readonly detail: string;
  /** What the server asks us to wait (trailer `retry-after-ms`). */
  readonly retryAfterMs: number;
  /** Trying again soon cannot help: another version, another identity. */
  readonly isLasting: boolean;
}

const LASTING: readonly number[] = [status.FAILED_PRECONDITION, status.UNAUTHENTICATED, status.PERMISSION_DENIED, status.UNIMPLEMENTED];

export function failureOf(error: unknown): SessionFailure {
  const { code, details, metadata, message } = error as { code?: unknown; details?: string; metadata?: Metadata; message?: string };
  if (typeof code !== "number") return { code: "CONNECT", detail: message ?? String(error), retryAfterMs: 0, isLasting: false };
  const asked = Number(metadata?.get("retry-after-ms")[0] ?? 0);
  return {
    code: status[code] ?? String(code),
    detail: details ?? message ?? "",
    retryAfterMs: Number.isFinite(asked) && asked > 0 ? Math.min(asked, 300_000) : 0,
    isLasting: LASTING.includes(code),
  };
}
