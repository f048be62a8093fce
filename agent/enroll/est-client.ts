/**
 * One request for a certificate over EST (RFC 7030 4.2): HTTPS, the issuer known by its URI spiffe://sedge/issuer or by the name dialled, as servers are.
 */
import { request } from "node:https";
import { checkServerIdentity } from "node:tls";
import { unpackCertificates } from "../../src/runtime/certificate-request.ts";
import { parseHostAndPort } from "../../src/runtime/host-port.ts";
import { ISSUER_URI, uriNames } from "../../src/wire/identity-uris.ts";

export interface EnrollCall {
  /** "HOST:PORT" */
  readonly server: string;
  /** PEM. */
  readonly authority: string;
  /** PKCS#10, DER. */
  readonly request: Uint8Array;
  readonly credential: EnrollCredential;
  readonly signal: AbortSignal;
}

export type EnrollCredential =
  | { readonly kind: "token"; readonly token: string }
  | { readonly kind: "certificate"; readonly certificates: string; readonly key: string };

export type EnrollAnswer =
  /** PEM, the leaf first. */
  | { readonly kind: "issued"; readonly certificates: string }
  /** Somebody must approve it; ask again with the same request. */
  | { readonly kind: "pending"; readonly retryAfterMs: number }
  /** The credential, or what was asked for, is not accepted. */
  | { readonly kind: "refused"; readonly reason: string };

const TIMEOUT_MS = 15_000;
const MAX_ANSWER_BYTES = 256 * 1024;

/** Rejects when there is no usable answer: nobody there, another's certificate, an error of the server; `retryAfterMs` on the error when it was told. */
export async function enroll({ authority, credential, request: content, server, signal }: EnrollCall): Promise<EnrollAnswer> {
  const { host, port } = parseHostAndPort(server);
  const operation = credential.kind === "certificate" ? "simplereenroll" : "simpleenroll";
  const body = Buffer.from(content).toString("base64");
  const { answer, headers, status } = await post({
    host,
    port,
    path: `/.well-known/est/${operation}`,
    signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    body,
    headers: credential.kind === "token" ? { authorization: `Bearer ${credential.token}` } : {},
    tls: { ca: authority, ...(credential.kind === "certificate" ? { cert: credential.certificates, key: credential.key } : {}) },
  });
  const retryAfterMs = Math.min(300_000, Math.max(0, Number(headers["retry-after"] ?? 0) * 1_000 || 0));
  if (status === 200) return { kind: "issued", certificates: unpackCertificates(Buffer.from(answer, "base64")).join("\n") };
  if (status === 202) return { kind: "pending", retryAfterMs };
  const reason = answer.trim().slice(0, 500);
  if (status === 400 || status === 401 || status === 403) return { kind: "refused", reason };
  throw Object.assign(new Error(`the issuer ${server} answered ${status}${reason === "" ? "" : `: ${reason}`}`), { retryAfterMs });
}

interface Post {
  readonly host: string;
  readonly port: number;
  readonly path: string;
  readonly signal: AbortSignal;
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: { readonly ca: string; readonly cert?: string; readonly key?: string };
}

function post({ body, headers, host, path, port, signal, tls }: Post): Promise<{ status: number; headers: Readonly<Record<string, unknown>>; answer: string }> {
  return new Promise((resolve, reject) => {
    const call = request(
      {
        host,
        port,
        path,
        method: "POST",
        signal,
        // A connection of its own: the next call may show another certificate.
        agent: false,
        minVersion: "TLSv1.3",
        ...tls,
        servername: "sedge-issuer",
        checkServerIdentity: (_name, certificate) =>
          uriNames(certificate.subjectaltname ?? "").includes(ISSUER_URI) ? undefined : checkServerIdentity(host, certificate),
        headers: { ...headers, "content-type": "application/pkcs10", "content-transfer-encoding": "base64", "content-length": Buffer.byteLength(body) },
      },
      (response) => {
        let answer = "";
        response.setEncoding("latin1");
        response.on("data", (chunk: string) => {
          answer += chunk;
          if (answer.length > MAX_ANSWER_BYTES) response.destroy(new Error(`the issuer's answer has more than ${MAX_ANSWER_BYTES} bytes`));
        });
        response.on("error", reject);
        response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, answer }));
      },
    );
    call.on("error", reject);
    call.end(body);
  });
}
