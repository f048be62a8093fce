/**
 * Peers that break the protocol, at a root, a relay and a worker process, over both deliveries, sent by a foreign client (the C core from Python: one process
 * for the whole table). What each ends in is docs/protocol.md's: the cells of its state tables that are INVALID_ARGUMENT, and "Peers that break the protocol".
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { describe, expect, it, vi } from "vitest";
import { DELIVERY_KINDS } from "../../fanout/delivery/delivery.ts";
import { FEED_TRANSITIONS } from "../../src/wire/relay-protocol.ts";
import { SESSION_TRANSITIONS } from "../../src/wire/session-protocol.ts";
import { certificates, FAST, node, pool, startFanout, startRelay, startWorkers, upsert } from "../fakes/fanout-fixture.ts";
import { foreignClients } from "./foreign-client.ts";

const HOSTILE = fileURLToPath(new URL("python/hostile.py", import.meta.url));
const PROTO_DIR = fileURLToPath(new URL("../../proto", import.meta.url));
const PROTOCOL = fileURLToPath(new URL("../../docs/protocol.md", import.meta.url));
const python = foreignClients().find(({ name }) => name === "python")?.command?.[0];
const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 20_000, interval: 20 });

type Message = Readonly<Record<string, unknown>>;
type Step =
  | { readonly say: Message }
  | { readonly hex: string }
  | { readonly zeros: number }
  | { readonly until: "welcome" | "commit" | "heartbeat" }
  | { readonly stay: true };

interface Case {
  readonly name: string;
  /** Row of "Peers that break the protocol" (docs/protocol.md). */
  readonly peer: string;
  readonly stream: "agent" | "relay";
  /** With the certificate of node n1. */
  readonly secure?: boolean;
  readonly steps: readonly Step[];
  readonly code: string;
  /** Part of what the client is told. */
  readonly details: string;
  readonly hasRetry?: boolean;
}

interface Result {
  readonly target: string;
  readonly case: string;
  readonly code: string;
  readonly details: string;
  readonly retryAfterMs?: string;
}

let names = 0;
/** Every stream is another node's or relay's, as one that comes again ends the one before. */
const agentHello = (fields: Message = {}): Message => ({ hello: { node: `h${names++}-@`, version: "hostile", view: { bucketBits: 2 }, ...fields } });
const relayHello = (fields: Message = {}): Message => ({ hello: { name: "hostile", id: `r${names++}-@`, shared: {}, ...fields } });

/** How a peer comes to a state of the server's end that it can see; the others pass by themselves. */
const SESSION_WAYS: Readonly<Record<string, () => readonly Step[]>> = {
  greeting: () => [],
  live: () => [{ say: agentHello() }, { until: "commit" }],
};
const FEED_WAYS: Readonly<Record<string, () => readonly Step[]>> = {
  greeting: () => [],
  subscribing: () => [{ say: relayHello({ nodes: 1 }) }, { until: "welcome" }],
  live: () => [{ say: relayHello() }, { until: "commit" }],
};
/** What a peer says for an event, well formed in itself. */
const SESSION_SAYS: Readonly<Record<string, () => Step>> = {
  hello: () => ({ say: agentHello() }),
  ack: () => ({ say: { ack: {} } }),
  report: () => ({ say: { endpointReport: {} } }),
  repair: () => ({ say: { repair: { bucketBits: 2 } } }),
};
const FEED_SAYS: Readonly<Record<string, () => Step>> = {
  hello: () => ({ say: relayHello() }),
  subscribe: () => ({ say: { subscribe: { nodes: [{ slot: 1, node: "n1" }] } } }),
  unsubscribe: () => ({ say: { unsubscribe: { slots: [1] } } }),
  ack: () => ({ say: { ack: {} } }),
  report: () => ({ say: { report: { slot: 1, report: {} } } }),
};

/** The cells that a peer can reach and that the tables call invalid. */
function outOfOrder(): Case[] {
  const tables = [
    ["agent", SESSION_TRANSITIONS, SESSION_WAYS, SESSION_SAYS],
    ["relay", FEED_TRANSITIONS, FEED_WAYS, FEED_SAYS],
  ] as const;
  return tables.flatMap(([stream, transitions, ways, says]) =>
    Object.entries(ways).flatMap(([state, way]) => {
      const row: Readonly<Record<string, { readonly effect: string }>> = transitions[state as "greeting" | "live"];
      return Object.entries(says).flatMap(([event, say]): Case[] => {
        if (row[event]?.effect !== "end-invalid") return [];
        const details = `${event} is not allowed while ${state}`;
        return [{ name: `${stream}: ${details}`, peer: "unexpected, out of order", stream, steps: [...way(), say()], code: "INVALID_ARGUMENT", details }];
      });
    }),
  );
}

/** In each state alike. */
function inEveryState(): Case[] {
  const kinds = [
    ["malformed", { hex: "ffffff" }, "INVALID_ARGUMENT", "Message"],
    // Field 2047, as a newer peer may have it, and no message at all.
    ["unknown message", { hex: "fa7f00" }, "INVALID_ARGUMENT", "without content that this version knows"],
    ["unknown message", { hex: "" }, "INVALID_ARGUMENT", "without content that this version knows"],
    ["oversized", { zeros: 1024 * 1024 + 1 }, "RESOURCE_EXHAUSTED", "1048577"],
  ] as const;
  const ways = [
    ["agent", SESSION_WAYS],
    ["relay", FEED_WAYS],
  ] as const;
  return ways.flatMap(([stream, ofStream]) =>
    Object.entries(ofStream).flatMap(([state, way]) =>
      kinds.map(
        ([peer, step, code, details], i): Case => ({ name: `${stream}: ${peer} ${i} while ${state}`, peer, stream, steps: [...way(), step], code, details }),
      ),
    ),
  );
}

function table(seed: bigint): readonly Case[] {
  const invalid = { peer: "unexpected, out of order", code: "INVALID_ARGUMENT" } as const;
  const silent = { peer: "silent before its first message", code: "INVALID_ARGUMENT" } as const;
  const older = { peer: "an older state of the API", code: "UNAVAILABLE", details: "Pod", hasRetry: true } as const;
  const upstream = [{ kind: "Pod", resourceVersion: "900" }];
  const view = { hashSeed: String(seed), digests: ["1"] };
  const later = { peer: "silent later", code: "STAYS", details: "" } as const;
  const wrong = { peer: "another node's name", code: "PERMISSION_DENIED", secure: true } as const;
  return [
    { ...silent, name: "agent: says nothing", stream: "agent", steps: [], details: "no Hello in time" },
    { ...silent, name: "relay: says nothing", stream: "relay", steps: [], details: "no RelayHello in time" },
    { ...silent, name: "relay: names no node of one", stream: "relay", steps: FEED_WAYS["subscribing"]?.() ?? [], details: "no RelayHello in time" },
    ...outOfOrder(),
    ...inEveryState(),
    { ...invalid, name: "agent: 2^13 buckets", stream: "agent", steps: [{ say: agentHello({ view: { bucketBits: 13 } }) }], details: "bucket_bits is 13" },
    {
      ...invalid,
      name: "agent: a digest too few",
      stream: "agent",
      steps: [{ say: agentHello({ view: { bucketBits: 1, digests: ["1"] } }) }],
      details: "1 digests",
    },
    {
      ...invalid,
      name: "agent: acknowledges what is to come",
      stream: "agent",
      steps: [...(SESSION_WAYS["live"]?.() ?? []), { say: { ack: { receivedRevision: "99999999" } } }],
      details: "99999999",
    },
    { ...invalid, name: "relay: 2^13 buckets", stream: "relay", steps: [{ say: relayHello({ shared: { bucketBits: 13 } }) }], details: "bucket_bits is 13" },
    { ...invalid, name: "relay: a million nodes", stream: "relay", steps: [{ say: relayHello({ nodes: 1_000_000 }) }], details: "1000000 nodes" },
    {
      ...invalid,
      name: "relay: acknowledges what is to come",
      stream: "relay",
      steps: [...(FEED_WAYS["live"]?.() ?? []), { say: { ack: { levelRevision: "99999999" } } }],
      details: "99999999",
    },
    {
      ...invalid,
      name: "relay: gives up what it never had",
      stream: "relay",
      steps: [...(FEED_WAYS["live"]?.() ?? []), { say: { unsubscribe: { slots: [7] } } }],
      details: "slot 7",
    },
    { ...older, name: "agent: knows a newer state", stream: "agent", steps: [{ say: agentHello({ upstream, view }) }] },
    { ...older, name: "relay: knows a newer state", stream: "relay", steps: [{ say: relayHello({ upstream, shared: view }) }] },
    { ...wrong, name: "agent: another's name", stream: "agent", steps: [{ say: agentHello({ node: "n2" }) }], details: "n2" },
    { ...wrong, name: "relay: with a node's certificate", stream: "relay", steps: [{ say: relayHello() }], details: "is no relay" },
    {
      peer: "digests that do not fit",
      name: "agent: asks a repair",
      stream: "agent",
      steps: [...(SESSION_WAYS["live"]?.() ?? []), { say: { repair: { ...view } } }, { until: "commit" }, { stay: true }],
      code: "STAYS",
      details: "",
    },
    { ...later, name: "agent: live, then silent", stream: "agent", steps: [...(SESSION_WAYS["live"]?.() ?? []), { stay: true }] },
    { ...later, name: "relay: live, then silent", stream: "relay", steps: [...(FEED_WAYS["live"]?.() ?? []), { stay: true }] },
  ];
}

/** Runs the table; the process lives on with the streams that stay. */
async function runHostile(given: object): Promise<{ readonly child: ChildProcess; readonly results: readonly Result[] }> {
  const child = spawn(python ?? "python3", [HOSTILE], { cwd: dirname(HOSTILE), stdio: ["pipe", "pipe", "pipe"] });
  let messages = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    messages += text;
  });
  child.stdin.write(`${JSON.stringify(given)}\n`);
  const results: Result[] = [];
  for await (const text of createInterface({ input: child.stdout })) {
    const line: Result | { readonly done: true } = JSON.parse(text);
    if ("done" in line) return { child, results };
    results.push(line);
  }
  throw new Error(`hostile.py ended early:\n${messages}`);
}

describe.skipIf(python === undefined)("peers that break the protocol, from a foreign client", () => {
  it("S7 each ends in its named error at root, relay and worker over both deliveries, and leaves nothing behind", async () => {
    await using pki = await certificates();
    await using disposables = new AsyncDisposableStack();
    const tls = await pki.files("n1", { commonName: "n1", uris: ["spiffe://sedge/node/n1"] });

    const settings = { ...FAST, helloTimeoutMs: 3_000, keepaliveMs: 1_000, keepaliveTimeoutMs: 2_000 };
    const events = upsert(node("n1", 1), node("n2", 2), pool());
    const targets: { name: string; address: string; secureAddress: string }[] = [];
    const open: (() => Promise<number> | number)[] = [];
    let seed = 0n;
    for (const delivery of DELIVERY_KINDS) {
      const root = disposables.use(await startFanout({ events, delivery, tls: pki.tls, settings, upstreamVersions: () => new Map([["Pod", "100"]]) }));
      const relay = disposables.use(await startRelay({ parents: [root.address], delivery, tls: pki.tls, settings }));
      const worker = disposables.use(startWorkers({ parent: root.address, tls: pki.tls, settings: { ...settings, delivery } }));
      await worker.ready();
      await until(() => expect(relay.server.isInSync).toBe(true));
      seed = root.server.table.seed;
      targets.push(
        ...Object.entries({ root, relay, worker }).map(([kind, { address, secureAddress }]) => ({ name: `${kind}-${delivery}`, address, secureAddress })),
      );
      // The relay and the worker are the root's own feeds.
      open.push(
        () => root.server.sessions.openStreams + root.server.feeds.feeds.size - 2,
        () => relay.server.sessions.openStreams + relay.server.feeds.feeds.size,
        async () => Number(/^sedge_fanout_clients\{worker="1"\} (\d+)$/m.exec(await worker.workers.metrics())?.[1] ?? Number.NaN),
      );
    }
    const cases = table(seed);
    const { child, results } = await runHostile({ protoDir: PROTO_DIR, targets, tls, cases });
    disposables.defer(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGKILL");
      await once(child, "exit");
    });

    const wanted = new Map(cases.map((one) => [one.name, one]));
    const wrong = results.filter(({ case: name, code, details, retryAfterMs }) => {
      const one = wanted.get(name);
      return one === undefined || code !== one.code || !details.includes(one.details) || (retryAfterMs !== undefined) !== (one.hasRetry ?? false);
    });
    expect(wrong).toEqual([]);
    expect(new Set(results.map(({ target, case: name }) => `${target} ${name}`)).size).toBe(targets.length * cases.length);
    expect(new Set(cases.map(({ peer }) => peer))).toEqual(new Set(await peersOfDocument()));

    // Those that stay fall silent together: their kernel answers, they do not.
    await until(async () =>
      expect(await Promise.all(open.map(async (count) => count()))).toEqual(targets.map(({ name }) => (name.startsWith("worker") ? 2 : 3))),
    );
    child.kill("SIGSTOP");
    await until(async () => expect(await Promise.all(open.map(async (count) => count()))).toEqual(targets.map(() => 0)));
  }, 90_000);
});

/** First column of "Peers that break the protocol". */
async function peersOfDocument(): Promise<string[]> {
  const text = await readFile(PROTOCOL, "utf8");
  const section = text.split("## Peers that break the protocol")[1]?.split("\n## ")[0] ?? "";
  return [...section.matchAll(/^\| ([^|]+?) \|/gm)].flatMap(([, peer = ""]) => (peer === "peer" || peer === "" ? [] : [peer]));
}
