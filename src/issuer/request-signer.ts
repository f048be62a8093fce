/**
 * The signer of our signerName in the Kubernetes CSR API: approves what needs no person, signs what is approved, denies what asks for another's name.
 *
 * Invariant: a request is approved here only when who made it is the node itself (user system:node:NAME, as the kubelet's credential says) or an issuer of
 * ours, which has authenticated the node. Several signers may run: every write is a compare-and-swap, and the loser finds it done.
 *
 * Looks again and again rather than watching: requests come with new nodes and once in a certificate's life, and a look is one cached list by field.
 */
import type { ApiClient } from "../datastore/api-client.ts";
import { ApiError } from "../datastore/api-error.ts";
import { type JsonObject, tryJsonObject } from "../datastore/json-object.ts";
import { type CertificateRequest, parseCertificateRequest } from "../runtime/certificate-request.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../runtime/log.ts";
import { jittered } from "../runtime/retry.ts";
import type { Part } from "../runtime/supervisor.ts";
import type { CertificateAuthority } from "../runtime/tls.ts";
import { NODE_URI } from "../wire/identity-uris.ts";
import { nodeOfRequest } from "./node-request.ts";
import { NODE_USAGES, parseSigningRequest, SIGNING_REQUEST, type SigningRequest, withCertificate, withCondition } from "./signing-requests.ts";

export interface RequestSignerOptions {
  readonly client: Pick<ApiClient, "list" | "update">;
  readonly authority: CertificateAuthority;
  readonly clock: Clock;
  readonly log: Logger;
  readonly signerName: string;
  /** Users whose requests are for nodes that they have authenticated: the issuers' service account. */
  readonly trustedUsers: ReadonlySet<string>;
  readonly validForMs: number;
  readonly intervalMs?: number;
  readonly onDecision?: (decision: SignerDecision["kind"]) => void;
}

/** What is to be done with a request. */
export type SignerDecision =
  | { readonly kind: "leave" }
  | { readonly kind: "approve"; readonly reason: string }
  | { readonly kind: "deny"; readonly reason: string }
  | { readonly kind: "fail"; readonly reason: string }
  | { readonly kind: "sign"; readonly node: string; readonly publicKey: Uint8Array };

const ALLOWED_USAGES: ReadonlySet<string> = new Set([...NODE_USAGES, "key encipherment"]);
const NODE_USER = "system:node:";

/** `content`: the request inside, or what is wrong with it. Pure. */
export function decide(request: SigningRequest, content: CertificateRequest | { readonly problem: string }, trustedUsers: ReadonlySet<string>): SignerDecision {
  if (request.certificate !== undefined || request.state === "denied" || request.state === "failed") return { kind: "leave" };
  const isNode = request.username.startsWith(NODE_USER);
  const isOurs = isNode || trustedUsers.has(request.username);
  const refuse = (reason: string): SignerDecision =>
    request.state === "approved" ? { kind: "fail", reason } : isOurs ? { kind: "deny", reason } : { kind: "leave" };
  if ("problem" in content) return refuse(content.problem);
  const { node, problem } = nodeOfRequest(content);
  if (problem !== undefined) return refuse(problem);
  const tooMany = request.usages.filter((usage) => !ALLOWED_USAGES.has(usage));
  if (tooMany.length > 0) return refuse(`usages ${tooMany.join(", ")} are not given to nodes: want ${NODE_USAGES.join(", ")}`);
  if (request.state === "approved") return { kind: "sign", node, publicKey: content.publicKey };
  if (!isOurs) return { kind: "leave" };
  if (isNode && request.username !== `${NODE_USER}${node}`)
    return { kind: "deny", reason: `${request.username} may ask for a certificate of its own node only, not of ${node}` };
  return { kind: "approve", reason: isNode ? "asked for by the node itself" : "the issuer has authenticated the node" };
}

export class RequestSigner implements Part {
  readonly name = "request-signer";
  readonly #options: RequestSignerOptions & { readonly intervalMs: number };

  constructor(options: RequestSignerOptions) {
    this.#options = { intervalMs: 1_000, ...options };
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, intervalMs, log } = this.#options;
    let lastError = "";
    while (!signal.aborted) {
      try {
        await this.pass(signal);
        lastError = "";
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        if (!signal.aborted && message !== lastError) log.warn({ err: error }, "certificate signing requests cannot be looked at: trying again");
        lastError = message;
      }
      await clock.sleep(jittered(intervalMs), signal);
    }
  }

  /** One look at all requests for our signer. Rejects when they cannot be listed. */
  async pass(signal: AbortSignal): Promise<void> {
    const { client, signerName } = this.#options;
    const { items } = await client.list(SIGNING_REQUEST, { signal, query: { fieldSelector: `spec.signerName=${signerName}` } });
    for (const item of items) {
      const object = tryJsonObject(item);
      if (object !== undefined && !signal.aborted) await this.#settle(object, signal);
    }
  }

  async #settle(listed: JsonObject, signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    // The items of a list do not say what they are.
    let object: JsonObject = { apiVersion: "certificates.k8s.io/v1", kind: SIGNING_REQUEST.kind, ...listed };
    const { name } = parseSigningRequest(object);
    try {
      // Approving makes it ready to be signed.
      for (let step = 0; step < 2; step++) {
        const next = await this.#step(object, signal);
        if (next === undefined) return;
        object = next;
      }
    } catch (error) {
      if (signal.aborted) return;
      const isOvertaken = error instanceof ApiError && (error.status === 409 || error.status === 404);
      log[isOvertaken ? "debug" : "warn"]({ err: error, request: name }, "a certificate signing request could not be answered");
    }
  }

  /** The object after the write; undefined: nothing more is to be done. */
  async #step(object: JsonObject, signal: AbortSignal): Promise<JsonObject | undefined> {
    const { authority, client, clock, log, onDecision, trustedUsers, validForMs } = this.#options;
    const request = parseSigningRequest(object);
    const content = await parseCertificateRequest(request.request).catch((error: unknown) => ({
      problem: error instanceof Error ? error.message : String(error),
    }));
    const decision = decide(request, content, trustedUsers);
    if (decision.kind === "leave") return undefined;
    onDecision?.(decision.kind);
    const facts = { request: request.name, by: request.username };
    if (decision.kind === "sign") {
      const { node, publicKey } = decision;
      const certificate = await authority.certify(publicKey, {
        commonName: node,
        uris: [`${NODE_URI}${node}`],
        validForMs: Math.min(validForMs, request.expirationMs ?? validForMs),
      });
      await client.update(SIGNING_REQUEST, withCertificate(object, certificate), { signal, subresource: "status" });
      log.info({ ...facts, node }, "certificate signed");
      return undefined;
    }
    const at = new Date(clock.wallTime()).toISOString();
    const type = ({ approve: "Approved", deny: "Denied", fail: "Failed" } as const)[decision.kind];
    const reason = ({ approve: "SedgeNode", deny: "SedgeNodeMismatch", fail: "SignerValidationFailure" } as const)[decision.kind];
    const subresource = decision.kind === "fail" ? "status" : "approval";
    const after = await client.update(SIGNING_REQUEST, withCondition(object, { type, reason, message: decision.reason, at }), { signal, subresource });
    log.info({ ...facts, reason: decision.reason }, `certificate signing request: ${type.toLowerCase()}`);
    return decision.kind === "approve" ? after : undefined;
  }
}
