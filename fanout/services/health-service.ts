/** grpc.health.v1.Health: SERVING when ready, for the server as a whole ("") and for each of its services. */
import {
  type MethodDefinition,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { decodeHealthCheckRequest, encodeHealthCheckResponse, type ServingStatus } from "./standard-codecs.ts";

interface Request {
  readonly service: string;
}

const method = (name: string, responseStream: boolean): MethodDefinition<Request, ServingStatus> => ({
  path: `/grpc.health.v1.Health/${name}`,
  requestStream: false,
  responseStream,
  requestSerialize: () => Buffer.alloc(0),
  requestDeserialize: decodeHealthCheckRequest,
  responseSerialize: encodeHealthCheckResponse,
  responseDeserialize: () => "unknown",
});

export const HEALTH_SERVICE = { Check: method("Check", false), Watch: method("Watch", true) };

export class HealthService {
  readonly #services: ReadonlySet<string>;
  readonly #watchers = new Set<{ readonly isKnown: boolean; readonly call: ServerWritableStream<Request, ServingStatus> }>();
  #isServing = false;

  /** `services`: full names, such as "sedge.sync.v1.SyncService". */
  constructor(services: readonly string[]) {
    this.#services = new Set(["", ...services]);
  }

  set(isServing: boolean): void {
    if (isServing === this.#isServing) return;
    this.#isServing = isServing;
    for (const { isKnown, call } of this.#watchers) if (isKnown) call.write(this.#status);
  }

  implementation(): UntypedServiceImplementation {
    return {
      Check: (call: ServerUnaryCall<Request, ServingStatus>, callback: sendUnaryData<ServingStatus>) => {
        if (this.#services.has(call.request.service)) callback(null, this.#status);
        else callback({ code: status.NOT_FOUND, details: `no service ${JSON.stringify(call.request.service)} here` });
      },
      // An unknown service is watched, not refused: it could come (health-checking.md).
      Watch: (call: ServerWritableStream<Request, ServingStatus>) => {
        const isKnown = this.#services.has(call.request.service);
        const watcher = { isKnown, call };
        this.#watchers.add(watcher);
        call.on("close", () => this.#watchers.delete(watcher));
        call.on("cancelled", () => this.#watchers.delete(watcher));
        call.write(isKnown ? this.#status : "service-unknown");
      },
    };
  }

  /** Ends all watches, so that the server can stop. */
  close(): void {
    for (const { call } of this.#watchers) call.end();
    this.#watchers.clear();
  }

  get #status(): ServingStatus {
    return this.#isServing ? "serving" : "not-serving";
  }
}
