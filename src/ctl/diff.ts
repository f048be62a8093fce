/**
 * `sedge diff NODE --socket PATH`, on the node: the server's view of the node against the agent's, record by record.
 *
 * Both are read one after the other, so what changes meanwhile shows as a difference: a difference counts when it is still there at a second look.
 * What the kernel has against what the agent wants is the agent's own comparison; its failures are told with it.
 */
import type { RecordEntry } from "../wire/gen/sedge/sync/v1/introspection.ts";
import { callAgent } from "./agent-socket.ts";
import type { CtlConfig } from "./config.ts";
import type { Connection } from "./connection.ts";
import { json, print } from "./output.ts";

const DEFAULT_SOCKET = "/run/sedge/agent.sock";
const SECOND_LOOK_MS = 500;

export interface ViewDifference {
  readonly key: string;
  readonly what: "only the server has it" | "only the agent has it" | "they have different contents";
}

/** Exit code 0: the same; 1: not. */
export async function diffCommand(connection: Connection, config: CtlConfig, [node]: readonly string[]): Promise<number> {
  if (node === undefined) {
    process.stderr.write(`usage: sedge diff NODE [--socket ${DEFAULT_SOCKET}]   (on the node, as who may open the socket)\n`);
    return 2;
  }
  const socketPath = config.socket ?? DEFAULT_SOCKET;
  const look = async (): Promise<readonly ViewDifference[]> => {
    const [server, agent] = [await serverHashes(connection, node), await agentHashes(socketPath, config.timeoutMs)];
    return differences(server, agent);
  };
  let found = await look();
  if (found.length > 0) {
    await new Promise((resolve) => setTimeout(resolve, SECOND_LOOK_MS));
    const again = new Set((await look()).map(({ key }) => key));
    found = found.filter(({ key }) => again.has(key));
  }
  const status = await callAgent({ socketPath, timeoutMs: config.timeoutMs, path: "/v1/status" });
  if (config.output === "json") print(json({ node, differences: found, agent: status }));
  else {
    print(found.length === 0 ? `${node}: server and agent have the same view\n` : `${found.map(({ key, what }) => `${key}: ${what}`).join("\n")}\n`);
    print(`agent and kernel: ${json(kernelPart(status), 0)}\n`);
  }
  return found.length === 0 ? 0 : 1;
}

/** Sorted by key. */
export function differences(server: ReadonlyMap<string, string>, agent: ReadonlyMap<string, string>): readonly ViewDifference[] {
  const found: ViewDifference[] = [];
  for (const [key, hash] of server) {
    const other = agent.get(key);
    if (other !== hash) found.push({ key, what: other === undefined ? "only the server has it" : "they have different contents" });
  }
  for (const key of agent.keys()) if (!server.has(key)) found.push({ key, what: "only the agent has it" });
  return found.sort((a, b) => (a.key < b.key ? -1 : 1));
}

async function serverHashes(connection: Connection, node: string): Promise<ReadonlyMap<string, string>> {
  const hashes = new Map<string, string>();
  const entries = connection.client.listRecords({ node, keyPrefix: "" }, connection.metadata, connection.deadline);
  for await (const { record } of connection.messages<RecordEntry>(entries))
    if (record !== undefined) hashes.set(record.key, record.hash.toString(16).padStart(16, "0"));
  return hashes;
}

async function agentHashes(socketPath: string, timeoutMs: number): Promise<ReadonlyMap<string, string>> {
  const view = await callAgent({ socketPath, timeoutMs, path: "/v1/view" });
  const hashes: unknown = typeof view === "object" && view !== null && "hashes" in view ? view.hashes : undefined;
  if (typeof hashes !== "object" || hashes === null) throw new Error(`${socketPath}: the agent told no view: it is of an older version`);
  return new Map(Object.entries(hashes).map(([key, hash]) => [key, String(hash)]));
}

/** What of the agent's status is about the kernel. */
function kernelPart(status: unknown): unknown {
  if (typeof status !== "object" || status === null) return status;
  const told = ["dataplane", "programmedRevision", "kernelError", "failures"];
  return Object.fromEntries(Object.entries(status).filter(([field]) => told.includes(field)));
}
