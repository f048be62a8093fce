/** What the demo asks the fan-out server: is everyone level, and since when is a policy in force. */
import { credentials, Metadata, status } from "@grpc/grpc-js";
import { type GetObjectStatusResponse, type GetStatusResponse, IntrospectionServiceClient, type RecordEntry } from "../wire/gen/sedge/sync/v1/introspection.ts";
import { poll } from "./cluster.ts";

export class ServerView {
  readonly #client: IntrospectionServiceClient;
  readonly #metadata = new Metadata();

  constructor(address: string) {
    this.#client = new IntrospectionServiceClient(address, credentials.createInsecure());
  }

  close(): void {
    this.#client.close();
  }

  status(): Promise<GetStatusResponse> {
    return new Promise((resolve, reject) => {
      this.#client.getStatus({}, this.#metadata, deadline(), (error, response) => (error === null ? resolve(response) : reject(error)));
    });
  }

  /** Undefined while the server does not know the object. */
  objectStatus(namespace: string, name: string): Promise<GetObjectStatusResponse | undefined> {
    return new Promise((resolve, reject) => {
      this.#client.getObjectStatus({ kind: "NetworkPolicy", namespace, name }, this.#metadata, deadline(), (error, response) => {
        if (error === null) resolve(response);
        else if (error.code === status.NOT_FOUND) resolve(undefined);
        else reject(error);
      });
    });
  }

  async records(keyPrefix: string): Promise<RecordEntry[]> {
    const entries: RecordEntry[] = [];
    for await (const entry of this.#client.listRecords({ node: "", keyPrefix }, this.#metadata, deadline()) as AsyncIterable<RecordEntry>) entries.push(entry);
    return entries;
  }

  /** Resolves when the server is in sync. */
  async waitUntilServing(): Promise<void> {
    await poll("the fan-out server is in sync with the API", 30_000, async () => {
      try {
        return (await this.status()).syncStatus === "in-sync";
      } catch {
        return false;
      }
    });
  }

  /** Resolves when all `clients` agents are connected and have everything in force that the server has for them. */
  async waitUntilLevel(clients: number): Promise<void> {
    await poll(`${clients} agents have everything in force`, 30_000, async () => {
      const now = await this.status();
      return now.clients === clients && now.clientsLevel === clients;
    });
  }

  /** Resolves to when (ms since 1970) the object at that resourceVersion was in force on the last of its nodes. */
  async waitUntilInForce(namespace: string, name: string, resourceVersion: string): Promise<{ at: number; nodes: number }> {
    let found: GetObjectStatusResponse | undefined;
    await poll(`NetworkPolicy ${namespace}/${name} is in force`, 15_000, async () => {
      found = await this.objectStatus(namespace, name);
      return found !== undefined && found.resourceVersion === resourceVersion && found.nodesProgrammed === found.nodes && found.programmedAtUnixUs > 0n;
    });
    return { at: Number(found?.programmedAtUnixUs ?? 0n) / 1000, nodes: found?.nodes ?? 0 };
  }
}

function deadline(): { deadline: number } {
  return { deadline: Date.now() + 5000 };
}
