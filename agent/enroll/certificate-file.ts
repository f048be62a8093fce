/**
 * The node's certificate and its key in one file, so that they change together: what connects reads a pair that fits, also in the middle of a renewal.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { replaceFile } from "../../src/runtime/durable-file.ts";
import { NODE_URI, uriNames } from "../../src/wire/identity-uris.ts";

export interface NodeCertificate {
  /** The leaf first, then what stands between it and the authority; PEM. */
  readonly certificates: string;
  /** PKCS#8, PEM. */
  readonly key: string;
  readonly notBefore: number;
  readonly notAfter: number;
}

const KEY_BLOCK = /-----BEGIN PRIVATE KEY-----[\s\S]+?-----END PRIVATE KEY-----\n?/;

/** undefined: there is none yet. Throws TypeError when it is no certificate of the node with its key. */
export async function readCertificateFile(path: string, node: string): Promise<NodeCertificate | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  const key = KEY_BLOCK.exec(text)?.[0];
  if (key === undefined) throw new TypeError(`${path} holds no private key (PKCS#8, PEM)`);
  return checkCertificate({ certificates: text.replace(KEY_BLOCK, ""), key, node });
}

/** The directory is made when it is missing. */
export async function writeCertificateFile(path: string, { certificates, key }: NodeCertificate): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await replaceFile(path, Buffer.from(`${certificates}${key.trimEnd()}\n`));
}

/** `authority`: PEM of one or several; the certificate must be signed by one of them. Throws TypeError with what does not fit. */
export function checkCertificate({
  authority,
  certificates,
  key,
  node,
}: {
  readonly certificates: string;
  readonly key: string;
  readonly node: string;
  readonly authority?: string;
}): NodeCertificate {
  const leaf = tryCertificate(certificates);
  if (leaf === undefined) throw new TypeError("there is no certificate");
  if (!leaf.checkPrivateKey(createPrivateKey(key))) throw new TypeError("the certificate is for another key");
  if (!uriNames(leaf.subjectAltName ?? "").includes(`${NODE_URI}${node}`))
    throw new TypeError(`the certificate is not of node ${node} (it says ${leaf.subjectAltName ?? "nothing"})`);
  if (authority !== undefined && !signersOf(authority).some((signer) => leaf.checkIssued(signer) && leaf.verify(signer.publicKey)))
    throw new TypeError("the certificate is not signed by the authority in --tls-ca: servers would refuse it");
  return { certificates: `${certificates.trimEnd()}\n`, key, notBefore: Date.parse(leaf.validFrom), notAfter: Date.parse(leaf.validTo) };
}

function signersOf(pem: string): readonly X509Certificate[] {
  return (pem.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? []).map((block) => new X509Certificate(block));
}

function tryCertificate(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}
