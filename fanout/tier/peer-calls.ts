/**
 * What one server asks another: the introspection service, with its own certificate, one connection for each server that is in the list.
 *
 * A call has a deadline and is never repeated here: who collects takes what comes in time and names who did not answer.
 */
import { readFileSync } from "node:fs";
import { type ChannelCredentials, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import type { RecordKey } from "../../src/model/record.ts";
import type { GetLagResponse, GetObjectStatusesResponse, GetObjectStatusRequest, ReplicaReport } from "../../src/wire/gen/sedge/sync/v1/introspection.ts";
import { SERVER_NAME, verifyServer } from "../../src/wire/server-identity.ts";
import { IntrospectionServiceClient } from "../../src/wire/service.ts";
import type { TlsFiles } from "../delivery/certificate-files.ts";
import type { LagReport } from "../policy-status/lag.ts";
import { lagReport } from "../services/policy-status-messages.ts";

/** What is asked of another server; an implementation in memory stands for it in tests. */
export interface Peer {
  report(deadlineMs: number): Promise<ReplicaReport>;
  objectStatuses(objects: readonly GetObjectStatusRequest[], deadlineMs: number): Promise<GetObjectStatusesResponse>;
  /** With a record key, of that policy alone. */
  lag(policy: RecordKey | undefined, deadlineMs: number): Promise<LagReport>;
  close(): void;
}

/** `tls` undefined: plain text, between servers of one machine. */
export function connectPeer(address: string, tls: TlsFiles | undefined): Peer {
  const client = new IntrospectionServiceClient(address, credentialsOf(address, tls), {
    "grpc.ssl_target_name_override": SERVER_NAME,
    "grpc.max_receive_message_length": 64 * 1024 * 1024,
    "grpc.use_local_subchannel_pool": 1,
    "grpc.service_config_disable_resolution": 1,
    "grpc.enable_retries": 0,
  });
  const call = <T>(
    deadlineMs: number,
    start: (options: { deadline: number }, done: (error: ServiceError | null, response: T) => void) => unknown,
  ): Promise<T> =>
    new Promise((resolve, reject) => {
      start({ deadline: Date.now() + deadlineMs }, (error, response) => (error === null ? resolve(response) : reject(error)));
    });
  return {
    report: (deadlineMs) => call<ReplicaReport>(deadlineMs, (options, done) => client.getReplicaReport({}, new Metadata(), options, done)),
    objectStatuses: (objects, deadlineMs) =>
      call<GetObjectStatusesResponse>(deadlineMs, (options, done) => client.getObjectStatuses({ objects: [...objects] }, new Metadata(), options, done)),
    lag: async (policy = "", deadlineMs) =>
      lagReport(await call<GetLagResponse>(deadlineMs, (options, done) => client.getLag({ policy }, new Metadata(), options, done))),
    close: () => client.close(),
  };
}

function credentialsOf(address: string, tls: TlsFiles | undefined): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  return credentials.createSsl(readFileSync(tls.ca), readFileSync(tls.key), readFileSync(tls.cert), verifyServer(address));
}
