/**
 * `sedge trace SRC DST PORT`: asks the server for the records that decide on the connection, and decides.
 *
 * Only the records of the two ends are read. They come in several calls, so the table's revision is asked before and after: a table that moved meanwhile
 * is read again, and an answer from one that never rests says so. Exit codes: 0 answered, 1 a call failed or an end is not known, 2 wrong usage.
 */
import { z } from "zod";
import { DatastoreError } from "../datastore/api-error.ts";
import { POLICY_KIND_NAMES, POLICY_KINDS } from "../model/policy-kinds.ts";
import type { Endpoint, HostEndpoint, NodeEntry, RecordKey, RecordValue } from "../model/record.ts";
import { recordName } from "../model/record-name.ts";
import { type IpAddress, ipVersion, tryParseIp } from "../net/ip.ts";
import { PROTOCOL_NUMBERS } from "../policy/convert-network-policy.ts";
import { isListKey, listKeys } from "../policy/stack-lists.ts";
import { describeFlags, loadConfig } from "../runtime/config.ts";
import type { GetObjectStatusResponse, GetStatusResponse, RecordEntry } from "../wire/gen/sedge/sync/v1/introspection.ts";
import { Record as RecordMessage } from "../wire/gen/sedge/sync/v1/records.ts";
import { decodeRecord } from "../wire/record-codec.ts";
import { ctlSchema, expandShortFlags } from "./config.ts";
import { CallError, Connection } from "./connection.ts";
import { json, print } from "./output.ts";
import { readWorld } from "./policy-diff-world.ts";
import { policyStatuses } from "./policy-status.ts";
import { protocolText } from "./protocol-text.ts";
import { type Trace, type TraceEnd, type TraceRecords, type TraceStep, type TraceVerdict, trace, traceRecords } from "./trace.ts";
import { StagedTraceError, stagedText, stagedVerdict } from "./trace-staged.ts";

const USAGE = "usage: sedge trace SRC DST PORT [--protocol TCP] [--staged] [flags]\n\nSRC and DST: NAMESPACE/POD or an address. PORT: a number; - for ICMP.\n";
const schema = ctlSchema.pick({ server: true, tlsCert: true, tlsKey: true, tlsCa: true, output: true, timeoutMs: true, help: true }).extend({
  protocol: z.string().default("TCP").describe("TCP, UDP, SCTP, ICMP or a protocol number"),
  staged: z.boolean().default(false).describe("also what the staged policies would decide if all were promoted; they are read from the cluster's API"),
  kubeconfig: z.string().optional().describe("--staged: without it KUBECONFIG, ~/.kube/config or the pod's service account"),
});

/** Times that a table which moves is read before the answer is given with a warning. */
const TRIES = 3;

/** What keeps the question from being answered, with what to do. */
class TraceError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number) {
    super(message);
    this.name = "TraceError";
    this.exitCode = exitCode;
  }
}

export async function traceCommand(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): Promise<number> {
  const { config, positional } = loadConfig(schema, { argv: expandShortFlags(argv), env, program: "ctl" });
  if (config.help) {
    print(`${USAGE}\n${describeFlags(schema)}`);
    return 0;
  }
  const connection = new Connection({ ...config, for: "programmed" });
  try {
    const question = readQuestion(positional, config.protocol);
    const { trace: answer, revision, isTorn, about, lagging } = await ask(connection, question);
    if (isTorn) process.stderr.write(`sedge trace: the table changed while it was read (revision ${revision} is the last); ask again if in doubt\n`);
    const staged = config.staged ? stagedVerdict(await readWorld(config.kubeconfig, env), question) : undefined;
    if (config.output === "json")
      print(json({ revision, from: question.from, to: question.to, ...answer, lagging, ...(staged === undefined ? {} : { staged }) }));
    else
      print(
        `${traceText(answer, revision, about)}${lagging.map((line) => `${line}\n`).join("")}${staged === undefined ? await stagedHint(connection) : stagedText(staged)}`,
      );
    return 0;
  } catch (error) {
    const isKnown = error instanceof CallError || error instanceof TraceError || error instanceof DatastoreError || error instanceof StagedTraceError;
    if (!isKnown && !(error instanceof Error && error.name === "KubeconfigError")) throw error;
    process.stderr.write(`sedge trace: ${error.message}\n`);
    return error instanceof TraceError ? error.exitCode : 1;
  } finally {
    connection.close();
  }
}

interface Question {
  readonly from: string;
  readonly to: string;
  readonly port: number | undefined;
  /** As written, in capitals; a number, or one of those that have a number. */
  readonly protocol: string;
}

function readQuestion(positional: readonly string[], protocolFlag: string): Question {
  const [from, to, portText, ...more] = positional;
  const protocol = protocolFlag.toUpperCase();
  const hasPorts =
    protocolNumber(protocol, undefined) !== undefined && Object.values(PROTOCOL_NUMBERS).some((number) => number === protocolNumber(protocol, undefined));
  if (from === undefined || to === undefined || more.length > 0) throw new TraceError(USAGE, 2);
  if (protocolNumber(protocol, undefined) === undefined)
    throw new TraceError(`--protocol ${protocolFlag}: must be TCP, UDP, SCTP, ICMP or a protocol number from 1 to 255`, 2);
  if (!hasPorts && portText !== undefined && portText !== "-") throw new TraceError(`${portText}: ${protocol} has no ports; write - for the port`, 2);
  if (!hasPorts) return { from, to, port: undefined, protocol };
  if (portText === undefined) throw new TraceError(`PORT is missing: sedge trace ${from} ${to} 80; for a ping, sedge trace ${from} ${to} - --protocol ICMP`, 2);
  if (!/^\d+$/.test(portText))
    throw new TraceError(
      `port ${JSON.stringify(portText)}: must be a number; the server's records have no names of ports (kubectl describe pod shows the number)`,
      2,
    );
  const port = Number(portText);
  if (port < 1 || port > 65535) throw new TraceError(`port ${portText}: must be from 1 to 65535`, 2);
  return { from, to, port, protocol };
}

/** undefined: no protocol of that name. ICMP is the one of the address's family. */
function protocolNumber(protocol: string, address: IpAddress | undefined): number | undefined {
  if (protocol === "ICMP" || protocol === "ICMPV6") return address !== undefined && ipVersion(address) === 6 ? 58 : 1;
  const known = Object.entries(PROTOCOL_NUMBERS).find(([name]) => name === protocol)?.[1];
  const number = known ?? (/^\d+$/.test(protocol) ? Number(protocol) : 0);
  return number >= 1 && number <= 255 ? number : undefined;
}

async function ask(connection: Connection, question: Question): Promise<Answer & { readonly revision: bigint; readonly isTorn: boolean }> {
  for (let tries = 1; ; tries++) {
    const before = await revisionOf(connection);
    const answer = await askOnce(connection, question);
    const after = await revisionOf(connection);
    const isTorn = before !== after;
    if (isTorn && tries < TRIES) continue;
    if (answer instanceof TraceError) throw answer;
    return { ...answer, revision: after, isTorn };
  }
}

/** The answer, with what its sets are made of, and what nodes of its ends do not have yet. */
interface Answer {
  readonly trace: Trace;
  readonly about: ReadonlyMap<string, string>;
  readonly lagging: readonly string[];
}

async function askOnce(connection: Connection, { from, to, port, protocol }: Question): Promise<Answer | TraceError> {
  try {
    const source = await readEnd(connection, from);
    const destination = await readEnd(connection, to);
    const ipProtocol = protocolNumber(protocol, destination.addresses[0]) ?? 0;
    const isOwnNode = await isNodeOf(connection, source, destination);
    const records = await readRecords(connection, [source, destination]);
    const answer = trace(records, { from: source, to: destination, protocol: ipProtocol, port, isOwnNode });
    if (answer === undefined) return new TraceError(`${from} and ${to} have no address of the same family`, 1);
    return { trace: answer, about: records.about, lagging: await laggingText(connection, [source, destination]) };
  } catch (error) {
    if (error instanceof TraceError) return error;
    throw error;
  }
}

/** Pods whose node does not have all that concerns them in its kernel: what was decided here may not hold there yet. */
async function laggingText(connection: Connection, ends: readonly TraceEnd[]): Promise<readonly string[]> {
  const { client, metadata, deadline } = connection;
  const pods = new Map(ends.flatMap(({ owner }) => (owner?.kind === "endpoint" ? [[`${owner.namespace}/${owner.pod}`, owner] as const] : [])));
  const lines: string[] = [];
  for (const [name, { namespace, pod }] of pods) {
    try {
      const { lagging } = await connection.call<GetObjectStatusResponse>((done) =>
        client.getObjectStatus({ kind: "Pod", namespace, name: pod }, metadata, deadline, done),
      );
      for (const { node, reason } of lagging) lines.push(`but ${node}, the node of ${name}, does not have this in its kernel yet: ${reason}`);
    } catch (error) {
      // A server that does not know the pod by now, or this question, has nothing to add.
      if (!(error instanceof CallError) || (error.code !== "NOT_FOUND" && error.code !== "UNIMPLEMENTED")) throw error;
    }
  }
  return lines;
}

interface LiveEnd extends TraceEnd {
  /** The node whose address this is. */
  readonly node: NodeEntry | undefined;
}

async function readEnd(connection: Connection, text: string): Promise<LiveEnd> {
  const address = tryParseIp(text);
  if (address === undefined) {
    if (!/^[^/]+\/[^/]+$/.test(text)) throw new TraceError(`${JSON.stringify(text)} is neither an address nor NAMESPACE/POD`, 2);
    const key = `endpoint/${text}`;
    const owner = (await list(connection, key)).find(
      (value): value is Endpoint => value.kind === "endpoint" && `endpoint/${value.namespace}/${value.pod}` === key,
    );
    if (owner === undefined)
      throw new TraceError(`no pod ${text} at the server: it is not scheduled, has ended, or is on the host's network (give its node's address then)`, 1);
    if (owner.addresses.length === 0) throw new TraceError(`pod ${text} has no address yet`, 1);
    return { text, addresses: owner.addresses, owner, node: undefined };
  }
  const endpoints = await list(connection, "endpoint/");
  const owner = endpoints.find((value): value is Endpoint => value.kind === "endpoint" && value.addresses.includes(address));
  if (owner !== undefined) return { text, addresses: [address], owner, node: undefined };
  const holder = endpoints.find((value): value is Endpoint => value.kind === "endpoint" && value.floating?.includes(address) === true);
  if (holder !== undefined) {
    // Policy sees the address that it is translated to.
    const addresses = holder.addresses.filter((own) => ipVersion(own) === ipVersion(address));
    if (addresses.length === 0) throw new TraceError(`${text} is a floating address of ${holder.namespace}/${holder.pod}, which has no address yet`, 1);
    return { text: `${text} (floating address of ${holder.namespace}/${holder.pod})`, addresses, owner: holder, node: undefined };
  }
  const nodes = await list(connection, "node/");
  const node = nodes.find((value): value is NodeEntry => value.kind === "node" && value.addresses.includes(address));
  return { text, addresses: [address], owner: await hostOf(connection, address, node), node };
}

/** The host endpoint that has the address, else the one for all interfaces of the node. */
async function hostOf(connection: Connection, address: IpAddress, node: NodeEntry | undefined): Promise<HostEndpoint | undefined> {
  const hosts = (await list(connection, "host/", node?.name ?? "")).filter((value) => value.kind === "host");
  const own = hosts.find(({ addresses }) => addresses.includes(address));
  return own ?? (node === undefined ? undefined : hosts.find(({ interfaceName }) => interfaceName === "*"));
}

async function isNodeOf(connection: Connection, { node }: LiveEnd, { owner }: LiveEnd): Promise<boolean> {
  if (node === undefined || owner?.kind !== "endpoint") return false;
  const local = await list(connection, `endpoint/${owner.namespace}/${owner.pod}`, node.name);
  return local.some((value) => value.kind === "endpoint" && value.namespace === owner.namespace && value.pod === owner.pod);
}

/** The stacks of both ends, their policies, and the sets that those name. */
async function readRecords(connection: Connection, ends: readonly TraceEnd[]): Promise<TraceRecords> {
  const stacks = await listAll(connection, unique(ends.flatMap(({ owner }) => (owner === undefined || owner.stack === "" ? [] : [owner.stack]))));
  const lists = await listAll(
    connection,
    stacks.flatMap((value) => (value.kind === "stack" && listKeys(value).length > 0 ? [`policies/${value.id}/`] : [])),
  );
  const policyKeys = stacks.flatMap((value) =>
    value.kind === "stack" ? [...value.tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress]), ...(value.profiles ?? [])] : [],
  );
  const listed = lists.flatMap((value) => (value.kind === "policy-list" ? value.policies : []));
  const policies = await listAll(connection, unique([...policyKeys.filter((key) => !isListKey(key)), ...listed]));
  const sides = policies.flatMap((value) =>
    value.kind === "policy" ? [...value.ingress, ...value.egress].flatMap(({ source, destination }) => [source, destination]) : [],
  );
  const ids = sides.flatMap(({ sets, notSets, portSets, notPortSets = [] }) => [...sets, ...notSets, ...portSets, ...notPortSets]);
  const about = new Map<string, string>();
  const sets: RecordValue[] = [];
  for (const id of unique(ids)) {
    const shards = await list(connection, `set/${id}/`, "", (text) => about.set(id, text));
    sets.push(...shards);
    // One without members has no record to be described by.
    if (shards.length === 0) about.set(id, `members of set ${id}, which is empty`);
  }
  return traceRecords([...stacks, ...lists, ...policies, ...sets], about);
}

function unique(keys: readonly RecordKey[]): RecordKey[] {
  return [...new Set(keys)];
}

async function listAll(connection: Connection, prefixes: readonly string[]): Promise<RecordValue[]> {
  const values: RecordValue[] = [];
  for (const prefix of prefixes) values.push(...(await list(connection, prefix)));
  return values;
}

/** Records whose key begins so; a record that this version cannot understand ends the trace, as an answer without it could be wrong. */
async function list(connection: Connection, keyPrefix: string, node = "", onAbout?: (about: string) => void): Promise<RecordValue[]> {
  const { client, metadata, deadline } = connection;
  const values: RecordValue[] = [];
  const request = { node, keyPrefix };
  for await (const { record, about } of connection.messages<RecordEntry>(client.listRecords(request, metadata, deadline))) {
    if (record === undefined) continue;
    if (about !== "") onAbout?.(about);
    const { key, value, problem } = decodeRecord(RecordMessage.encode(record).finish());
    if (value === undefined) throw new TraceError(`record ${key} is not understood (${problem}): use the sedge of the server's version`, 1);
    values.push(value);
  }
  return values;
}

async function revisionOf(connection: Connection): Promise<bigint> {
  const { client, metadata, deadline } = connection;
  const { revision } = await connection.call<GetStatusResponse>((done) => client.getStatus({}, metadata, deadline, done));
  return revision;
}

/** That there is more to ask for, when there is. A server that cannot be asked for it has no hint to give. */
async function stagedHint(connection: Connection): Promise<string> {
  let staged = 0;
  try {
    for (const kind of STAGED_KINDS) staged += (await policyStatuses(connection, { kind, namespace: "", name: "" })).length;
  } catch (error) {
    if (error instanceof CallError) return "";
    throw error;
  }
  return staged === 0
    ? ""
    : `${staged} staged ${staged === 1 ? "policy is" : "policies are"} not in force and not in this; --staged shows what they would decide\n`;
}

const STAGED_KINDS = POLICY_KIND_NAMES.filter((kind) => POLICY_KINDS[kind].isStaged);

function traceText({ verdict, packet, egress, ingress }: Trace, revision: bigint, about: ReadonlyMap<string, string>): string {
  const port = packet.destinationPort === undefined ? "" : ` port ${packet.destinationPort}`;
  const head = `${verdict}: ${packet.sourceAddress} to ${packet.destinationAddress}, ${protocolText(packet.protocol)}${port} (revision ${revision})`;
  return [head, ...endText("egress", egress, about), ...endText("ingress", ingress, about), ""].join("\n");
}

function endText(direction: string, { end, verdict, reason, chain }: TraceVerdict, about: ReadonlyMap<string, string>): string[] {
  return [`${direction} at ${end}: ${verdict}`, `  ${reason}`, ...chain.flatMap((step, i) => stepText(step, i === chain.length - 1, about))];
}

/** Rules that do not match, of one policy, before the rest is counted. */
const MISSES_SHOWN = 8;

function stepText(
  { tier, policy, outcome, rule, says, sets = [], misses = [], hasRules = true }: TraceStep,
  isLast: boolean,
  about: ReadonlyMap<string, string>,
): string[] {
  const where = tier === "" ? "profiles" : `tier ${tier}`;
  const mark = isLast ? "=>" : "- ";
  if (policy === "") return [`  ${mark} ${where}: its end: ${outcome}`];
  const line = `  ${mark} ${where}: ${recordName(policy)}: ${rule === undefined ? outcome : `${rule}: ${says ?? outcome}`}${hasRules ? "" : " (it has none)"}`;
  // Of what allows, nobody asks why the rules before it do not.
  const passedOver = outcome === "allow" ? [] : misses;
  const more = passedOver.length - MISSES_SHOWN;
  return [
    line,
    ...sets.map(({ id, member }) => `       set ${id} (${about.get(id) ?? "of unknown members"}) has ${member}`),
    ...passedOver.slice(0, MISSES_SHOWN).map(({ rule: missed, because }) => `       ${missed} ${because}`),
    ...(more > 0 ? [`       and ${more} more rules`] : []),
  ];
}
