/**
 * Who tries what with which certificate, at a server, at a relay and at a worker: one table over three closed sets, so that a new kind of certificate or call does not
 * compile until it is decided. The attacker goes for node n2: its view, its blocks, its endpoint report. Through all of it n2 keeps what it has.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ChannelCredentials, credentials, Metadata, type ServiceError, type StatusObject, status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { TlsFiles } from "../../fanout/delivery/certificate-files.ts";
import { blockName } from "../../src/ipam/block.ts";
import type { NodeName } from "../../src/model/names.ts";
import type { BlockAllocation } from "../../src/model/resource.ts";
import { ipBytes, parseIp } from "../../src/net/ip.ts";
import { type CertificateAuthority, type CertificatePem, createCertificateAuthority } from "../../src/runtime/tls.ts";
import { encodeEndpointReport } from "../../src/wire/agent-protocol.ts";
import type { Block, ClaimBlockResponse, EndpointReport } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { prefixFromWire } from "../../src/wire/prefix-codec.ts";
import { IntrospectionServiceClient, RawRelayClient, SyncServiceClient } from "../../src/wire/service.ts";
import {
  CHANNEL_OPTIONS,
  type FanoutFixture,
  GrpcAgent,
  namespace,
  node,
  pod,
  pool,
  startFanout,
  startRelay,
  startWorkers,
  upsert,
  writePair,
} from "../fakes/fanout-fixture.ts";

const DAY_MS = 86_400_000;
const WORLD = upsert(node("n1", 1), node("n2", 2), namespace("shop"), pool(), pod("shop", "secret", { node: "n2" as NodeName }));
/** As n2 asks for its block. */
const CLAIM = { node: "n2", ipVersion: 4, full: [], pools: [], borrow: 0, address: Buffer.alloc(0) };
const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 20_000, interval: 10 });

/** What a call for n2 ends with. */
type Answer =
  /** No call gets through the handshake. */
  | "no connection"
  /** UNAUTHENTICATED: the certificate names nobody, or too many. */
  | "nobody"
  /** PERMISSION_DENIED. */
  | "denied"
  /** The report is answered with why not, and changes nothing. */
  | "refused"
  | "done";
type Call = "n2's view" | "claim for n2" | "n2's blocks" | "release for n2" | "report of n2's block" | "look into the server" | "be a relay";
const NO_CONNECTION: Readonly<Record<Call, Answer>> = {
  "n2's view": "no connection",
  "claim for n2": "no connection",
  "n2's blocks": "no connection",
  "release for n2": "no connection",
  "report of n2's block": "no connection",
  "look into the server": "no connection",
  "be a relay": "no connection",
};
const all = (answer: Answer): Readonly<Record<Call, Answer>> =>
  Object.fromEntries(Object.keys(NO_CONNECTION).map((call) => [call, answer])) as Record<Call, Answer>;
/** A node's certificate that is right, and n1's: it has its own stream, and reports on that one. */
const ANOTHER_NODE: Readonly<Record<Call, Answer>> = { ...all("denied"), "report of n2's block": "refused" };

interface Shown {
  readonly pair: (authorities: { readonly right: CertificateAuthority; readonly other: CertificateAuthority }) => Promise<CertificatePem>;
  readonly answers: Readonly<Record<Call, Answer>>;
}

const N1 = { commonName: "n1", uris: ["spiffe://sedge/node/n1"] };
const N2 = { commonName: "n2", uris: ["spiffe://sedge/node/n2"] };
const CERTIFICATES = {
  "n1's, by URI": { pair: ({ right }) => right.issue(N1), answers: ANOTHER_NODE },
  "n1's, by common name": { pair: ({ right }) => right.issue({ commonName: "n1" }), answers: ANOTHER_NODE },
  "n1's, with n2 for common name": { pair: ({ right }) => right.issue({ ...N1, commonName: "n2" }), answers: ANOTHER_NODE },
  "n1's, with n2 for host name": { pair: ({ right }) => right.issue({ ...N1, hosts: ["n2"] }), answers: ANOTHER_NODE },
  "n1's, with n2 in a foreign URI": { pair: ({ right }) => right.issue({ ...N1, uris: [...N1.uris, "spiffe://elsewhere/node/n2"] }), answers: ANOTHER_NODE },
  "of n1 and n2": { pair: ({ right }) => right.issue({ ...N1, uris: [...N1.uris, ...N2.uris] }), answers: all("nobody") },
  "a URI of ours that is nothing, with n2 for common name": {
    pair: ({ right }) => right.issue({ commonName: "n2", uris: ["spiffe://sedge/nodes/n2"] }),
    answers: all("nobody"),
  },
  "no name that a node can have": { pair: ({ right }) => right.issue({ commonName: "N 2" }), answers: all("nobody") },
  "n2's, expired": { pair: ({ right }) => right.issue({ ...N2, notBefore: new Date(Date.now() - 2 * DAY_MS), validForMs: DAY_MS }), answers: NO_CONNECTION },
  "n2's, not yet valid": { pair: ({ right }) => right.issue({ ...N2, notBefore: new Date(Date.now() + DAY_MS) }), answers: NO_CONNECTION },
  "n2's, of another authority of the same name": { pair: ({ other }) => other.issue(N2), answers: NO_CONNECTION },
  "self-signed": { pair: ({ other }) => Promise.resolve({ cert: other.cert, key: other.key }), answers: NO_CONNECTION },
  "another server's": {
    pair: ({ right }) => right.issue({ commonName: "n2", uris: ["spiffe://sedge/fanout"] }),
    answers: { ...all("denied"), "look into the server": "done" },
  },
  "an operator's": {
    pair: ({ right }) => right.issue({ commonName: "n2", uris: ["spiffe://sedge/operator"] }),
    answers: { ...all("denied"), "look into the server": "done" },
  },
  // Its stream is a relay's alone, and it speaks for no node that it does not serve. It may ask, for operators that it has checked.
  "a relay's that serves nobody": {
    pair: ({ right }) => right.issue({ commonName: "n2", uris: ["spiffe://sedge/relay/other"] }),
    answers: { ...all("denied"), "look into the server": "done", "be a relay": "done" },
  },
} as const satisfies Readonly<Record<string, Shown>>;

interface Place {
  readonly root: FanoutFixture;
  readonly address: string;
  stop(): Promise<void>;
}

const PLACES: Readonly<Record<string, (tls: TlsFiles, relay: TlsFiles) => Promise<Place>>> = {
  async server(tls) {
    const root = await startFanout({ events: WORLD, tls });
    return { root, address: root.secureAddress, stop: () => root.stop() };
  },
  async relay(tls, own) {
    const root = await startFanout({ events: WORLD, tls });
    const relay = await startRelay({ parents: [root.secureAddress], parentTls: own, tls: own });
    return {
      root,
      address: relay.secureAddress,
      stop: async () => {
        await relay.stop();
        await root.stop();
      },
    };
  },
  async worker(tls) {
    const root = await startFanout({ events: WORLD });
    const workers = startWorkers({ parent: root.address, tls });
    await workers.ready();
    return {
      root,
      address: workers.secureAddress,
      stop: async () => {
        await workers.stop();
        await root.stop();
      },
    };
  },
};

function answerOf({ code }: { readonly code: status }): Answer {
  const answer = {
    [status.UNAVAILABLE]: "no connection",
    [status.UNAUTHENTICATED]: "nobody",
    [status.PERMISSION_DENIED]: "denied",
    [status.OK]: "done",
  } as const;
  return (answer as Readonly<Record<number, Answer>>)[code] ?? expect.fail(`status ${status[code]}`);
}

/** The calls of an attacker that knows all that n2 knows: its block, its claim and its names. */
class Attacker {
  readonly #address: string;
  readonly #channel: ChannelCredentials;
  readonly #block: Block;

  constructor({ address, channel, block }: { readonly address: string; readonly channel: ChannelCredentials; readonly block: Block }) {
    this.#address = address;
    this.#channel = channel;
    this.#block = block;
  }

  readonly calls: Readonly<Record<Call, () => Promise<Answer>>> = {
    "n2's view": async () => {
      using agent = new GrpcAgent({ address: this.#address, node: "n2", credentials: this.#channel });
      await until(() => expect(agent.isLive || agent.status !== undefined).toBe(true));
      expect(agent.isLive || agent.view.size === 0).toBe(true);
      return agent.isLive ? "done" : answerOf(agent.status ?? { code: status.OK });
    },
    "claim for n2": () => this.#unary((client, done) => client.claimBlock(CLAIM, done)),
    "n2's blocks": () => this.#unary((client, done) => client.listBlocks({ node: "n2", takeOver: [this.#block] }, done)),
    "release for n2": () =>
      this.#unary((client, done) => client.releaseBlock({ node: "n2", block: this.#block.cidr, claim: this.#block.claim, of: undefined }, done)),
    "report of n2's block": async () => {
      // On the stream that its certificate opens, n1's if any: the report says that n2 has no pod.
      using agent = new GrpcAgent({ address: this.#address, node: "n1", credentials: this.#channel });
      await until(() => expect(agent.isLive || agent.status !== undefined).toBe(true));
      if (!agent.isLive) return answerOf(agent.status ?? { code: status.OK });
      agent.stream.write(encodeEndpointReport(reportOf(this.#block, 1_000n)));
      const results = await until(() => {
        const found = agent.outputs.flatMap((output) => (output.kind === "report-result" ? [output.result.error] : []));
        expect(found).toHaveLength(1);
        return found;
      });
      if (results[0] === "") return "done";
      expect(results[0]).toContain("belongs to node n2, not to n1");
      return "refused";
    },
    "look into the server": async () => {
      const client = new IntrospectionServiceClient(this.#address, this.#channel, CHANNEL_OPTIONS);
      try {
        return await new Promise((resolve) => client.getStatus({}, (error: ServiceError | null) => resolve(answerOf(error ?? { code: status.OK }))));
      } finally {
        client.close();
      }
    },
    "be a relay": async () => {
      const client = new RawRelayClient(this.#address, this.#channel, CHANNEL_OPTIONS);
      try {
        const open = client["relay"]?.bind(client) as ((metadata: Metadata) => NodeJS.EventEmitter & { cancel(): void }) | undefined;
        const stream = open?.(new Metadata()) ?? expect.fail("no method relay");
        stream.on("error", () => undefined);
        stream.on("data", () => undefined);
        const ended = await new Promise<StatusObject>((resolve) => stream.on("status", resolve));
        // A relay that says nothing is ended for that, and only a relay comes so far.
        return ended.code === status.INVALID_ARGUMENT && ended.details === "no RelayHello in time" ? "done" : answerOf(ended);
      } finally {
        client.close();
      }
    },
  };

  async #unary(call: (client: SyncServiceClient, done: (error: ServiceError | null) => void) => unknown): Promise<Answer> {
    const client = new SyncServiceClient(this.#address, this.#channel, CHANNEL_OPTIONS);
    try {
      return await new Promise((resolve) => call(client, (error) => resolve(answerOf(error ?? { code: status.OK }))));
    } finally {
      client.close();
    }
  }
}

function reportOf(block: Block, generation: bigint, ...addresses: readonly string[]): EndpointReport {
  const allocations = addresses.map((address) => ({
    address: Buffer.from(ipBytes(parseIp(address))),
    handle: "k8s-pod-network.c",
    namespace: "shop",
    pod: "secret",
  }));
  return { block: block.cidr, generation, allocations, claim: block.claim, of: undefined, lent: [], declined: [] };
}

describe.each(Object.keys(PLACES))("certificates at a %s", (kind) => {
  let place: Place;
  let directory: string;
  let right: CertificateAuthority;
  let other: CertificateAuthority;
  let victim: GrpcAgent;
  let block: Block;
  let allocations: () => readonly BlockAllocation[] | undefined;

  const channelOf = ({ cert, key }: CertificatePem): ChannelCredentials =>
    credentials.createSsl(Buffer.from(right.cert), Buffer.from(key), Buffer.from(cert), { checkServerIdentity: () => undefined });

  beforeAll(async () => {
    [right, other] = [await createCertificateAuthority(), await createCertificateAuthority()];
    directory = await mkdtemp(join(tmpdir(), "sedge-attacks-"));
    const ca = join(directory, "ca.pem");
    await writeFile(ca, right.cert);
    const filesOf = async (name: string, uri: string): Promise<TlsFiles> => {
      const files = { ca, cert: join(directory, `${name}.pem`), key: join(directory, `${name}.key`) };
      await writePair(files, await right.issue({ commonName: name, uris: [uri], hosts: ["localhost"] }));
      return files;
    };
    const files = await Promise.all([filesOf("fanout", "spiffe://sedge/fanout"), filesOf("own", "spiffe://sedge/relay/own")]);
    place = await (PLACES[kind] ?? expect.fail(kind))(...files);
    const own = channelOf(await right.issue(N2));
    victim = new GrpcAgent({ address: place.address, node: "n2", credentials: own });
    await until(() => expect(victim.isLive).toBe(true));
    const claims = new SyncServiceClient(place.address, own, CHANNEL_OPTIONS);
    const claimed = await new Promise<ClaimBlockResponse>((resolve, reject) =>
      claims.claimBlock(CLAIM, (error: ServiceError | null, response: ClaimBlockResponse) => (error === null ? resolve(response) : reject(error))),
    );
    claims.close();
    block = claimed.block ?? expect.fail("no block was given");
    const cidr = prefixFromWire(block.cidr ?? expect.fail("a block without a prefix"));
    allocations = () => place.root.store.find("IPAMBlock", blockName(cidr))?.allocations;
    victim.stream.write(encodeEndpointReport(reportOf(block, 1n, cidr.split("/")[0] ?? "")));
    await until(() => expect(allocations()).toMatchObject([{ pod: "shop/secret", node: "n2" }]));
  }, 60_000);
  afterAll(async () => {
    victim[Symbol.dispose]();
    await place.stop();
    await rm(directory, { recursive: true, force: true });
  }, 30_000);

  it.each(Object.entries(CERTIFICATES) as [string, Shown][])(
    "%s",
    async (_name, { pair, answers }) => {
      const attacker = new Attacker({ address: place.address, channel: channelOf(await pair({ right, other })), block });
      const found: Partial<Record<Call, Answer>> = {};
      for (const [call, act] of Object.entries(attacker.calls) as [Call, () => Promise<Answer>][]) found[call] = await act();
      expect(found).toEqual(answers);
      expect(allocations()).toMatchObject([{ pod: "shop/secret", node: "n2" }]);
      expect([victim.status, victim.isLive]).toEqual([undefined, true]);
    },
    30_000,
  );

  it("n2's own: all that is denied to others, so that the denials above mean something", async () => {
    const { calls } = new Attacker({ address: place.address, channel: channelOf(await right.issue(N2)), block });
    expect([await calls["n2's blocks"](), await calls["look into the server"](), await calls["be a relay"]()]).toEqual(["done", "denied", "denied"]);
    expect(await calls["n2's view"]()).toBe("done");
  });
});
