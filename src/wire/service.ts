/**
 * The gRPC services as both ends use them. On the record stream both directions are bytes: the server splices encoded records, the agent keeps them,
 * and a message that cannot be decoded is answered by the session (INVALID_ARGUMENT), not by the library. Unary calls use the generated code.
 */
import {
  type ClientDuplexStream,
  type handleBidiStreamingCall,
  type handleUnaryCall,
  type MethodDefinition,
  makeGenericClientConstructor,
  type ServiceDefinition,
} from "@grpc/grpc-js";
import { RelayServiceService } from "./gen/sedge/sync/v1/relay.ts";
import {
  type ClaimBlockRequest,
  type ClaimBlockResponse,
  type ListBlocksRequest,
  type ListBlocksResponse,
  type ReleaseBlockRequest,
  type ReleaseBlockResponse,
  SyncServiceService,
} from "./gen/sedge/sync/v1/sync.ts";

export { IntrospectionServiceClient, type IntrospectionServiceServer, IntrospectionServiceService } from "./gen/sedge/sync/v1/introspection.ts";
export { SyncServiceClient } from "./gen/sedge/sync/v1/sync.ts";

const asBuffer = (bytes: Uint8Array): Buffer => (Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));

const rawSync: MethodDefinition<Uint8Array, Uint8Array> = {
  path: SyncServiceService.sync.path,
  requestStream: true,
  responseStream: true,
  requestSerialize: asBuffer,
  requestDeserialize: (bytes: Buffer) => bytes,
  responseSerialize: asBuffer,
  responseDeserialize: (bytes: Buffer) => bytes,
};

/** SyncService with `sync` as bytes in both directions (AgentMessage up, ServerMessage down). */
export const RawSyncService = {
  sync: rawSync,
  claimBlock: SyncServiceService.claimBlock,
  listBlocks: SyncServiceService.listBlocks,
  releaseBlock: SyncServiceService.releaseBlock,
} as const satisfies ServiceDefinition;

/** RelayService with `relay` as bytes in both directions (RelayMessage up, RelayServerMessage down). */
export const RawRelayService = { relay: { ...rawSync, path: RelayServiceService.relay.path } } as const satisfies ServiceDefinition;

/** Client of `RawRelayService`; other calls of the parent go over its channel too (`makeUnaryRequest`). */
export const RawRelayClient = makeGenericClientConstructor(RawRelayService, "sedge.sync.v1.RelayService");

export interface RawSyncServer {
  readonly sync: handleBidiStreamingCall<Uint8Array, Uint8Array>;
  readonly claimBlock: handleUnaryCall<ClaimBlockRequest, ClaimBlockResponse>;
  readonly listBlocks: handleUnaryCall<ListBlocksRequest, ListBlocksResponse>;
  readonly releaseBlock: handleUnaryCall<ReleaseBlockRequest, ReleaseBlockResponse>;
}

/** Client of `RawSyncService`: `new RawSyncClient(address, credentials, options).sync(metadata)`; the unary calls as in the generated SyncServiceClient. */
export const RawSyncClient = makeGenericClientConstructor(RawSyncService, "sedge.sync.v1.SyncService");

/** The record stream as an agent holds it. */
export type RawSyncStream = ClientDuplexStream<Uint8Array, Uint8Array>;
