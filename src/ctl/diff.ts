/**
 * `sedge diff NODE --socket PATH`, on the node: three states record by record: the server's view of the node, the agent's, and what the kernel has of it.
 *
 * They are read one after the other, so what changes meanwhile shows as a difference: one counts when it is still there at a second look.
 * Of the kernel the agent tells what it could not program and why, and what somebody else has changed in its table, which it reads for this.
 */
import { recordName } from "../model/record-name.ts";
import type { RecordEntry } from "../wire/gen/sedge/sync/v1/introspection.ts";
import { AgentCallError, callAgent } from "./agent-socket.ts";
import type { CtlConfig } from "./config.ts";
import type { Connection } from "./connection.ts";
import { json, print, table } from "./output.ts";

const DEFAULT_SOCKET = "/run/sedge/agent.sock";
const SECOND_LOOK_MS = 500;

/** A record that is not the same at all three. */
export interface RecordDifference {
  readonly key: string;
  readonly server: "has it" | "-";
  readonly agent: "the same" | "has it otherwise" | "-";
  /** "in force", or what keeps it from that. */
  readonly kernel: string;
}

/** As GET /v1/kernel of the agent tells it. */
export interface KernelState {
  readonly dataplane: string;
  readonly viewRevision: string;
  readonly programmedRevision: string;
  readonly kernelError: string;
  readonly failures: readonly { readonly key: string; readonly reason: string }[];
  readonly drift: readonly { readonly what: string; readonly record?: string }[];
}

interface Look {
  readonly records: number;
  readonly differences: readonly RecordDifference[];
  /** About the kernel as a whole. */
  readonly remarks: readonly string[];
}

/** Exit code 0: all the same; 1: not, or the agent cannot be asked. */
export async function diffCommand(connection: Connection, config: CtlConfig, [node]: readonly string[]): Promise<number> {
  if (node === undefined) {
    process.stderr.write(`usage: sedge diff NODE [--socket ${DEFAULT_SOCKET}]   (on the node, as who may open the socket)\n`);
    return 2;
  }
  const socketPath = config.socket ?? DEFAULT_SOCKET;
  const look = async (): Promise<Look> => {
    const server = await serverHashes(connection, node);
    try {
      const agent = await agentHashes(socketPath, config.timeoutMs);
      return compare(server, agent, await kernelState(socketPath, config.timeoutMs));
    } catch (error) {
      if (!(error instanceof AgentCallError)) throw error;
      throw new AgentCallError(`the server has ${server.size} records for ${node}; what its agent and its kernel have is not seen from here: ${error.message}`);
    }
  };
  let found = await look();
  if (found.differences.length + found.remarks.length > 0) {
    await new Promise((resolve) => setTimeout(resolve, SECOND_LOOK_MS));
    const again = await look();
    const keys = new Set(again.differences.map(({ key }) => key));
    found = { ...again, differences: found.differences.filter(({ key }) => keys.has(key)) };
  }
  const isSame = found.differences.length + found.remarks.length === 0;
  if (config.output === "json") print(json({ node, ...found }));
  else if (isSame) print(`${node}: server, agent and kernel have the same view: ${found.records} records\n`);
  else {
    if (found.differences.length > 0)
      print(
        table([
          ["RECORD", "SERVER", "AGENT", "KERNEL"],
          ...found.differences.map(({ agent, kernel, key, server }) => [recordName(key), server, agent, kernel]),
        ]),
      );
    for (const remark of found.remarks) print(`${remark}\n`);
  }
  return isSame ? 0 : 1;
}

/** Sorted by key. Pure. */
export function compare(server: ReadonlyMap<string, string>, agent: ReadonlyMap<string, string>, kernel: KernelState): Look {
  const troubles = new Map<string, string>();
  const remarks: string[] = [];
  for (const { key, reason } of kernel.failures) troubles.set(key, `not as the view says: ${reason}`);
  for (const { record, what } of kernel.drift) {
    if (record === undefined) remarks.push(`kernel: ${what}`);
    else troubles.set(record, `changed by others: ${what}`);
  }
  if (kernel.dataplane === "none") remarks.push("kernel: the agent runs without a dataplane: nothing is programmed");
  else if (kernel.kernelError !== "") remarks.push(`kernel: ${kernel.kernelError}`);
  else if (kernel.programmedRevision !== kernel.viewRevision)
    remarks.push(`kernel: has revision ${kernel.programmedRevision}, the agent's view is at ${kernel.viewRevision}`);
  const inKernel = (key: string): string => troubles.get(key) ?? troubles.get(key.replace(/\/[^/]*$/, "")) ?? "in force";
  const differences: RecordDifference[] = [];
  for (const key of new Set([...server.keys(), ...agent.keys(), ...[...troubles.keys()].filter((key) => !isPartOfKnown(key, agent))])) {
    const [ours, theirs] = [server.get(key), agent.get(key)];
    const state = theirs === undefined && !troubles.has(key) ? "-" : inKernel(key);
    if (ours === theirs && state === "in force") continue;
    differences.push({
      key,
      server: ours === undefined ? "-" : "has it",
      agent: theirs === undefined ? "-" : ours === theirs ? "the same" : "has it otherwise",
      kernel: state,
    });
  }
  return { records: server.size, differences: differences.sort((a, b) => (a.key < b.key ? -1 : 1)), remarks };
}

/** Of a set the kernel knows the whole, the view its shards. */
function isPartOfKnown(key: string, agent: ReadonlyMap<string, string>): boolean {
  return !agent.has(key) && [...agent.keys()].some((known) => known.startsWith(`${key}/`));
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

async function kernelState(socketPath: string, timeoutMs: number): Promise<KernelState> {
  const state = await callAgent({ socketPath, timeoutMs, path: "/v1/kernel" });
  if (typeof state !== "object" || state === null || !("drift" in state))
    throw new Error(`${socketPath}: the agent told nothing of its kernel: it is of an older version`);
  return state as KernelState;
}
