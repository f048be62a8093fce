/** The way to the server: one channel, unary calls as promises, server streams as async iterables. */
import { readFileSync } from "node:fs";
import { type ChannelCredentials, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { ConfigError } from "../runtime/config.ts";
import { IntrospectionServiceClient } from "../wire/gen/sedge/sync/v1/introspection.ts";
import { SERVER_NAME, verifyServer } from "../wire/server-identity.ts";
import { callProblem } from "./call-problem.ts";
import type { CtlConfig } from "./config.ts";

/** A call that did not work, with what to do about it. */
export class CallError extends Error {
  readonly code: string;

  constructor({ server, tlsCert }: Pick<CtlConfig, "server" | "tlsCert">, cause: ServiceError) {
    super(callProblem({ server, code: cause.code, details: cause.details || cause.message, isTls: tlsCert !== undefined }), { cause });
    this.name = "CallError";
    this.code = status[cause.code] ?? "UNKNOWN";
  }
}

export class Connection {
  readonly client: IntrospectionServiceClient;
  readonly metadata = new Metadata();
  readonly #config: CtlConfig;

  constructor(config: CtlConfig) {
    this.#config = config;
    this.client = new IntrospectionServiceClient(config.server, channelCredentials(config), {
      "grpc.max_receive_message_length": -1,
      "grpc.ssl_target_name_override": SERVER_NAME,
    });
  }

  get deadline(): { deadline: number } {
    return { deadline: Date.now() + this.#config.timeoutMs };
  }

  /** Turns a callback-style unary call into a promise; rejects with CallError. */
  call<T>(start: (callback: (error: ServiceError | null, response: T) => void) => unknown): Promise<T> {
    return new Promise((resolve, reject) => {
      start((error, response) => (error === null ? resolve(response) : reject(new CallError(this.#config, error))));
    });
  }

  /** Messages of a server stream in order; throws CallError when it breaks. */
  async *messages<T>(stream: AsyncIterable<T>): AsyncGenerator<T> {
    try {
      for await (const message of stream) yield message;
    } catch (error) {
      if (error instanceof Error && "code" in error && typeof error.code === "number") throw new CallError(this.#config, error as ServiceError);
      throw error;
    }
  }

  close(): void {
    this.client.close();
  }
}

function channelCredentials({ server, tlsCert, tlsKey, tlsCa }: CtlConfig): ChannelCredentials {
  if (tlsCert === undefined && tlsKey === undefined && tlsCa === undefined) return credentials.createInsecure();
  if (tlsCert === undefined || tlsKey === undefined || tlsCa === undefined)
    throw new ConfigError(["--tls-cert, --tls-key and --tls-ca go together: give all three"]);
  const read = (flag: string, file: string): Buffer => {
    try {
      return readFileSync(file);
    } catch (error) {
      throw new ConfigError([`${flag} ${file}: ${error instanceof Error ? error.message : String(error)}`]);
    }
  };
  const [ca, key, cert] = [read("--tls-ca", tlsCa), read("--tls-key", tlsKey), read("--tls-cert", tlsCert)];
  try {
    return credentials.createSsl(ca, key, cert, verifyServer(server));
  } catch (error) {
    throw new ConfigError([
      `--tls-cert ${tlsCert}, --tls-key ${tlsKey}: no certificate and key in PEM that fit (${error instanceof Error ? error.message : String(error)})`,
    ]);
  }
}
