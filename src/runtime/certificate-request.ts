/**
 * Certificate requests (PKCS#10, RFC 2986) and the envelope in which certificates come back (PKCS#7 without signature, as RFC 7030 4.1.3 wants it).
 *
 * Invariant: the key of a request never leaves who made it; a request that is returned by `parseCertificateRequest` was signed by its key.
 */
import "reflect-metadata";
import { createPublicKey, webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";

x509.cryptoProvider.set(webcrypto);

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const MIN_RSA_BITS = 2048;

export interface NewCertificateRequest {
  /** PKCS#8, PEM. */
  readonly key: string;
  /** DER. */
  readonly request: Uint8Array;
}

export interface CertificateRequest {
  readonly commonName: string;
  readonly uris: readonly string[];
  /** DNS names, addresses, mail addresses: everything in the subject alternative name that is no URI. */
  readonly otherNames: readonly string[];
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array;
  /** As it came, PEM. */
  readonly pem: string;
}

/** What is wrong with bytes that were to be a request or certificates. */
export class CertificateRequestError extends Error {
  override readonly name = "CertificateRequestError";
}

/** A new ECDSA P-256 key and a request for it. */
export async function createCertificateRequest({
  commonName,
  uris,
}: {
  readonly commonName: string;
  readonly uris: readonly string[];
}): Promise<NewCertificateRequest> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: `CN=${commonName}`,
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [new x509.SubjectAlternativeNameExtension(uris.map((value) => ({ type: "url" as const, value })))],
  });
  const key = x509.PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
  return { key, request: new Uint8Array(request.rawData) };
}

/** DER or PEM. Throws CertificateRequestError: not a request, a signature that is not its key's, a key too weak. */
export async function parseCertificateRequest(content: Uint8Array | string): Promise<CertificateRequest> {
  let request: x509.Pkcs10CertificateRequest;
  try {
    request = new x509.Pkcs10CertificateRequest(typeof content === "string" ? content : Uint8Array.from(content));
  } catch (error) {
    throw new CertificateRequestError("this is no certificate request (PKCS#10)", { cause: error });
  }
  const publicKey = new Uint8Array(request.publicKey.rawData);
  const weakness = weaknessOf(publicKey);
  if (weakness !== undefined) throw new CertificateRequestError(weakness);
  if (!(await request.verify().catch(() => false))) throw new CertificateRequestError("the request is not signed by the key that it is for");
  const names = [...request.extensions].flatMap((extension) => (extension instanceof x509.SubjectAlternativeNameExtension ? extension.names.items : []));
  return {
    commonName: request.subjectName.getField("CN").at(0) ?? "",
    uris: names.filter(({ type }) => type === "url").map(({ value }) => value),
    otherNames: names.filter(({ type }) => type !== "url").map(({ type, value }) => `${type}:${value}`),
    publicKey,
    pem: request.toString("pem"),
  };
}

/** Certificates (PEM, any number in each) as one PKCS#7 "certs-only" message, DER. */
export function packCertificates(pems: readonly string[]): Uint8Array {
  const certificates = pems.flatMap((pem) => x509.PemConverter.decode(pem).map((der) => new x509.X509Certificate(der)));
  return new Uint8Array(new x509.X509Certificates(certificates).export("raw"));
}

/** The other way; PEM, one after the other in the order in which they stand. Throws CertificateRequestError. */
export function unpackCertificates(message: Uint8Array): readonly string[] {
  try {
    const certificates = new x509.X509Certificates();
    certificates.import(Uint8Array.from(message));
    return [...certificates].map((certificate) => certificate.toString("pem"));
  } catch (error) {
    throw new CertificateRequestError("this is no PKCS#7 message with certificates", { cause: error });
  }
}

function weaknessOf(publicKey: Uint8Array): string | undefined {
  try {
    const { asymmetricKeyType: type, asymmetricKeyDetails: details } = createPublicKey({ key: Buffer.from(publicKey), format: "der", type: "spki" });
    if (type === "ed25519") return undefined;
    if (type === "ec")
      return ["prime256v1", "secp384r1", "secp521r1"].includes(details?.namedCurve ?? "")
        ? undefined
        : `a key on the curve ${details?.namedCurve ?? "?"} is not taken: use P-256, P-384 or P-521`;
    if (type === "rsa")
      return (details?.modulusLength ?? 0) >= MIN_RSA_BITS
        ? undefined
        : `an RSA key of ${details?.modulusLength ?? 0} bits is too short: ${MIN_RSA_BITS} or more`;
    return `a key of type ${type ?? "?"} is not taken: use ECDSA, Ed25519 or RSA`;
  } catch {
    return "the key of the request cannot be read";
  }
}
