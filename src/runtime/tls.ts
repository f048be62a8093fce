/**
 * A certificate authority and the leaves that it signs (ECDSA P-256, RFC 5280): for the issuer, the embedded API, the demo and tests.
 *
 * Invariant: what a leaf says of its holder comes from the caller alone, never from a request.
 */
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";

x509.cryptoProvider.set(webcrypto);

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

export interface CertificatePem {
  readonly cert: string;
  readonly key: string;
}

export interface CertificateAuthority {
  readonly cert: string;
  readonly key: string;
  /** Signs a leaf for a key made here. */
  issue(options: LeafOptions): Promise<CertificatePem>;
  /** Signs a leaf for another's key; PEM. `publicKey`: SubjectPublicKeyInfo, DER. */
  certify(publicKey: Uint8Array, options: LeafOptions): Promise<string>;
}

export interface LeafOptions {
  readonly commonName: string;
  /** DNS names and addresses. */
  readonly hosts?: readonly string[];
  /** URI SANs such as "spiffe://sedge/node/n1". */
  readonly uris?: readonly string[];
  readonly validForMs?: number;
  readonly notBefore?: Date;
}

const DAY_MS = 86_400_000;

export async function createCertificateAuthority(commonName = "sedge-ca"): Promise<CertificateAuthority> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const cert = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: `CN=${commonName}`,
    notBefore: new Date(Date.now() - 300_000),
    notAfter: new Date(Date.now() + 3650 * DAY_MS),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return authorityOf(cert, keys.privateKey);
}

/** The same CA again, from what `cert` and `key` gave. */
export async function loadCertificateAuthority(pem: CertificatePem): Promise<CertificateAuthority> {
  const key = await webcrypto.subtle.importKey("pkcs8", x509.PemConverter.decodeFirst(pem.key), ALGORITHM, true, ["sign"]);
  return authorityOf(new x509.X509Certificate(pem.cert), key);
}

async function authorityOf(caCert: x509.X509Certificate, signingKey: webcrypto.CryptoKey): Promise<CertificateAuthority> {
  const certify = async (publicKey: x509.PublicKeyType, options: LeafOptions): Promise<string> => {
    const { commonName, hosts = [], uris = [], validForMs = 365 * DAY_MS, notBefore = new Date(Date.now() - 300_000) } = options;
    const names: x509.JsonGeneralNames = [
      ...hosts.map((host) => ({ type: /^[\d.]+$|:/.test(host) ? ("ip" as const) : ("dns" as const), value: host })),
      ...uris.map((value) => ({ type: "url" as const, value })),
    ];
    const cert = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: `CN=${commonName}`,
      issuer: caCert.subject,
      notBefore,
      notAfter: new Date(notBefore.getTime() + validForMs),
      signingAlgorithm: ALGORITHM,
      publicKey,
      signingKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
        await x509.AuthorityKeyIdentifierExtension.create(caCert),
        ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
      ],
    });
    return cert.toString("pem");
  };
  return {
    cert: caCert.toString("pem"),
    key: await keyPem(signingKey),
    certify: (publicKey, options) => certify(new x509.PublicKey(publicKey), options),
    async issue(options) {
      const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
      return { cert: await certify(keys.publicKey, options), key: await keyPem(keys.privateKey) };
    },
  };
}

async function keyPem(key: webcrypto.CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
}

function serialNumber(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(16));
  bytes[0] = (bytes[0] ?? 0) & 0x7f;
  return Buffer.from(bytes).toString("hex");
}
