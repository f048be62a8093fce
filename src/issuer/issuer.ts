/**
 * The issuer as one part: EST in front, an authority or the Kubernetes CSR API behind. Wiring only; the program and the tests start it with what they have.
 */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Registry } from "prom-client";
import type { ApiClient } from "../datastore/api-client.ts";
import { ApiError } from "../datastore/api-error.ts";
import { API_RESOURCES } from "../datastore/api-resources.ts";
import type { Clock } from "../runtime/clock.ts";
import { parseHostAndPort } from "../runtime/host-port.ts";
import type { Logger } from "../runtime/log.ts";
import { StartError } from "../runtime/start-error.ts";
import { type Part, runAll } from "../runtime/supervisor.ts";
import { type CertificateAuthority, loadCertificateAuthority } from "../runtime/tls.ts";
import { ISSUER_URI } from "../wire/identity-uris.ts";
import { anyOf, fileTokens, type TokenJudge } from "./applicant.ts";
import { type CertificateSource, ownAuthority } from "./certificate-source.ts";
import { authorityInCluster, PublishedCertificates } from "./cluster-secrets.ts";
import type { IssuerConfig } from "./config.ts";
import { type EstOutcome, EstService } from "./est.ts";
import { EstServer, type EstTls } from "./est-server.ts";
import { kubernetesSource } from "./kubernetes-source.ts";
import { type IssuerMetrics, issuerMetrics } from "./metrics.ts";
import { RequestSigner } from "./request-signer.ts";
import { reviewedTokens } from "./token-review.ts";

export interface IssuerOptions {
  readonly config: IssuerConfig;
  /** undefined: it works without an API server (`isStandalone`). */
  readonly client: ApiClient | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: Registry;
  readonly signal: AbortSignal;
}

const HOUR_MS = 3_600_000;
/** The issuer's own certificate, when its authority signs it: made anew with each start and this often. */
const OWN_VALID_MS = 48 * HOUR_MS;
const OWN_RENEW_MS = 24 * HOUR_MS;

export class Issuer implements Part {
  readonly name = "issuer";
  readonly #server: EstServer;
  readonly #parts: readonly Part[];

  readonly #log: Logger;

  private constructor(server: EstServer, parts: readonly Part[], log: Logger) {
    this.#server = server;
    this.#parts = parts;
    this.#log = log;
  }

  /** Throws StartError for files and objects that cannot be used; rejects when the API is needed and cannot be reached. */
  static async create({ config, client, clock, log, registry, signal }: IssuerOptions): Promise<Issuer> {
    const validForMs = config.validityHours * HOUR_MS;
    const inCluster = client === undefined ? undefined : { client, clock, log, namespace: config.namespace, name: config.caSecret };
    const authority = await authorityOf(config, inCluster === undefined ? undefined : () => authorityInCluster(inCluster, signal));
    const authorityPem = (): string => authority?.cert ?? readFile("--ca-cert", config.caCert);
    const source: CertificateSource =
      authority === undefined
        ? kubernetesSource({ client: need(client), clock, signerName: config.signerName, authorityPem, validForMs })
        : ownAuthority(authority, { validForMs });
    const metrics: IssuerMetrics = issuerMetrics(registry, {
      inFlight: () => server.inFlight,
      authoritySecondsLeft: () => (Date.parse(new X509Certificate(authorityPem()).validTo) - clock.wallTime()) / 1_000,
    });
    const service = new EstService({
      source,
      judge: tokenJudge(config, client, clock),
      nodeExists: (node, stop) => (client === undefined ? Promise.resolve(true) : nodeExists(client, node, stop)),
      onOutcome: (outcome) => {
        metrics.outcome(outcome);
        logOutcome(log, outcome);
      },
    });
    const ownTls = (): Promise<EstTls> => servingCertificate(config, authority, authorityPem());
    const server: EstServer = new EstServer({ listen: parseHostAndPort(config.listen), service, log, tls: await ownTls() });
    const parts: Part[] = [servingPart(server, ownTls, clock)];
    if (authority !== undefined && inCluster !== undefined && config.authority === "secret") parts.push(new PublishedCertificates({ ...inCluster, authority }));
    if (authority !== undefined && client !== undefined && config.signRequests)
      parts.push(
        new RequestSigner({
          client,
          authority,
          clock,
          log,
          signerName: config.signerName,
          trustedUsers: new Set([`system:serviceaccount:${config.namespace}:sedge-issuer`]),
          validForMs,
          onDecision: (decision) => metrics.decision(decision),
        }),
      );
    return new Issuer(server, parts, log);
  }

  /** The port. Throws StartError. */
  listen(): Promise<number> {
    return this.#server.listen();
  }

  async run(signal: AbortSignal): Promise<void> {
    try {
      await runAll(this.#parts, { signal, log: this.#log });
    } finally {
      await this.#server.close();
    }
  }
}

/** undefined: others sign. */
async function authorityOf(config: IssuerConfig, inCluster: (() => Promise<CertificateAuthority>) | undefined): Promise<CertificateAuthority | undefined> {
  if (config.authority === "kubernetes") return undefined;
  if (config.authority === "secret") return await need(inCluster)();
  try {
    return await loadCertificateAuthority({ cert: readFile("--ca-cert", config.caCert), key: readFile("--ca-key", config.caKey) });
  } catch (error) {
    if (error instanceof StartError) throw error;
    throw new StartError(
      `--ca-cert ${config.caCert ?? ""} and --ca-key ${config.caKey ?? ""} cannot be used: ${error instanceof Error ? error.message : String(error)}; want an ECDSA P-256 key in PKCS#8`,
      { cause: error },
    );
  }
}

function tokenJudge(config: IssuerConfig, client: ApiClient | undefined, clock: Clock): TokenJudge {
  const judges: TokenJudge[] = [];
  if (config.tokenFile !== undefined) {
    try {
      judges.push(fileTokens(readFile("--token-file", config.tokenFile)));
    } catch (error) {
      if (error instanceof StartError) throw error;
      throw new StartError(`--token-file ${config.tokenFile}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
  }
  if (config.tokenReview) judges.push(reviewedTokens({ ...config, client: need(client), clock }));
  return anyOf(judges);
}

async function nodeExists(client: ApiClient, name: string, signal: AbortSignal): Promise<boolean> {
  try {
    await client.get(API_RESOURCES.Node, { name }, { signal });
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return false;
    throw error;
  }
}

async function servingCertificate({ tlsCert, tlsKey }: IssuerConfig, authority: CertificateAuthority | undefined, ca: string): Promise<EstTls> {
  if (tlsCert !== undefined || authority === undefined) return { cert: readFile("--tls-cert", tlsCert), key: readFile("--tls-key", tlsKey), ca };
  return { ...(await authority.issue({ commonName: "sedge-issuer", uris: [ISSUER_URI], validForMs: OWN_VALID_MS })), ca };
}

function servingPart(server: EstServer, tls: () => Promise<EstTls>, clock: Clock): Part {
  return {
    name: "serving-certificate",
    async run(signal) {
      for (;;) {
        await clock.sleep(OWN_RENEW_MS, signal);
        if (signal.aborted) return;
        server.use(await tls());
      }
    },
  };
}

function logOutcome(log: Logger, { by, error, node, outcome, reason }: EstOutcome): void {
  const facts = { node, credential: by, ...(reason === undefined ? {} : { reason }) };
  if (outcome === "failed") log.warn({ ...facts, err: error }, "a certificate could not be issued: the node asks again");
  else if (outcome === "refused") log.warn(facts, "certificate refused");
  else log.info(facts, outcome === "issued" ? "certificate issued" : "certificate waits for an approval");
}

function readFile(flag: string, path: string | undefined): string {
  try {
    return readFileSync(path ?? "", "utf8");
  } catch (error) {
    throw new StartError(`${flag} ${path ?? ""}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

function need<T>(value: T | undefined): T {
  if (value === undefined) throw new TypeError("needs the API server, and there is no client");
  return value;
}
