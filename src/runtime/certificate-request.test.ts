import "reflect-metadata";
import { generateKeyPairSync, webcrypto, X509Certificate } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { describe, expect, it } from "vitest";
import { createCertificateRequest, packCertificates, parseCertificateRequest, unpackCertificates } from "./certificate-request.ts";
import { createCertificateAuthority } from "./tls.ts";

const WANT = { commonName: "n1", uris: ["spiffe://sedge/node/n1"] };

type KeyAlgorithm = (webcrypto.RsaHashedKeyGenParams | webcrypto.EcKeyGenParams) & { readonly hash: string };

const P256: KeyAlgorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

async function requestWith(algorithm: KeyAlgorithm, names: x509.JsonGeneralNames = []): Promise<Uint8Array> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const extensions = names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)];
  return new Uint8Array((await x509.Pkcs10CertificateRequestGenerator.create({ name: "CN=n1", keys, signingAlgorithm: algorithm, extensions })).rawData);
}

describe("certificate requests", () => {
  it("what is asked for comes out again, from DER and from PEM, and the key fits", async () => {
    const { key, request } = await createCertificateRequest(WANT);
    const parsed = await parseCertificateRequest(request);
    expect(parsed).toMatchObject({ ...WANT, otherNames: [] });
    expect((await parseCertificateRequest(parsed.pem)).publicKey).toEqual(parsed.publicKey);
    const authority = await createCertificateAuthority();
    const leaf = new X509Certificate(await authority.certify(parsed.publicKey, WANT));
    expect(leaf.subjectAltName).toBe("URI:spiffe://sedge/node/n1");
    expect(leaf.checkPrivateKey((await import("node:crypto")).createPrivateKey(key))).toBe(true);
    expect(leaf.verify(new X509Certificate(authority.cert).publicKey)).toBe(true);
  });

  it("other names are told apart", async () => {
    const request = await requestWith(P256, [
      { type: "dns", value: "n1.example" },
      { type: "ip", value: "10.0.0.1" },
      { type: "url", value: "spiffe://sedge/node/n1" },
    ]);
    expect(await parseCertificateRequest(request)).toMatchObject({ uris: ["spiffe://sedge/node/n1"], otherNames: ["dns:n1.example", "ip:10.0.0.1"] });
  });

  it("a bit that is changed makes it no request of its key, or changes nothing of what it says", async () => {
    const { request } = await createCertificateRequest(WANT);
    const said = await parseCertificateRequest(request);
    let refused = 0;
    // Each byte once, spread over the bits: all 8 of each would only take longer.
    for (let i = 0; i < request.length; i++) {
      const changed = Uint8Array.from(request);
      changed[i] = (changed[i] ?? 0) ^ (1 << (i % 8));
      try {
        expect({ ...(await parseCertificateRequest(changed)), pem: "" }, `byte ${i}`).toEqual({ ...said, pem: "" });
      } catch (error) {
        expect(error, `byte ${i}`).toMatchObject({ name: "CertificateRequestError" });
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(request.length * 0.9);
  });

  it.each([
    ["nothing", new Uint8Array(), /no certificate request/],
    ["text", Buffer.from("hello"), /no certificate request/],
    [
      "a certificate",
      Buffer.from(generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey.export({ type: "spki", format: "der" })),
      /no certificate request/,
    ],
  ])("%s is refused", async (_what, bytes, message) => {
    await expect(parseCertificateRequest(bytes)).rejects.toThrow(message);
  });

  it("keys: what is too weak is refused, the usual ones are taken", async () => {
    const rsa = { name: "RSASSA-PKCS1-v1_5", publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256" };
    await expect(parseCertificateRequest(await requestWith({ ...rsa, modulusLength: 1024 }))).rejects.toThrow(/RSA key of 1024 bits is too short/);
    await expect(parseCertificateRequest(await requestWith({ ...rsa, modulusLength: 2048 }))).resolves.toMatchObject({ commonName: "n1" });
    await expect(parseCertificateRequest(await requestWith({ ...P256, namedCurve: "P-384" }))).resolves.toMatchObject({ commonName: "n1" });
  });
});

describe("certificates on their way back", () => {
  it("come out as they went in, the leaf first", async () => {
    const authority = await createCertificateAuthority();
    const { cert } = await authority.issue(WANT);
    expect(unpackCertificates(packCertificates([cert, authority.cert])).map((pem) => new X509Certificate(pem).subject)).toEqual(["CN=n1", "CN=sedge-ca"]);
  });

  it("anything else is an error", () => {
    expect(() => unpackCertificates(Buffer.from("hello"))).toThrow(/no PKCS#7/);
  });
});
