/**
 * Certificates by the Kubernetes CSR API: the issuer makes a CertificateSigningRequest for a node that it has authenticated, somebody approves and signs it.
 *
 * The object's name follows from node and key, so a node that asks again with the same key finds the same request; nothing is remembered here.
 */
import { createHash } from "node:crypto";
import type { ApiClient } from "../datastore/api-client.ts";
import { ApiError } from "../datastore/api-error.ts";
import type { JsonObject } from "../datastore/json-object.ts";
import type { CertificateRequest } from "../runtime/certificate-request.ts";
import type { Clock } from "../runtime/clock.ts";
import type { CertificateSource, Issued } from "./certificate-source.ts";
import { NODE_USAGES, parseSigningRequest, SIGNING_REQUEST, SIGNING_REQUEST_VERSION } from "./signing-requests.ts";

export interface KubernetesSourceOptions {
  readonly client: Pick<ApiClient, "create" | "get">;
  readonly clock: Clock;
  readonly signerName: string;
  readonly authorityPem: () => string;
  readonly validForMs: number;
}

/** An answer is worth waiting for that long; after it the node asks again. */
const WAIT_MS = 4_000;
const LOOK_MS = 250;
const RETRY_AFTER_MS = 5_000;

export function kubernetesSource({ client, clock, signerName, authorityPem, validForMs }: KubernetesSourceOptions): CertificateSource {
  return {
    authorityPem,
    async issue(request, node, signal) {
      const name = `sedge-node-${createHash("sha256").update(node).update("\0").update(request.publicKey).digest("hex").slice(0, 32)}`;
      const deadline = clock.now() + WAIT_MS;
      await makeOnce(name, request, node, signal);
      for (;;) {
        const answer = answerOf(await client.get(SIGNING_REQUEST, { name }, { signal }));
        if (answer.kind !== "pending" || clock.now() >= deadline || signal.aborted) return answer;
        await clock.sleep(LOOK_MS, signal);
      }
    },
  };

  async function makeOnce(name: string, request: CertificateRequest, node: string, signal: AbortSignal): Promise<void> {
    const spec = {
      signerName,
      request: Buffer.from(request.pem).toString("base64"),
      usages: NODE_USAGES,
      // The API takes no less than ten minutes.
      expirationSeconds: Math.max(600, Math.round(validForMs / 1_000)),
    };
    const labels = { "app.kubernetes.io/managed-by": "sedge-issuer" };
    const object = {
      apiVersion: SIGNING_REQUEST_VERSION,
      kind: SIGNING_REQUEST.kind,
      metadata: { name, labels, annotations: { "sedge.network/node": node } },
      spec,
    };
    try {
      await client.create(SIGNING_REQUEST, object, { signal });
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 409)) throw error;
    }
  }
}

function answerOf(object: JsonObject): Issued {
  const { certificate, message, name, state } = parseSigningRequest(object);
  if (certificate !== undefined) return { kind: "issued", certificates: [certificate] };
  if (state === "denied" || state === "failed")
    return {
      kind: "denied",
      reason: `CertificateSigningRequest ${name} was ${state === "denied" ? "denied" : "not signed"}${message === "" ? "" : `: ${message}`}`,
    };
  return { kind: "pending", retryAfterMs: RETRY_AFTER_MS };
}
