/**
 * Old and new peers, by stored samples of what each release puts on the wire (test/golden/wire): what an old peer sends is understood, what an old peer gets is
 * what it knows, and today's encoders still write the very bytes. proto/PROTOCOL.md has the matrix.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Sessions } from "../fanout/session/sessions.ts";
import { Table } from "../fanout/table/table.ts";
import { UpstreamVersions } from "../fanout/upstream-versions.ts";
import { parseCidr } from "../src/net/cidr.ts";
import { ManualClock } from "../src/runtime/clock.ts";
import { AgentSession } from "../src/wire/agent-protocol.ts";
import { seedOf } from "../src/wire/digest.ts";
import { AgentMessage, ServerMessage } from "../src/wire/gen/sedge/sync/v1/sync.ts";
import { decodeAgentMessage } from "../src/wire/session-protocol.ts";
import { decodeServerMessage } from "../src/wire/update-codec.ts";
import { View } from "../src/wire/view.ts";
import { MemoryStream } from "./fakes/memory-stream.ts";
import { CLUSTER_UID, samples } from "./golden/wire/write-samples.ts";

const DIRECTORY = join(import.meta.dirname, "golden/wire");
const RELEASES = readdirSync(DIRECTORY)
  .filter((file) => file.endsWith(".json"))
  .map((file) => ({ release: file.replace(".json", ""), stored: JSON.parse(readFileSync(join(DIRECTORY, file), "utf8")) as ReturnType<typeof samples> }));
const bytesOf = (hex: string): Buffer => Buffer.from(hex, "hex");
/** Field 99, a string: of a later version. */
const LATER_FIELD = Buffer.from([0x9a, 0x06, 1, 0x78]);

function server(): { readonly sessions: Sessions; open(...messages: Uint8Array[]): MemoryStream } {
  const table = new Table({ seed: seedOf(CLUSTER_UID) });
  const versions = new UpstreamVersions({ kinds: ["Node", "Pod"], source: () => new Map([["Pod", "9000"]]) });
  versions.note({ kind: "delete", key: { kind: "Pod", namespace: "", name: "" } });
  table.commit(
    Array.from({ length: 40 }, (_, i) => ({
      key: `pool/p${i}` as const,
      value: { kind: "pool", name: `p${i}`, cidr: parseCidr(`10.${i}.0.0/16`), natOutgoing: true, disabled: false, blockSize: 26 } as const,
      isRemoved: false,
      entered: [],
      left: [],
    })),
    1n,
  );
  versions.settle({ revision: 1n, isDrained: true, isListed: true });
  const sessions = new Sessions({
    table,
    versions,
    serverName: "s",
    epoch: "e2",
    clock: new ManualClock(),
    observer: { sent: () => undefined, delivered: () => undefined, received: () => undefined, programmed: () => undefined, ended: () => undefined },
    heartbeatIntervalMs: 1000,
    helloTimeoutMs: 1000,
    answerStallMs: 1000,
    admission: { maxAnswers: 1, maxWaiting: 5, defer: (run) => run() },
    upstream: () => ({ ageMs: 0, isStale: false }),
    report: () => undefined,
  });
  sessions.serve();
  return {
    sessions,
    open: (...messages) => {
      const stream = new MemoryStream();
      stream.handler = sessions.accept(stream);
      for (const message of messages) stream.handler.onMessage(message);
      return stream;
    },
  };
}

const problemOf = (stream: MemoryStream): unknown => (stream.error as { readonly problem?: unknown } | undefined)?.problem;

describe("old and new peers", () => {
  it("there are samples of every release", () => {
    expect(RELEASES.map(({ release }) => release)).toEqual(["v1-features", "v1-first"]);
  });

  describe.each(RELEASES)("$release", ({ release, stored }) => {
    it("today's code writes the same bytes for the same content", () => {
      expect(samples(release === "v1-first")).toEqual(stored);
    });

    it("nothing of it is unknown to today's code: decoded and encoded again it is the same", () => {
      for (const hex of Object.values(stored.agent)) {
        expect(decodeAgentMessage(bytesOf(hex))).toBeDefined();
        expect(Buffer.from(AgentMessage.encode(AgentMessage.decode(bytesOf(hex))).finish()).toString("hex")).toBe(hex);
      }
      for (const hex of stored.server) expect(Buffer.from(ServerMessage.encode(ServerMessage.decode(bytesOf(hex))).finish()).toString("hex")).toBe(hex);
    });

    it("a new agent with a server of that release gets its view, deltas, heartbeat, result and Move", () => {
      const view = new View();
      const session = new AgentSession({ identity: { node: "n1", version: "new", features: ["zstd", "later"] }, view });
      session.open();
      const outputs = stored.server.flatMap((hex) => session.receive(bytesOf(hex)));
      expect(outputs.map(({ kind }) => kind)).toEqual(["welcome", "commit", "heartbeat", "commit", "report-result", "move"]);
      expect([String(view.digest), [...view.records.keys()].toSorted()]).toEqual([stored.digest, stored.keys]);
      expect([...view.upstream]).toEqual(release === "v1-first" ? [] : [["Pod", 4711n]]);
    });

    it("an agent of that release at a new server gets only what it named", () => {
      const f = server();
      const stream = f.open(bytesOf(stored.agent["hello"] ?? ""));
      for (const session of f.sessions.clients) session.heartbeat();
      const sent: ReturnType<typeof decodeServerMessage>[] = [];
      for (let bytes = stream.take(); bytes !== undefined; bytes = stream.take()) sent.push(decodeServerMessage(bytes));
      expect(new Set(sent.map((message) => message?.$case))).toEqual(new Set(["welcome", "update", "heartbeat"]));
      const [welcome] = sent;
      const isFirst = release === "v1-first";
      expect(welcome?.$case === "welcome" ? [welcome.value.features, welcome.value.upstreamKinds] : undefined).toEqual(
        isFirst
          ? [[], []]
          : [
              ["line", "upstream"],
              ["Node", "Pod"],
            ],
      );
      const told = sent.flatMap((message) => (message?.$case === "update" ? (message.value.upstream ?? []) : []));
      expect(told).toEqual(isFirst ? [] : [0n, 9000n]);
      for (const name of ["ack", "report"]) {
        stream.handler?.onMessage(bytesOf(stored.agent[name] ?? ""));
        // The revision that the sample acknowledges was never of this server.
        if (name === "ack") expect(problemOf(stream)).toBe("broken-message");
      }
    });

    it("an agent of that release comes back with its view", () => {
      const f = server();
      expect(problemOf(f.open(bytesOf(stored.agent["resume"] ?? "")))).toBeUndefined();
      expect(f.sessions.clients.size).toBe(1);
    });
  });

  it("what a later peer adds: fields and messages to an agent are ignored; a message to a server that it does not know ends the stream", () => {
    const [first] = RELEASES;
    const hello = AgentMessage.decode(bytesOf(first?.stored.agent["hello"] ?? ""));
    const f = server();
    expect(problemOf(f.open(Buffer.concat([AgentMessage.encode(hello).finish(), LATER_FIELD])))).toBeUndefined();
    expect(problemOf(f.open(LATER_FIELD))).toBe("broken-message");
    const session = new AgentSession({ identity: { node: "n1", version: "t", features: [] }, view: new View() });
    session.open();
    expect(session.receive(LATER_FIELD)).toEqual([]);
    expect(session.receive(Buffer.concat([bytesOf(first?.stored.server[0] ?? ""), LATER_FIELD])).map(({ kind }) => kind)).toEqual(["welcome"]);
  });
});
