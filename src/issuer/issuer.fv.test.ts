/** The program with an authority in files, an agent's enrollment against it, and clients that others wrote (openssl, curl). No API server. */
import { execFile, execFileSync, spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type TLSSocket } from "node:tls";
import { promisify } from "node:util";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { readCertificateFile } from "../../agent/enroll/certificate-file.ts";
import { Enrollment } from "../../agent/enroll/enrollment.ts";
import { enroll } from "../../agent/enroll/est-client.ts";
import { createCertificateRequest } from "../runtime/certificate-request.ts";
import { systemClock } from "../runtime/clock.ts";
import { silentLogger } from "../runtime/log.ts";
import { createCertificateAuthority } from "../runtime/tls.ts";
import { issuerConfigSchema } from "./config.ts";
import { Issuer } from "./issuer.ts";

const TOKEN = "n1-token-of-the-test";
const authority = await createCertificateAuthority();
const other = await createCertificateAuthority();
const registry = new Registry();
const stop = new AbortController();
const hasTools = spawnSync("openssl", ["version"]).status === 0 && spawnSync("curl", ["--version"]).status === 0;
let directory = "";
let server = "";
let running: Promise<void>;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sedge-issuer-"));
  await writeFile(join(directory, "ca.crt"), authority.cert);
  await writeFile(join(directory, "ca.key"), authority.key, { mode: 0o600 });
  await writeFile(join(directory, "tokens"), `${TOKEN} n1\n`);
  await writeFile(join(directory, "token"), TOKEN);
  const config = issuerConfigSchema.parse({
    listen: "127.0.0.1:0",
    authority: "files",
    caCert: join(directory, "ca.crt"),
    caKey: join(directory, "ca.key"),
    tokenFile: join(directory, "tokens"),
    tokenReview: false,
    signRequests: false,
  });
  const issuer = await Issuer.create({ config, client: undefined, clock: systemClock, log: silentLogger(), registry, signal: stop.signal });
  server = `127.0.0.1:${await issuer.listen()}`;
  running = issuer.run(stop.signal);
});
afterAll(async () => {
  stop.abort();
  await running;
  await rm(directory, { recursive: true, force: true });
});

const request = await createCertificateRequest({ commonName: "n1", uris: ["spiffe://sedge/node/n1"] });
const ask = (credential: Parameters<typeof enroll>[0]["credential"]) =>
  enroll({ server, authority: authority.cert, request: request.request, credential, signal: stop.signal });

describe("the issuer over HTTPS", () => {
  it("an agent enrolls: token, then its own certificate", async () => {
    const file = join(directory, "node.pem");
    const ended = new AbortController();
    const enrollment = new Enrollment({
      node: "n1",
      servers: ["127.0.0.1:1", server],
      authorityFile: join(directory, "ca.crt"),
      tokenFile: join(directory, "token"),
      file,
      clock: systemClock,
      log: silentLogger(),
    });
    const part = enrollment.run(ended.signal);
    onTestFinished(async () => {
      ended.abort();
      await part;
    });
    await enrollment.untilUsable(stop.signal);
    const first = await readCertificateFile(file, "n1");
    if (first === undefined) throw new Error("not stored");
    await expect(ask({ kind: "certificate", ...first })).resolves.toMatchObject({ kind: "issued" });
    const metrics = await registry.metrics();
    expect(metrics).toMatch(/sedge_issuer_requests_total\{outcome="issued",credential="token-file"\} 1/);
    expect(metrics).toMatch(/sedge_issuer_requests_total\{outcome="issued",credential="certificate"\} 1/);
  });

  it.each([
    ["expired", authority, { notBefore: new Date(Date.now() - 2 * 86_400_000), validForMs: 86_400_000 }],
    ["not yet valid", authority, { notBefore: new Date(Date.now() + 86_400_000) }],
    ["of another authority of the same name", other, {}],
  ] as const)("a certificate that is %s is no credential", async (_what, by, options) => {
    const { cert, key } = await by.issue({ commonName: "n1", uris: ["spiffe://sedge/node/n1"], ...options });
    await expect(ask({ kind: "certificate", certificates: cert, key })).resolves.toMatchObject({ kind: "refused" });
  });

  it("a server's and an operator's certificate are no node's", async () => {
    for (const uri of ["spiffe://sedge/fanout", "spiffe://sedge/operator"]) {
      const { cert, key } = await authority.issue({ commonName: "n1", uris: [uri] });
      await expect(ask({ kind: "certificate", certificates: cert, key })).resolves.toMatchObject({ kind: "refused" });
    }
  });

  it("the agent does not talk to who is no issuer", async () => {
    await expect(
      enroll({ server, authority: other.cert, request: request.request, credential: { kind: "token", token: TOKEN }, signal: stop.signal }),
    ).rejects.toThrow(/self-signed|unable to (get|verify)/i);
  });

  it.skipIf(!hasTools)(`openssl makes the key and the request, curl asks${hasTools ? "" : " (openssl or curl is not installed)"}`, async () => {
    const at = (name: string): string => join(directory, name);
    execFileSync("openssl", ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", at("k")]);
    execFileSync("openssl", ["req", "-new", "-key", at("k"), "-subj", "/CN=n1", "-outform", "DER", "-out", at("r.der")]);
    // The server is in this process: it must be able to answer.
    const curl = async (...more: string[]): Promise<string> => {
      const common = ["-s", "-S", "-k", "--max-time", "20", "-H", "content-type: application/pkcs10", "--data-binary", `@${at("r.der")}`];
      return (await promisify(execFile)("curl", [...common, ...more], { encoding: "utf8" })).stdout;
    };
    const answer = await curl("-H", `authorization: Bearer ${TOKEN}`, `https://${server}/.well-known/est/simpleenroll`);
    const pem = execFileSync("openssl", ["pkcs7", "-inform", "DER", "-print_certs"], { input: Buffer.from(answer, "base64"), encoding: "utf8" });
    expect(execFileSync("openssl", ["x509", "-noout", "-ext", "subjectAltName"], { input: pem, encoding: "utf8" })).toContain("URI:spiffe://sedge/node/n1");
    execFileSync("sh", ["-c", 'cat > "$0"', at("c.pem")], { input: pem });
    expect(execFileSync("openssl", ["verify", "-CAfile", at("ca.crt"), at("c.pem")], { encoding: "utf8" })).toMatch(/: OK/);
    const again = await curl("--cert", at("c.pem"), "--key", at("k"), `https://${server}/.well-known/est/simplereenroll`);
    expect(Buffer.from(again, "base64").length).toBeGreaterThan(300);
  });

  it("what is too long, too slow or no TLS 1.3 is turned away, and others are served meanwhile", async () => {
    const [host = "", port = ""] = server.split(":");
    const open = (): Promise<TLSSocket> =>
      new Promise((resolve, reject) => {
        const socket = connect({ host, port: Number(port), ca: authority.cert, checkServerIdentity: () => undefined }, () => resolve(socket));
        socket.once("error", reject);
      });
    const silent = await open();
    onTestFinished(() => {
      silent.destroy();
    });
    const long = await open();
    const answer = new Promise<string>((resolve) => {
      let text = "";
      long.on("data", (chunk: Buffer) => {
        text += chunk.toString();
        if (text.includes("\r\n")) resolve(text);
      });
      long.on("error", () => undefined);
    });
    long.write(
      `POST /.well-known/est/simpleenroll HTTP/1.1\r\nhost: x\r\ncontent-type: application/pkcs10\r\ncontent-length: 40000\r\n\r\n${"A".repeat(20_000)}`,
    );
    expect(await answer).toMatch(/^HTTP\/1\.1 413 /);
    long.destroy();
    const old = await new Promise<string>((resolve) => {
      const socket = connect({ host, port: Number(port), ca: authority.cert, maxVersion: "TLSv1.2", checkServerIdentity: () => undefined }, () =>
        resolve("connected"),
      );
      socket.once("error", (error) => resolve(error.message));
    });
    expect(old).toMatch(/protocol version|alert/i);
    await vi.waitFor(() => expect(ask({ kind: "token", token: TOKEN })).resolves.toMatchObject({ kind: "issued" }));
  });

  it("a file that cannot be used is an error that names it", async () => {
    const create = (change: Readonly<Record<string, unknown>>): Promise<unknown> =>
      Issuer.create({
        config: issuerConfigSchema.parse({
          listen: "127.0.0.1:0",
          authority: "files",
          caCert: join(directory, "ca.crt"),
          caKey: join(directory, "ca.key"),
          tokenFile: join(directory, "tokens"),
          tokenReview: false,
          signRequests: false,
          ...change,
        }),
        client: undefined,
        clock: systemClock,
        log: silentLogger(),
        registry: new Registry(),
        signal: stop.signal,
      });
    await expect(create({ caKey: join(directory, "tokens") })).rejects.toThrow(/--ca-key .*tokens cannot be used/);
    await expect(create({ caCert: "/nonexistent" })).rejects.toThrow(/--ca-cert \/nonexistent: ENOENT/);
    await writeFile(join(directory, "bad"), "one-token-without-a-node\n");
    await expect(create({ tokenFile: join(directory, "bad") })).rejects.toThrow(/--token-file .*bad: line 1: want TOKEN NODE/);
    expect((await readFile(join(directory, "bad"), "utf8")).length).toBeGreaterThan(0);
  });
});
