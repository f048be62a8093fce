/** Certificates that are wrong, and right ones that change while agents are connected, over both deliveries. */
import { writeFile } from "node:fs/promises";
import { connect } from "node:tls";
import { type ChannelCredentials, credentials, type ServiceError, status } from "@grpc/grpc-js";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { DELIVERY_KINDS } from "../../fanout/delivery/delivery.ts";
import { type CertificateAuthority, createCertificateAuthority } from "../../src/runtime/tls.ts";
import { IntrospectionServiceClient, SyncServiceClient } from "../../src/wire/service.ts";
import { CHANNEL_OPTIONS, certificates, GrpcAgent, namespace, node, pool, startFanout, upsert } from "../fakes/fanout-fixture.ts";

const DAY_MS = 86_400_000;
const WORLD = upsert(node("n1", 1), node("n2", 2), namespace("shop"), pool());
const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 20_000, interval: 5 });

/** Credentials that trust `trusted` and show a certificate of `issuer`. */
async function shown(
  issuer: CertificateAuthority,
  trusted: CertificateAuthority,
  options: Parameters<CertificateAuthority["issue"]>[0],
): Promise<ChannelCredentials> {
  const { cert, key } = await issuer.issue(options);
  return credentials.createSsl(Buffer.from(trusted.cert), Buffer.from(key), Buffer.from(cert));
}

/** Code of GetStatus's answer. */
async function answerTo(address: string, channel: ChannelCredentials): Promise<status> {
  const client = new IntrospectionServiceClient(address, channel, CHANNEL_OPTIONS);
  try {
    return await new Promise((resolve) => client.getStatus({}, (error: ServiceError | null) => resolve(error?.code ?? status.OK)));
  } finally {
    client.close();
  }
}

function agentFor(address: string, name: string, channel: ChannelCredentials): GrpcAgent {
  const agent = new GrpcAgent({ address, node: name, credentials: channel });
  onTestFinished(() => agent[Symbol.dispose]());
  return agent;
}

describe.each(DELIVERY_KINDS)("certificates over %s", (delivery) => {
  it("expired, not yet valid, self-signed, of another authority of the same name: no connection", async () => {
    await using pki = await certificates();
    await using f = await startFanout({ delivery, events: WORLD, tls: pki.tls });
    const other = await createCertificateAuthority();
    const { authority } = pki;
    const operator = { commonName: "sedge-operator" };
    expect(await answerTo(f.secureAddress, await shown(authority, authority, operator))).toBe(status.OK);
    const wrong: Readonly<Record<string, ChannelCredentials>> = {
      expired: await shown(authority, authority, { ...operator, notBefore: new Date(Date.now() - 2 * DAY_MS), validForMs: DAY_MS }),
      early: await shown(authority, authority, { ...operator, notBefore: new Date(Date.now() + DAY_MS) }),
      "of another authority": await shown(other, authority, operator),
      "self-signed": credentials.createSsl(Buffer.from(authority.cert), Buffer.from(other.key), Buffer.from(other.cert)),
    };
    for (const [what, channel] of Object.entries(wrong)) expect(await answerTo(f.secureAddress, channel), what).toBe(status.UNAVAILABLE);
  });

  it("a node may not have another's view, claim its blocks, or report for it, whatever its certificate says besides", async () => {
    await using pki = await certificates();
    await using f = await startFanout({ delivery, events: WORLD, tls: pki.tls });
    const identities = [
      { commonName: "n2", uris: ["spiffe://sedge/node/n1"] }, // the URI counts, not the name beside it
      { commonName: "n1" },
    ];
    for (const identity of identities) {
      const channel = await pki.client(identity);
      const own = agentFor(f.secureAddress, "n1", channel);
      const another = agentFor(f.secureAddress, "n2", channel);
      await until(() => expect([own.isLive, another.status?.code]).toEqual([true, status.PERMISSION_DENIED]));
      expect(another.view.records.size).toBe(0);
      const claims = new SyncServiceClient(f.secureAddress, channel, CHANNEL_OPTIONS);
      onTestFinished(() => claims.close());
      const code = (call: (done: (error: ServiceError | null) => void) => unknown): Promise<status> =>
        new Promise((resolve) => call((error) => resolve(error?.code ?? status.OK)));
      expect(await code((done) => claims.claimBlock({ node: "n2", ipVersion: 4, full: [], pools: [], borrow: 0, address: Buffer.alloc(0) }, done))).toBe(
        status.PERMISSION_DENIED,
      );
      expect(await code((done) => claims.listBlocks({ node: "n2", takeOver: [] }, done))).toBe(status.PERMISSION_DENIED);
    }
    const twoNames = agentFor(f.secureAddress, "n1", await pki.client({ commonName: "n1", uris: ["spiffe://sedge/node/n1", "spiffe://sedge/node/n2"] }));
    await until(() => expect(twoNames.status?.code).toBe(status.UNAUTHENTICATED));
  });

  it("everything is rotated under load: sessions live on and hear each commit, new ones need the new authority", async () => {
    await using pki = await certificates();
    await using f = await startFanout({ delivery, events: WORLD, tls: pki.tls });
    const agents = await Promise.all(Array.from({ length: 20 }, async (_, i) => agentFor(f.secureAddress, `w${i}`, await pki.client({ commonName: `w${i}` }))));
    await until(() => expect(agents.every(({ isLive }) => isLive)).toBe(true));
    const next = await createCertificateAuthority("next");
    const { cert, key } = await next.issue({ commonName: "fanout", hosts: ["localhost"] });
    for (let commit = 0; commit < 40; commit++) {
      f.server.sink(upsert(node(`m${commit}`, 10 + commit)));
      f.server.engine.settle();
      if (commit === 10) {
        await Promise.all([writeFile(pki.tls.cert, cert), writeFile(pki.tls.key, key), writeFile(pki.tls.ca, next.cert)]);
        f.server.reloadCertificates();
      }
    }
    await until(() => expect(agents.every(({ view }) => view.records.has("node/m39"))).toBe(true));
    expect(agents.map(({ status: ended }) => ended)).toEqual(agents.map(() => undefined));
    expect(await answerTo(f.secureAddress, await shown(next, next, { commonName: "sedge-operator" }))).toBe(status.OK);
    expect(await answerTo(f.secureAddress, await pki.client({ commonName: "sedge-operator" }))).toBe(status.UNAVAILABLE);
  });

  it("TLS 1.3 and nothing older, before and after a reload; the metric tells the time that is left", async () => {
    await using pki = await certificates();
    await using f = await startFanout({ delivery, events: WORLD, tls: pki.tls });
    const pair = await pki.authority.issue({ commonName: "n1" });
    const [host = "", port = ""] = f.secureAddress.split(":");
    const handshake = (maxVersion: "TLSv1.2" | "TLSv1.3"): Promise<string> =>
      new Promise((resolve) => {
        const socket = connect({
          host,
          port: Number(port),
          servername: "localhost",
          ca: pki.authority.cert,
          ...pair,
          maxVersion,
          minVersion: "TLSv1.2",
          ALPNProtocols: ["h2"],
        });
        socket.once("secureConnect", () => {
          resolve(socket.getProtocol() ?? "");
          socket.destroy();
        });
        socket.once("error", () => resolve("refused"));
      });
    const fresh = await pki.authority.issue({ commonName: "fanout", hosts: ["localhost"], validForMs: 10 * DAY_MS });
    for (const isReloaded of [false, true]) {
      if (isReloaded) {
        await Promise.all([writeFile(pki.tls.cert, fresh.cert), writeFile(pki.tls.key, fresh.key)]);
        f.server.reloadCertificates();
      }
      expect([await handshake("TLSv1.3"), await handshake("TLSv1.2")]).toEqual(["TLSv1.3", "refused"]);
    }
    const text = await f.registry.metrics();
    const left = Number(/^sedge_fanout_certificate_expiry_seconds (\S+)$/m.exec(text)?.[1]);
    expect(left / 86_400).toBeCloseTo(10, 1);
  });
});
