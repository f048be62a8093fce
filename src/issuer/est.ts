/**
 * Enrollment over Secure Transport (RFC 7030): a request as a value in, an answer as a value out. The three operations that a node needs:
 *
 *     GET  /.well-known/est/cacerts         the authority (4.1)
 *     POST /.well-known/est/simpleenroll    a first certificate, with a token or a certificate (4.2.1)
 *     POST /.well-known/est/simplereenroll  another one, with the certificate that the node has (4.2.2)
 *
 * Tokens come as `Authorization: Bearer`, where the RFC has HTTP Basic: service account tokens are bearer tokens. A request that waits for an approval is
 * answered 202 with Retry-After, and is asked for again with the same body (4.2.3).
 *
 * Invariant: the names in a certificate come from the credential; what the request says is only compared with it.
 */
import { type CertificateRequest, CertificateRequestError, packCertificates, parseCertificateRequest } from "../runtime/certificate-request.ts";
import type { Applicant, CredentialKind, TokenJudge } from "./applicant.ts";
import type { CertificateSource } from "./certificate-source.ts";
import { nodeOfRequest } from "./node-request.ts";

export interface EstRequest {
  readonly method: string;
  readonly path: string;
  readonly contentType: string;
  /** Base64 of a PKCS#10 request, or its DER or PEM. */
  readonly body: Buffer;
  readonly bearer: string | undefined;
  /** Of the client certificate, verified against the authority; undefined: there is none. */
  readonly applicant: Applicant | undefined;
}

export interface EstAnswer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface EstServiceOptions {
  readonly source: CertificateSource;
  readonly judge: TokenJudge;
  /** Whether a Node of that name exists; asked for credentials that name no node. */
  readonly nodeExists: (node: string, signal: AbortSignal) => Promise<boolean>;
  readonly onOutcome: (outcome: EstOutcome) => void;
}

export interface EstOutcome {
  readonly outcome: "issued" | "pending" | "refused" | "failed";
  readonly by: CredentialKind | "none";
  readonly node?: string;
  /** Why not; for the log. */
  readonly reason?: string;
  readonly error?: unknown;
}

const PREFIX = "/.well-known/est/";
const PKCS7 = "application/pkcs7-mime; smime-type=certs-only";

/** A refusal that is the answer. */
class Refusal extends Error {
  override readonly name = "Refusal";
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

export class EstService {
  readonly #options: EstServiceOptions;

  constructor(options: EstServiceOptions) {
    this.#options = options;
  }

  async handle(request: EstRequest, signal: AbortSignal): Promise<EstAnswer> {
    const operation = request.path.startsWith(PREFIX) ? request.path.slice(PREFIX.length) : "";
    const wanted = ({ cacerts: "GET", simpleenroll: "POST", simplereenroll: "POST" } as const)[operation];
    if (wanted === undefined)
      return text(404, `there is nothing at ${request.path}: want ${PREFIX}cacerts, ${PREFIX}simpleenroll or ${PREFIX}simplereenroll\n`);
    if (request.method !== wanted) return { ...text(405, `want ${wanted}\n`), headers: { allow: wanted } };
    if (operation === "cacerts") return { status: 200, ...packed([this.#options.source.authorityPem()]) };
    return await this.#enroll(request, operation === "simplereenroll", signal);
  }

  async #enroll(request: EstRequest, isAgain: boolean, signal: AbortSignal): Promise<EstAnswer> {
    const { onOutcome, source } = this.#options;
    let by: EstOutcome["by"] = "none";
    let node: string | undefined;
    try {
      const content = await contentOf(request);
      const applicant = await this.#applicant(request, isAgain, signal);
      by = applicant.by;
      node = await this.#nodeFor(applicant, content, signal);
      const issued = await source.issue(content, node, signal);
      switch (issued.kind) {
        case "issued":
          onOutcome({ outcome: "issued", by, node });
          return { status: 200, ...packed(issued.certificates) };
        case "pending":
          onOutcome({ outcome: "pending", by, node });
          return {
            ...text(202, "waiting for an approval: ask again with the same request\n"),
            headers: { "retry-after": String(Math.ceil(issued.retryAfterMs / 1_000)) },
          };
        case "denied":
          throw new Refusal(403, issued.reason);
      }
    } catch (error) {
      const facts = { by, ...(node === undefined ? {} : { node }) };
      if (error instanceof Refusal) {
        onOutcome({ outcome: "refused", ...facts, reason: error.message });
        return { ...text(error.status, `${error.message}\n`), headers: error.headers };
      }
      onOutcome({ outcome: "failed", ...facts, error });
      return { ...text(503, "the request cannot be judged at the moment: ask again\n"), headers: { "retry-after": "5" } };
    }
  }

  async #applicant({ applicant, bearer }: EstRequest, isAgain: boolean, signal: AbortSignal): Promise<Applicant> {
    if (applicant !== undefined) return applicant;
    if (isAgain) throw new Refusal(403, "simplereenroll wants the node's certificate, signed by this authority and still good, in the handshake");
    if (bearer === undefined)
      throw new Refusal(401, "want a token (Authorization: Bearer TOKEN), or a node's certificate of this authority in the handshake", {
        "www-authenticate": "Bearer",
      });
    const judged = await this.#options.judge(bearer, signal);
    if (judged === undefined)
      throw new Refusal(401, "the token is not known, has expired, is for another audience, or is of an account that is no agent's", {
        "www-authenticate": 'Bearer error="invalid_token"',
      });
    return judged;
  }

  async #nodeFor(applicant: Applicant, content: CertificateRequest, signal: AbortSignal): Promise<string> {
    const { node, problem } = nodeOfRequest(content);
    if (problem !== undefined) throw new Refusal(400, problem);
    if (applicant.kind === "node" && applicant.node !== node)
      throw new Refusal(403, `the request is for node ${node}, the credential (${applicant.by}) is of node ${applicant.node}`);
    if (applicant.kind === "any-node" && !(await this.#options.nodeExists(node, signal)))
      throw new Refusal(403, `there is no Node ${node}: the token gives certificates of nodes that have joined the cluster`);
    return node;
  }
}

async function contentOf({ body, contentType }: EstRequest): Promise<CertificateRequest> {
  if (!/^application\/pkcs10\b/i.test(contentType)) throw new Refusal(415, `the content type is ${JSON.stringify(contentType)}: want application/pkcs10`);
  try {
    return await parseCertificateRequest(
      body[0] === 0x30 ? body : body.includes("-----BEGIN") ? body.toString("latin1") : Buffer.from(body.toString("latin1"), "base64"),
    );
  } catch (error) {
    if (error instanceof CertificateRequestError) throw new Refusal(400, error.message);
    throw error;
  }
}

function packed(certificates: readonly string[]): Omit<EstAnswer, "status"> {
  const base64 = Buffer.from(packCertificates(certificates)).toString("base64");
  return { type: PKCS7, body: base64.replaceAll(/.{64}/g, "$&\n"), headers: { "content-transfer-encoding": "base64" } };
}

function text(status: number, body: string): EstAnswer {
  return { status, type: "text/plain", body };
}
