/** `sedge get <kind>` and `sedge watch [kind]`: records of the table, or of one node's view, as the server has them. */
import { ipFromBytes } from "../net/ip.ts";
import type { RecordEntry, RecordEvent } from "../wire/gen/sedge/sync/v1/introspection.ts";
import {
  type Endpoint,
  type NodeEntry,
  type Policy,
  type Pool,
  type Prefix,
  Record as RecordMessage,
  type SetShard,
  SetType,
  type Stack,
} from "../wire/gen/sedge/sync/v1/records.ts";
import type { CtlConfig } from "./config.ts";
import type { Connection } from "./connection.ts";
import { json, print, table } from "./output.ts";

/** Words that a person may use for a kind, and the keys that they mean. */
const KINDS: Readonly<Record<string, string>> = {
  records: "",
  all: "",
  node: "node/",
  nodes: "node/",
  pool: "pool/",
  pools: "pool/",
  endpoint: "endpoint/",
  endpoints: "endpoint/",
  pods: "endpoint/",
  stack: "stack/",
  stacks: "stack/",
  policylist: "policies/",
  policylists: "policies/",
  policy: "policy/",
  policies: "policy/",
  set: "set/",
  sets: "set/",
};

/** Thrown for a kind that does not exist; main prints it and exits 2. */
export class UnknownKindError extends Error {
  readonly code = "CONFIG";
}

function keyPrefix(kind: string, name: string | undefined): string {
  const prefix = KINDS[kind];
  if (prefix === undefined) throw new UnknownKindError(`no kind "${kind}"; known: ${Object.keys(KINDS).join(", ")}`);
  return `${prefix}${name ?? ""}`;
}

export async function getCommand(connection: Connection, config: CtlConfig, [kind, name]: readonly string[]): Promise<number> {
  if (kind === undefined) throw new UnknownKindError(`usage: sedge get <kind> [name] [--node N]; kinds: ${Object.keys(KINDS).join(", ")}`);
  const request = { node: config.node ?? "", keyPrefix: keyPrefix(kind, name) };
  const entries: RecordEntry[] = [];
  for await (const entry of connection.messages<RecordEntry>(connection.client.listRecords(request, connection.metadata, connection.deadline)))
    entries.push(entry);
  if (config.output === "json") {
    print(json(entries.map(describe)));
    return 0;
  }
  print(
    table([
      ["KEY", "REVISION", "NODES", "CONTENT"],
      ...entries.map((entry) => [entry.record?.key ?? "", `${entry.revision}`, entry.allNodes ? "all" : `${entry.audience}`, summary(entry)]),
    ]),
  );
  return 0;
}

export async function watchCommand(connection: Connection, config: CtlConfig, [kind = "records", name]: readonly string[]): Promise<number> {
  const stream = connection.client.watchRecords({ node: config.node ?? "", keyPrefix: keyPrefix(kind, name) });
  let isSynced = false;
  let changes = 0;
  for await (const event of connection.messages<RecordEvent>(stream)) {
    print(config.output === "json" ? json(eventJson(event), 0) : eventLine(event, isSynced));
    isSynced ||= event.synced;
    if (isSynced && !event.synced && ++changes === config.count) break;
  }
  stream.cancel();
  return 0;
}

function eventLine(event: RecordEvent, isSynced: boolean): string {
  if (event.synced) return `${event.revision} = synced: what follows is live`;
  if (event.upsert === undefined) return `${event.revision} - ${event.removed}`;
  return `${event.revision} ${isSynced ? "+" : " "} ${event.upsert.record?.key ?? ""}  ${summary(event.upsert)}`;
}

function eventJson(event: RecordEvent): unknown {
  if (event.synced) return { type: "SYNCED", revision: event.revision };
  if (event.upsert === undefined) return { type: "REMOVED", revision: event.revision, key: event.removed };
  return { type: "UPSERT", ...describe(event.upsert), revision: event.revision };
}

/** The record with addresses and prefixes as text, for JSON. */
function describe(entry: RecordEntry): { key: string; [field: string]: unknown } {
  const record = entry.record ?? RecordMessage.fromPartial({});
  return {
    key: record.key,
    revision: entry.revision,
    hash: record.hash.toString(16).padStart(16, "0"),
    audience: entry.allNodes ? "all" : entry.audience,
    ...(record.value === undefined ? {} : { kind: record.value.$case, value: readable(record.value.value) }),
  };
}

/** Bytes become addresses and prefixes, packed members become a list; everything else stays. */
function readable(value: unknown): unknown {
  if (isPrefix(value)) return prefixText(value);
  if (value instanceof Uint8Array) return value.length === 4 || value.length === 16 ? ipFromBytes(value) : Buffer.from(value).toString("hex");
  if (Array.isArray(value)) return value.map(readable);
  if (typeof value !== "object" || value === null) return value;
  if ("shard" in value && "v4" in value) {
    const shard = value as SetShard;
    return { id: shard.id, shard: shard.shard, type: setTypeName(shard.type), members: setMembers(shard) };
  }
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, readable(entry)]));
}

function isPrefix(value: unknown): value is Prefix {
  return typeof value === "object" && value !== null && "address" in value && "length" in value && value.address instanceof Uint8Array;
}

function prefixText({ address, length }: Prefix): string {
  return address.length === 0 ? "" : `${ipFromBytes(address)}/${length}`;
}

const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 6: "tcp", 17: "udp", 132: "sctp" };

function setTypeName(type: SetType): string {
  return (
    Object.entries(SetType)
      .find(([, value]) => value === type)?.[0]
      .toLowerCase() ?? `${type}`
  );
}

/** Text of each member, as record.ts writes them. */
function setMembers({ type, v4, v6 }: SetShard): string[] {
  const extra = type === SetType.ADDRESS_PORT ? 3 : type === SetType.PREFIX ? 1 : 0;
  return [...split(v4, 4 + extra, 4), ...split(v6, 16 + extra, 16)];
}

function split(packed: Uint8Array, width: number, addressWidth: number): string[] {
  const members: string[] = [];
  for (let at = 0; at + width <= packed.length; at += width) {
    const address = ipFromBytes(packed.subarray(at, at + addressWidth));
    const rest = packed.subarray(at + addressWidth, at + width);
    if (rest.length === 3) members.push(`${address},${PROTOCOL_NAMES[rest[0] ?? 0] ?? rest[0]}:${((rest[1] ?? 0) << 8) | (rest[2] ?? 0)}`);
    else members.push(rest.length === 1 ? `${address}/${rest[0]}` : address);
  }
  return members;
}

/** One line of what the record says. */
function summary(entry: RecordEntry): string {
  const value = entry.record?.value;
  switch (value?.$case) {
    case "nodeEntry":
      return nodeSummary(value.value);
    case "pool":
      return poolSummary(value.value);
    case "endpoint":
      return endpointSummary(value.value);
    case "stack":
      return stackSummary(value.value);
    case "policyList":
      return clip(`[${value.value.policies.join(" ")}]`);
    case "policy":
      return policySummary(value.value);
    case "setShard":
      return clip(`${setTypeName(value.value.type)} ${setMembers(value.value).join(" ")}`);
    default:
      return "(a kind that this version does not know)";
  }
}

function nodeSummary(node: NodeEntry): string {
  return `${node.addresses.map(ipFromBytes).join(" ")} blocks ${node.blocks.map(prefixText).join(" ") || "none"}`;
}

function poolSummary(pool: Pool): string {
  return `${pool.cidr === undefined ? "" : prefixText(pool.cidr)} blocks /${pool.blockSize}${pool.natOutgoing ? " nat-outgoing" : ""}${pool.disabled ? " disabled" : ""}`;
}

function endpointSummary(endpoint: Endpoint): string {
  return `${endpoint.addresses.map(ipFromBytes).join(" ") || "no address yet"} ${endpoint.stack || "no policy"}`;
}

function stackSummary(stack: Stack): string {
  return clip(stack.tiers.map((tier) => `${tier.name}: in [${tier.ingress.join(" ")}] out [${tier.egress.join(" ")}]`).join("; "));
}

function policySummary(policy: Policy): string {
  return `tier ${policy.tier}, ${policy.ingress.length} ingress and ${policy.egress.length} egress rules`;
}

function clip(text: string): string {
  return text.length > 160 ? `${text.slice(0, 157)}…` : text;
}
