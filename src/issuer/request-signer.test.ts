import { describe, expect, it } from "vitest";
import { createCertificateRequest, parseCertificateRequest } from "../runtime/certificate-request.ts";
import { decide, type SignerDecision } from "./request-signer.ts";
import { parseSigningRequest, type SigningRequest } from "./signing-requests.ts";

const ISSUER = "system:serviceaccount:sedge-system:sedge-issuer";
const trusted = new Set([ISSUER]);
const content = await parseCertificateRequest((await createCertificateRequest({ commonName: "n1", uris: ["spiffe://sedge/node/n1"] })).request);
const operator = await parseCertificateRequest((await createCertificateRequest({ commonName: "n1", uris: ["spiffe://sedge/operator"] })).request);
const broken = { problem: "this is no certificate request (PKCS#10)" };

const base: SigningRequest = {
  name: "r",
  signerName: "sedge.network/node",
  username: ISSUER,
  request: content.pem,
  usages: ["digital signature", "client auth"],
  expirationMs: undefined,
  state: "waiting",
  message: "",
  certificate: undefined,
};

describe("decide", () => {
  const cases: readonly (readonly [what: string, change: Partial<SigningRequest>, content: Parameters<typeof decide>[1], kind: SignerDecision["kind"]])[] = [
    ["of an issuer", {}, content, "approve"],
    ["of the node itself", { username: "system:node:n1" }, content, "approve"],
    ["of another node", { username: "system:node:n2" }, content, "deny"],
    ["of a person: waits for an approval", { username: "kubernetes-admin" }, content, "leave"],
    ["of a person, who asks for too much: a person decides", { username: "kubernetes-admin" }, operator, "leave"],
    ["of an issuer of another namespace", { username: "system:serviceaccount:shop:sedge-issuer" }, content, "leave"],
    ["approved", { username: "kubernetes-admin", state: "approved" }, content, "sign"],
    ["approved, and asks for another identity", { username: "kubernetes-admin", state: "approved" }, operator, "fail"],
    ["approved, and cannot be read", { state: "approved" }, broken, "fail"],
    ["of an issuer, and cannot be read", {}, broken, "deny"],
    ["with a usage that nodes do not get", { usages: ["digital signature", "cert sign"] }, content, "deny"],
    ["with a usage that nodes do not get, approved", { usages: ["server auth"], state: "approved" }, content, "fail"],
    ["with key encipherment, as older clients ask", { usages: ["digital signature", "key encipherment", "client auth"] }, content, "approve"],
    ["denied already", { state: "denied" }, content, "leave"],
    ["failed already", { state: "failed" }, content, "leave"],
    ["signed already", { state: "approved", certificate: "x" }, content, "leave"],
  ];
  it.each(cases)("%s", (_what, change, what, kind) => {
    expect(decide({ ...base, ...change }, what, trusted).kind).toBe(kind);
  });

  it("a denial counts before an approval, whatever their order", () => {
    const conditions = [
      { type: "Approved", status: "True" },
      { type: "Denied", status: "True", message: "no" },
    ];
    for (const order of [conditions, conditions.toReversed()])
      expect(parseSigningRequest({ metadata: { name: "r" }, spec: {}, status: { conditions: order } })).toMatchObject({ state: "denied", message: "no" });
  });
});
