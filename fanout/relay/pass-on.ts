/**
 * Calls that a relay passes on to its parent: claims of its nodes' blocks, and questions that only the root can answer.
 *
 * The relay has checked who asks; the parent trusts a relay for the nodes that it serves and for operators' questions. A call keeps its deadline; without a
 * parent it is refused at once with a retry time.
 */
import {
  type ClientReadableStream,
  Metadata,
  type MethodDefinition,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceError,
  type sendUnaryData,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { SyncServiceService } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { IntrospectionServiceService } from "../../src/wire/service.ts";
import type { RelayConnection } from "../../src/wire/sync-connection.ts";
import type { IdentityOfCall } from "../delivery/grpc-delivery.ts";
import { type Identity, requireOperator, requireReader } from "../identity.ts";
import { CallError, statusOf } from "../status.ts";

/** A call without a deadline of its own gets this one (ms). */
const CALL_TIMEOUT_MS = 10_000;
/** Answers to operators can be large. */
const MAX_PENDING = 256;

type Connection = () => RelayConnection | undefined;
type Method = keyof typeof IntrospectionServiceService;

/** Methods that change something. */
const OPERATORS: ReadonlySet<Method> = new Set<Method>(["setLogLevel", "rebalance"]);

export interface ClaimsUpstream {
  readonly connection: Connection;
  /** Throws CallError("wrong-identity") unless the caller may act for the node. */
  readonly requireNode: (identity: Identity, node: string) => void;
}

/** Every unary call of SyncService; each names the node that it is for. */
export function passOnClaims({ connection, requireNode }: ClaimsUpstream): (identityOf: IdentityOfCall) => UntypedServiceImplementation {
  let pending = 0;
  return (identityOf) => {
    const methods: UntypedServiceImplementation = {};
    const definitions: unknown = SyncServiceService;
    for (const [name, definition] of Object.entries(definitions as Readonly<Record<string, MethodDefinition<NodeRequest, unknown>>>)) {
      if (definition.responseStream) continue;
      methods[name] = (call: ServerUnaryCall<NodeRequest, unknown>, callback: sendUnaryData<unknown>): void => {
        try {
          requireNode(identityOf(call), call.request.node);
          if (pending >= MAX_PENDING) throw new CallError("not-admitted", "too many claims wait for the parent");
        } catch (error) {
          callback(statusOf(error));
          return;
        }
        pending++;
        passOnUnary(connection, definition, call, (error, response) => {
          pending--;
          callback(error, response);
        });
      };
    }
    return methods;
  };
}

interface NodeRequest {
  readonly node: string;
}

/**
 * The introspection service, of which `own` answers what `isOwn` says; the rest goes to the parent. `isOwn` may look at the request (the first argument of
 * the call).
 */
export function passOnQuestions(options: {
  readonly connection: Connection;
  readonly identityOf: IdentityOfCall;
  readonly own: UntypedServiceImplementation;
  readonly isOwn: (method: Method, request: unknown) => boolean;
}): UntypedServiceImplementation {
  const { connection, identityOf, own, isOwn } = options;
  const methods: UntypedServiceImplementation = {};
  for (const [name, definition] of Object.entries(IntrospectionServiceService) as [Method, MethodDefinition<unknown, unknown>][]) {
    const handler = own[name] as ((call: unknown, callback?: unknown) => void) | undefined;
    const check = OPERATORS.has(name) ? requireOperator : requireReader;
    methods[name] = definition.responseStream
      ? (call: ServerWritableStream<unknown, unknown>): void => {
          if (isOwn(name, call.request)) {
            handler?.(call);
            return;
          }
          try {
            check(identityOf(call));
          } catch (error) {
            call.emit("error", statusOf(error));
            return;
          }
          passOnStream(connection, definition, call);
        }
      : (call: ServerUnaryCall<unknown, unknown>, callback: sendUnaryData<unknown>): void => {
          if (isOwn(name, call.request)) {
            handler?.(call, callback);
            return;
          }
          try {
            check(identityOf(call));
          } catch (error) {
            callback(statusOf(error));
            return;
          }
          passOnUnary(connection, definition, call, callback);
        };
  }
  return methods;
}

function passOnUnary<Request>(
  connection: Connection,
  { path, requestSerialize, responseDeserialize }: MethodDefinition<Request, unknown>,
  call: ServerUnaryCall<Request, unknown>,
  callback: sendUnaryData<unknown>,
): void {
  const parent = connection();
  if (parent === undefined) {
    callback(statusOf(new CallError("parent-lost", "this relay has no parent now")));
    return;
  }
  const passed = parent.makeUnaryRequest(
    path,
    requestSerialize,
    responseDeserialize,
    call.request,
    new Metadata(),
    { deadline: deadlineOf(call) },
    (error, response) => {
      if (error === null) callback(null, response);
      else callback(passedStatus(error));
    },
  );
  call.on("cancelled", () => passed.cancel());
}

/** Reads on when the caller has room. */
function passOnStream(
  connection: Connection,
  { path, requestSerialize, responseDeserialize }: MethodDefinition<unknown, unknown>,
  call: ServerWritableStream<unknown, unknown>,
): void {
  const parent = connection();
  if (parent === undefined) {
    call.emit("error", statusOf(new CallError("parent-lost", "this relay has no parent now")));
    return;
  }
  const stream: ClientReadableStream<unknown> = parent.makeServerStreamRequest(path, requestSerialize, responseDeserialize, call.request, new Metadata());
  stream.on("data", (message: unknown) => {
    if (call.write(message)) return;
    stream.pause();
    call.once("drain", () => stream.resume());
  });
  stream.on("error", (error: ServiceError) => call.emit("error", passedStatus(error)));
  stream.on("end", () => call.end());
  const cancel = (): void => stream.cancel();
  call.on("cancelled", cancel);
  call.on("close", cancel);
}

/** The parent's status with its trailers, so that `retry-after-ms` passes through. */
function passedStatus({ code, details, metadata }: ServiceError): { code: number; details: string; metadata: Metadata } {
  return { code, details, metadata };
}

function deadlineOf(call: ServerUnaryCall<unknown, unknown>): number {
  const own = typeof call.getDeadline === "function" ? Number(call.getDeadline()) : Number.POSITIVE_INFINITY;
  return Math.min(own, Date.now() + CALL_TIMEOUT_MS);
}
