import { describe, expect, it } from "vitest";
import { createCertificateRequest, unpackCertificates } from "../runtime/certificate-request.ts";
import { createCertificateAuthority } from "../runtime/tls.ts";
import type { Applicant } from "./applicant.ts";
import { type CertificateSource, ownAuthority } from "./certificate-source.ts";
import { type EstAnswer, type EstOutcome, type EstRequest, EstService } from "./est.ts";

const authority = await createCertificateAuthority();
const never = new AbortController().signal;
const own = await createCertificateRequest({ commonName: "n1", uris: ["spiffe://sedge/node/n1"] });
const bodyOf = (request: Uint8Array): Buffer => Buffer.from(Buffer.from(request).toString("base64"));
const n1: Applicant = { kind: "node", node: "n1", by: "certificate" };

const ENROLL: EstRequest = {
  method: "POST",
  path: "/.well-known/est/simpleenroll",
  contentType: "application/pkcs10",
  body: bodyOf(own.request),
  bearer: "token-of-n1",
  applicant: undefined,
};

async function ask(
  request: Partial<EstRequest>,
  source: CertificateSource = ownAuthority(authority, { validForMs: 1_000_000 }),
): Promise<{ answer: EstAnswer; outcomes: EstOutcome[] }> {
  const outcomes: EstOutcome[] = [];
  const service = new EstService({
    source,
    judge: (token) => {
      if (token === "unknowable") return Promise.reject(new Error("the API is away"));
      if (token === "any") return Promise.resolve({ kind: "any-node", by: "bootstrap-token" });
      return Promise.resolve(token === "token-of-n1" ? { ...n1, by: "service-account" } : undefined);
    },
    nodeExists: (node) => Promise.resolve(node === "n1"),
    onOutcome: (outcome) => outcomes.push(outcome),
  });
  return { answer: await service.handle({ ...ENROLL, ...request }, never), outcomes };
}

const requestFor = async (commonName: string, uris: readonly string[] = [`spiffe://sedge/node/${commonName}`]): Promise<Buffer> =>
  bodyOf((await createCertificateRequest({ commonName, uris })).request);

describe("EST", () => {
  it.each([
    ["a token of the node", {}],
    ["a token of any node, and the node exists", { bearer: "any" }],
    ["the certificate that it has", { bearer: undefined, applicant: n1 }],
    ["the certificate that it has, asking again", { path: "/.well-known/est/simplereenroll", bearer: undefined, applicant: n1 }],
    ["DER as it is", { body: Buffer.from(own.request) }],
  ] satisfies [string, Partial<EstRequest>][])("%s gets a certificate of that node", async (_what, request) => {
    const { answer, outcomes } = await ask(request);
    expect(answer).toMatchObject({ status: 200, type: "application/pkcs7-mime; smime-type=certs-only" });
    const [leaf = ""] = unpackCertificates(Buffer.from(answer.body, "base64"));
    const { X509Certificate } = await import("node:crypto");
    expect(new X509Certificate(leaf).subjectAltName).toBe("URI:spiffe://sedge/node/n1");
    expect(outcomes).toMatchObject([{ outcome: "issued", node: "n1" }]);
  });

  it("the names come from the credential: a request with only the common name gets the node's URI and nothing else", async () => {
    const { answer } = await ask({ body: await requestFor("n1", []) });
    const [leaf = ""] = unpackCertificates(Buffer.from(answer.body, "base64"));
    const { X509Certificate } = await import("node:crypto");
    const certificate = new X509Certificate(leaf);
    expect([certificate.subject, certificate.subjectAltName, certificate.ca]).toEqual(["CN=n1", "URI:spiffe://sedge/node/n1", false]);
  });

  const REFUSALS: readonly (readonly [what: string, status: number, says: RegExp, request: () => Promise<Partial<EstRequest>>])[] = [
    ["no credential", 401, /want a token/, () => Promise.resolve({ bearer: undefined })],
    ["a token that nobody knows", 401, /not known, has expired/, () => Promise.resolve({ bearer: "nonsense" })],
    ["asking again without a certificate", 403, /wants the node's certificate/, () => Promise.resolve({ path: "/.well-known/est/simplereenroll" })],
    ["another node than the token's", 403, /for node n2, the credential \(service-account\) is of node n1/, async () => ({ body: await requestFor("n2") })],
    [
      "another node than the certificate's",
      403,
      /for node n2, the credential \(certificate\) is of node n1/,
      async () => ({ body: await requestFor("n2"), applicant: n1 }),
    ],
    ["a node that does not exist", 403, /there is no Node n2/, async () => ({ body: await requestFor("n2"), bearer: "any" })],
    [
      "the URI of another node beside",
      400,
      /asks for more than a node may be \(spiffe:\/\/sedge\/node\/n2\)/,
      async () => ({ body: await requestFor("n1", ["spiffe://sedge/node/n1", "spiffe://sedge/node/n2"]) }),
    ],
    ["the URI of an operator", 400, /asks for more/, async () => ({ body: await requestFor("n1", ["spiffe://sedge/operator"]) })],
    ["a name that is no node's", 400, /must be CN=<name of the node>/, async () => ({ body: await requestFor("sedge-operator/x") })],
    ["no request in it", 400, /no certificate request/, () => Promise.resolve({ body: Buffer.from("aGVsbG8=") })],
    ["another content type", 415, /want application\/pkcs10/, () => Promise.resolve({ contentType: "application/json" })],
    ["an unknown path", 404, /nothing at/, () => Promise.resolve({ path: "/.well-known/est/serverkeygen" })],
    ["a wrong method", 405, /want POST/, () => Promise.resolve({ method: "GET" })],
  ];
  it.each(REFUSALS)("%s is refused with %i", async (_what, status, says, request) => {
    const { answer } = await ask(await request());
    expect(answer.status).toBe(status);
    expect(answer.body).toMatch(says);
    expect(answer.type).toBe("text/plain");
  });

  it("what cannot be told at the moment is no refusal: ask again", async () => {
    const { answer, outcomes } = await ask({ bearer: "unknowable" });
    expect(answer).toMatchObject({ status: 503, headers: { "retry-after": "5" } });
    expect(outcomes).toMatchObject([{ outcome: "failed", by: "none" }]);
  });

  it("an approval that is awaited is 202, one that was denied 403", async () => {
    const pending: CertificateSource = { authorityPem: () => authority.cert, issue: () => Promise.resolve({ kind: "pending", retryAfterMs: 4_100 }) };
    expect((await ask({}, pending)).answer).toMatchObject({ status: 202, headers: { "retry-after": "5" } });
    const denied: CertificateSource = { ...pending, issue: () => Promise.resolve({ kind: "denied", reason: "CertificateSigningRequest x was denied: no" }) };
    expect((await ask({}, denied)).answer).toMatchObject({ status: 403, body: "CertificateSigningRequest x was denied: no\n" });
  });

  it("the authority is told to anybody", async () => {
    const { answer } = await ask({ method: "GET", path: "/.well-known/est/cacerts", bearer: undefined });
    expect(unpackCertificates(Buffer.from(answer.body, "base64")).map((pem) => pem.replaceAll(/\s/g, ""))).toEqual([authority.cert.replaceAll(/\s/g, "")]);
  });
});
