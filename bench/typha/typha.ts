/**
 * What Typha would have sent for the same cluster and the same changes, by its own rules: every connection begins with a whole snapshot of its data set; a
 * change goes to every client of the data set, and each value in between too. Computed, not measured: bytes of gob and snappy for the pairs of key-values.ts.
 *
 * Rules (projectcalico/calico at 87c15906f2): no position in the hello (typha/pkg/syncproto), the snapshot 1,000 pairs a message (snap_precalc.go), no merging by
 * key (sendDeltaUpdatesToClient), one connection a node for each data set (daemons), one excess connection closed a second (governNumberOfConnections).
 */
import { Cluster, type ClusterShape } from "../fanout/cluster.ts";
import type { ChangeKind } from "../fanout/scenarios.ts";
import { type KeyValue, keyValuesOf, type Syncer } from "./key-values.ts";
import { snappyStreamBytes } from "./snappy.ts";

const SYNCERS: readonly Syncer[] = ["felix", "bgp", "tunnel-ip-allocation"];
const PAIRS_PER_SNAPSHOT_MESSAGE = 1_000;
/** gob writes it into every message. */
const MESSAGE_NAME = "github.com/projectcalico/typha/pkg/syncproto.MsgKVs";
/** Changes that are looked at to know how large one is. */
const SAMPLED_CHANGES = 100;

/** A server that has too many connections closes one so often (s). */
export const TYPHA_SHED_SECONDS = 1.05;

/** What all connections of one node receive when they begin. */
export interface TyphaSnapshot {
  readonly pairs: number;
  /** Keys and values. */
  readonly rawBytes: number;
  /** With gob, compressed. */
  readonly wireBytes: number;
  readonly connections: number;
}

/** Beside a scenario's own figures. */
export interface TyphaFigures {
  /** Snapshots (all connections of a node together), or values times clients. */
  readonly messages: number;
  readonly bytes: number;
  /** What it is made of, for people. */
  readonly how: string;
}

export function typhaSnapshot(shape: ClusterShape): TyphaSnapshot {
  const bySyncer = new Map<Syncer, KeyValue[]>(SYNCERS.map((syncer) => [syncer, []]));
  for (const event of new Cluster(shape).initial()) for (const pair of keyValuesOf(event)) for (const syncer of pair.syncers) bySyncer.get(syncer)?.push(pair);
  let pairs = 0;
  let rawBytes = 0;
  let wireBytes = 0;
  for (const list of bySyncer.values()) {
    // The cache is ordered by key.
    list.sort((a, b) => (a.key < b.key ? -1 : 1));
    pairs += list.length;
    for (const { key, value } of list) rawBytes += key.length + (value?.length ?? 0);
    const messages: Buffer[] = [];
    for (let at = 0; at < list.length; at += PAIRS_PER_SNAPSHOT_MESSAGE) messages.push(gobMessage(list.slice(at, at + PAIRS_PER_SNAPSHOT_MESSAGE)));
    wireBytes += snappyStreamBytes(Buffer.concat(messages));
  }
  return { pairs, rawBytes, wireBytes, connections: SYNCERS.length };
}

/** So many nodes connect, each with a whole snapshot. */
export function typhaSessions(snapshot: TyphaSnapshot, sessions: number): TyphaFigures {
  return {
    messages: sessions,
    bytes: sessions * snapshot.wireBytes,
    how: `${sessions} whole snapshots of ${snapshot.pairs} pairs, ${snapshot.wireBytes} bytes compressed`,
  };
}

/** So many changes of the kind, `batch` at once, to all clients. */
export function typhaDeltas({
  shape,
  kind,
  changes,
  batch,
}: {
  readonly shape: ClusterShape;
  readonly kind: ChangeKind;
  readonly changes: number;
  readonly batch: number;
}): TyphaFigures {
  const cluster = new Cluster(shape);
  // The cluster's groups exist only once it was walked through.
  for (const _event of cluster.initial()) continue;
  const looked = Math.max(batch, Math.min(changes, SAMPLED_CHANGES));
  let bytes = 0;
  let values = 0;
  for (let done = 0; done < looked; done += batch) {
    const pairs: KeyValue[] = [];
    for (let i = 0; i < batch; i++) pairs.push(...cluster.change(kind).events.flatMap(keyValuesOf));
    for (const syncer of SYNCERS) {
      const own = pairs.filter(({ syncers }) => syncers.includes(syncer));
      if (own.length === 0) continue;
      values += own.length;
      // The stream goes on: no header.
      bytes += snappyStreamBytes(gobMessage(own)) - STREAM_HEADER_BYTES;
    }
  }
  const factor = (changes / looked) * shape.agents;
  return {
    messages: Math.round(values * factor),
    bytes: Math.round(bytes * factor),
    how: `every value to every client of its data set: ${shape.agents} clients`,
  };
}

const STREAM_HEADER_BYTES = 10;

/** As long as gob makes it: lengths, field numbers, the name of what an interface holds. The decoder's type tables, sent once, are left out. */
function gobMessage(pairs: readonly KeyValue[]): Buffer {
  const parts: Buffer[] = [Buffer.from([MESSAGE_NAME.length]), Buffer.from(MESSAGE_NAME), Buffer.from([0xff, 0x82, 0x01, ...gobUint(pairs.length)])];
  for (const { key, value, revision } of pairs) {
    parts.push(Buffer.from([1, ...gobUint(key.length)]), Buffer.from(key));
    if (value !== undefined) parts.push(Buffer.from([1, ...gobUint(value.length)]), Buffer.from(value));
    parts.push(Buffer.from([1, 6]), Buffer.from("string"), Buffer.from([0x0c, revision.length + 2, 0, revision.length]), Buffer.from(revision));
    parts.push(Buffer.from([3, value === undefined ? 6 : 2, 0]));
  }
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(gobUint(body.length)), body]);
}

function gobUint(value: number): number[] {
  if (value < 128) return [value];
  const bytes: number[] = [];
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest & 255);
  return [256 - bytes.length, ...bytes];
}
