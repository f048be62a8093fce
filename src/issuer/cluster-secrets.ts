/**
 * What the issuer keeps in the cluster: the authority in a Secret that it makes when there is none, and what comes of it for others to mount: the
 * authority's certificate in a ConfigMap, the server's and the operator's certificates in Secrets.
 *
 * Invariant: nothing is overwritten that the issuer has not made (label app.kubernetes.io/managed-by: sedge-issuer), so certificates of another origin can
 * stand in the same places. Every write is a compare-and-swap: of two issuers one wins, and both use the winner's.
 */
import { X509Certificate } from "node:crypto";
import type { ApiClient } from "../datastore/api-client.ts";
import { ApiError } from "../datastore/api-error.ts";
import type { ApiResource } from "../datastore/api-resources.ts";
import { type JsonObject, objectAt, stringAt } from "../datastore/json-object.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../runtime/log.ts";
import { jittered } from "../runtime/retry.ts";
import { StartError } from "../runtime/start-error.ts";
import type { Part } from "../runtime/supervisor.ts";
import { type CertificateAuthority, createCertificateAuthority, loadCertificateAuthority } from "../runtime/tls.ts";
import { OPERATOR_URI, RELAY_URI, SERVER_URI } from "../wire/identity-uris.ts";

const SECRET: ApiResource = { kind: "Secret", group: "", version: "v1", plural: "secrets", isNamespaced: true, hasProtobuf: false };
const CONFIG_MAP: ApiResource = { kind: "ConfigMap", group: "", version: "v1", plural: "configmaps", isNamespaced: true, hasProtobuf: false };

/** Secrets with tls.crt, tls.key and ca.crt. */
export const PUBLISHED = [
  { secret: "sedge-fanout-tls", commonName: "sedge-fanout", uri: SERVER_URI },
  { secret: "sedge-relay-tls", commonName: "sedge-relay", uri: `${RELAY_URI}sedge-relay` },
  { secret: "sedge-operator-tls", commonName: "sedge-operator", uri: OPERATOR_URI },
] as const;

const MANAGED = { "app.kubernetes.io/managed-by": "sedge-issuer" };
const LOOK_MS = 600_000;
const RETRY_MS = 5_000;
const DAY_MS = 86_400_000;

export interface ClusterSecretsOptions {
  readonly client: Pick<ApiClient, "create" | "get" | "update">;
  readonly clock: Clock;
  readonly log: Logger;
  readonly namespace: string;
  /** Of the Secret with the authority and of the ConfigMap with its certificate. */
  readonly name: string;
}

/** The authority in the Secret; made when there is none. Throws StartError when it is there and cannot be used; rejects when the API cannot be reached. */
export async function authorityInCluster({ client, log, name, namespace }: ClusterSecretsOptions, signal: AbortSignal): Promise<CertificateAuthority> {
  const found = await find(client, SECRET, { name, namespace }, signal);
  if (found !== undefined) return await load(found, `Secret ${namespace}/${name}`);
  const made = await createCertificateAuthority();
  try {
    const data = { "tls.crt": base64(made.cert), "tls.key": base64(made.key) };
    await client.create(
      SECRET,
      { apiVersion: "v1", kind: "Secret", metadata: { name, namespace, labels: MANAGED }, type: "kubernetes.io/tls", data },
      { signal },
    );
    log.info({ secret: `${namespace}/${name}` }, "a certificate authority was made");
    return made;
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 409)) throw error;
    return await load(await client.get(SECRET, { name, namespace }, { signal }), `Secret ${namespace}/${name}`);
  }
}

async function load(secret: JsonObject, where: string): Promise<CertificateAuthority> {
  const data = objectAt(secret, "data");
  const [cert, key] = [textAt(data, "tls.crt"), textAt(data, "tls.key")];
  if (cert === "" || key === "")
    throw new StartError(`${where} has no tls.crt and tls.key: put the authority there, or delete the Secret and a new one is made`);
  try {
    const authority = await loadCertificateAuthority({ cert, key });
    if (!new X509Certificate(cert).ca) throw new TypeError("tls.crt is no certificate of an authority");
    return authority;
  } catch (error) {
    throw new StartError(
      `${where} cannot be used as an authority: ${error instanceof Error ? error.message : String(error)}; want an ECDSA P-256 key in PKCS#8`,
      {
        cause: error,
      },
    );
  }
}

/** Keeps what others mount: at the start, and long before a certificate's end. */
export class PublishedCertificates implements Part {
  readonly name = "published-certificates";
  readonly #options: ClusterSecretsOptions & { readonly authority: CertificateAuthority };
  readonly #validForMs = 90 * DAY_MS;

  constructor(options: ClusterSecretsOptions & { readonly authority: CertificateAuthority }) {
    this.#options = options;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    while (!signal.aborted) {
      let pauseMs = LOOK_MS;
      try {
        await this.pass(signal);
      } catch (error) {
        pauseMs = RETRY_MS;
        if (!signal.aborted) log.warn({ err: error }, "the certificates for servers and operators could not be published: trying again");
      }
      await clock.sleep(jittered(pauseMs), signal);
    }
  }

  async pass(signal: AbortSignal): Promise<void> {
    const { authority, name } = this.#options;
    await this.#keep(CONFIG_MAP, name, signal, (data) =>
      data?.["ca.crt"] === authority.cert ? undefined : Promise.resolve({ data: { "ca.crt": authority.cert } }),
    );
    for (const { commonName, secret, uri } of PUBLISHED)
      await this.#keep(SECRET, secret, signal, (data) => {
        if (this.#isGood(data)) return undefined;
        return authority.issue({ commonName, uris: [uri], validForMs: this.#validForMs }).then(({ cert, key }) => ({
          type: "kubernetes.io/tls",
          data: { "tls.crt": base64(cert), "tls.key": base64(key), "ca.crt": base64(authority.cert) },
        }));
      });
  }

  /** `wanted` gives undefined when what is there stays. */
  async #keep(
    resource: ApiResource,
    name: string,
    signal: AbortSignal,
    wanted: (data: JsonObject | undefined) => Promise<JsonObject> | undefined,
  ): Promise<void> {
    const { client, log, namespace } = this.#options;
    const facts = { object: `${resource.kind} ${namespace}/${name}` };
    const found = await find(client, resource, { name, namespace }, signal);
    const labels = objectAt(objectAt(found, "metadata"), "labels");
    if (found !== undefined && labels?.["app.kubernetes.io/managed-by"] !== MANAGED["app.kubernetes.io/managed-by"]) {
      log.debug(facts, "left as it is: the issuer has not made it");
      return;
    }
    const content = await wanted(objectAt(found, "data"));
    if (content === undefined) return;
    try {
      if (found === undefined)
        await client.create(resource, { apiVersion: "v1", kind: resource.kind, metadata: { name, namespace, labels: MANAGED }, ...content }, { signal });
      else await client.update(resource, { ...found, data: content["data"] }, { signal });
      log.info(facts, "published");
    } catch (error) {
      // Another issuer was first: what it wrote is as good.
      if (!(error instanceof ApiError && error.status === 409)) throw error;
    }
  }

  /** Ours, and less than two thirds of its time is over. */
  #isGood(data: JsonObject | undefined): boolean {
    const { authority, clock } = this.#options;
    try {
      const certificate = new X509Certificate(textAt(data, "tls.crt"));
      const renewAt = Date.parse(certificate.validFrom) + ((Date.parse(certificate.validTo) - Date.parse(certificate.validFrom)) * 2) / 3;
      return (
        certificate.checkIssued(new X509Certificate(authority.cert)) &&
        certificate.verify(new X509Certificate(authority.cert).publicKey) &&
        clock.wallTime() < renewAt
      );
    } catch {
      return false;
    }
  }
}

async function find(
  client: Pick<ApiClient, "get">,
  resource: ApiResource,
  name: { readonly name: string; readonly namespace: string },
  signal: AbortSignal,
): Promise<JsonObject | undefined> {
  try {
    return await client.get(resource, name, { signal });
  } catch (error) {
    if (error instanceof ApiError && error.status === 404 && error.reason === "NotFound") return undefined;
    throw error;
  }
}

function textAt(data: JsonObject | undefined, key: string): string {
  return Buffer.from(stringAt(data, key) ?? "", "base64").toString("utf8");
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}
