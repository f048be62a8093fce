/**
 * Writes what today's code puts on the wire, as one JSON file beside this one: `node test/golden/wire/write-samples.ts NAME`. Run once for a release and
 * never again for the same name: the file is what peers of that release send, and test/contract.test.ts holds later code to it.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { RecordValue } from "../../../src/model/record.ts";
import { parseCidr } from "../../../src/net/cidr.ts";
import { encodeAck, encodeEndpointReport } from "../../../src/wire/agent-protocol.ts";
import { seedOf } from "../../../src/wire/digest.ts";
import { AgentMessage } from "../../../src/wire/gen/sedge/sync/v1/sync.ts";
import { prefixToWire } from "../../../src/wire/prefix-codec.ts";
import { encodeRecord } from "../../../src/wire/record-codec.ts";
import { encodeHeartbeat, encodeServerMessage, encodeUpdate, type RawUpdate } from "../../../src/wire/update-codec.ts";

export const CLUSTER_UID = "golden";
const SEED = seedOf(CLUSTER_UID);
const EMPTY: RawUpdate = { buckets: [], upserts: [], removed: [], commit: false, revision: 0n, digest: undefined, committedAtUnixUs: 0n };

const pool = (name: string, disabled: boolean): RecordValue => ({
  kind: "pool",
  name,
  cidr: parseCidr("10.65.0.0/16"),
  natOutgoing: true,
  disabled,
  blockSize: 26,
});
const stack = (id: string): RecordValue => ({ kind: "stack", id, tiers: [], noMatchAction: "deny" });
const record = (value: RecordValue): ReturnType<typeof encodeRecord> => encodeRecord(value, SEED);
const sum = (...values: RecordValue[]): bigint =>
  BigInt.asUintN(
    64,
    values.reduce((total, value) => total + record(value).hash, 0n),
  );
const bytesOf = (...values: RecordValue[]): Uint8Array[] => values.map((value) => record(value).bytes);

/** `isFirst`: as the first release, which had no features. */
export function samples(isFirst: boolean): {
  readonly agent: Record<string, string>;
  readonly server: readonly string[];
  readonly digest: string;
  readonly keys: readonly string[];
} {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
  const features = isFirst ? [] : ["line", "upstream"];
  const upstream = isFirst ? [] : [{ kind: "Pod", resourceVersion: 4711n }];
  const block = prefixToWire(parseCidr("10.65.0.0/26"));
  const hello = { node: "n1", version: "sedge/0.1", features, epoch: "", revision: 0n, view: { hashSeed: 0n, bucketBits: 8, digests: [] }, upstream: [] };
  const state = { hashSeed: SEED, bucketBits: 0, digests: [sum(pool("p", false))] };
  const encode = (message: NonNullable<AgentMessage["message"]>): string => hex(AgentMessage.encode({ message }).finish());
  const told = isFirst ? {} : { upstream: [0n, 4711n] };
  return {
    agent: {
      hello: encode({ $case: "hello", value: hello }),
      resume: encode({ $case: "hello", value: { ...hello, epoch: "e1", revision: 3n, view: state, upstream } }),
      ack: hex(encodeAck({ receivedRevision: 3n, programmedRevision: 2n, failed: [{ key: "stack/a", reason: "no memory" }] })),
      report: hex(
        encodeEndpointReport({
          block,
          generation: 5n,
          allocations: [{ address: Buffer.from([10, 65, 0, 7]), handle: "net.c1", namespace: "shop", pod: "web" }],
          claim: "",
          of: undefined,
          lent: [],
          declined: [],
        }),
      ),
      repair: encode({ $case: "repair", value: state }),
    },
    server: [
      encodeServerMessage({
        $case: "welcome",
        value: {
          server: "f1",
          epoch: "e1",
          hashSeed: SEED,
          revision: 2n,
          features,
          heartbeatIntervalMs: 5000,
          bucketBits: 8,
          upstreamKinds: isFirst ? [] : ["Node", "Pod"],
          servers: undefined,
          ackIntervalMs: 0,
        },
      }),
      encodeUpdate({ ...EMPTY, upserts: bytesOf(pool("p", true), stack("a")) }),
      encodeUpdate({ ...EMPTY, upserts: bytesOf(pool("p", false)), commit: true, revision: 2n, digest: sum(pool("p", false), stack("a")), ...told }),
      encodeHeartbeat({ revision: 2n, digest: sum(pool("p", false), stack("a")), upstreamAgeMs: 1200n, stale: false, ackIntervalMs: 0 }),
      encodeUpdate({
        ...EMPTY,
        upserts: bytesOf(stack("b")),
        removed: ["stack/a"],
        commit: true,
        revision: 3n,
        committedAtUnixUs: 1_700_000_000_000_000n,
        ...told,
      }),
      encodeServerMessage({ $case: "reportResult", value: { block, generation: 5n, error: "", retry: false, ended: [], superseded: false } }),
      encodeServerMessage({ $case: "move", value: { reason: "the server is stopping", deadlineMs: 5000, targets: ["10.0.0.2:5473"] } }),
    ].map(hex),
    digest: String(sum(pool("p", false), stack("b"))),
    keys: ["pool/p", "stack/b"],
  };
}

const [, script, name] = process.argv;
if (script === import.meta.filename && name !== undefined)
  writeFileSync(join(import.meta.dirname, `${name}.json`), `${JSON.stringify(samples(name === "v1-first"), null, 2)}\n`);
