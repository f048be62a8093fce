/** The issuer on a real kube-apiserver, with the rights that manifests/ give it and nothing else: tokens, the CSR API from both sides, and what it keeps in the cluster. */
import { X509Certificate } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { type EnrollAnswer, enroll } from "../../agent/enroll/est-client.ts";
import { ApiClient } from "../../src/datastore/api-client.ts";
import type { ApiConnection } from "../../src/datastore/connection.ts";
import { type JsonObject, objectAt, stringAt } from "../../src/datastore/json-object.ts";
import { findConnection } from "../../src/datastore/kubeconfig.ts";
import { type IssuerConfig, issuerConfigSchema } from "../../src/issuer/config.ts";
import { Issuer } from "../../src/issuer/issuer.ts";
import { renderCluster, renderNamespace } from "../../src/operator/render/cluster.ts";
import type { KubeObject } from "../../src/operator/render/object.ts";
import { DEFAULT_VALUES, DEFAULT_NAMESPACE as NAMESPACE } from "../../src/operator/render/values.ts";
import { createCertificateRequest, type NewCertificateRequest, parseCertificateRequest } from "../../src/runtime/certificate-request.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { type KubeApiserver, kubeApiserverAvailable, startKubeApiserver } from "./start.ts";

const unavailable = kubeApiserverAvailable();
const BOOTSTRAP = { id: "abcdef", secret: "0123456789abcdef" };
const CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

describe.skipIf(unavailable !== undefined)(`the issuer on kube-apiserver${unavailable === undefined ? "" : ` (${unavailable})`}`, () => {
  let server: KubeApiserver;
  let connection: ApiConnection;
  let admin: ApiClient;
  let client: ApiClient;
  let directory = "";
  let authority = "";
  let address = "";
  const stop = new AbortController();
  const running: Promise<void>[] = [];

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "sedge-issuer-api-"));
    server = await startKubeApiserver({ extraArgs: ["--enable-bootstrap-token-auth=true"] });
    connection = await findConnection({ file: server.kubeconfig, environment: {} });
    admin = new ApiClient({ connection });
    await create(renderNamespace(NAMESPACE));
    for (const { objects } of renderCluster({ namespace: NAMESPACE, values: DEFAULT_VALUES }))
      for (const object of objects) if (object.kind === "ServiceAccount" || /Role/.test(object.kind)) await create(object);
    for (const name of ["n1", "n2"]) await create({ apiVersion: "v1", kind: "Node", metadata: { name } });
    client = clientOf(await tokenOf("sedge-issuer"));
    address = await start({});
    authority = await vi.waitFor(async () => text(objectAt(await admin.requestJson("GET", path("configmaps", "sedge-ca")), "data"), "ca.crt"), {
      timeout: 20_000,
    });
  }, 180_000);
  afterAll(async () => {
    stop.abort();
    await Promise.all(running);
    client.close();
    admin.close();
    await server.stop();
    await rm(directory, { recursive: true, force: true });
  }, 60_000);

  async function start(change: Partial<IssuerConfig>): Promise<string> {
    const config = { ...issuerConfigSchema.parse({ listen: "127.0.0.1:0", namespace: NAMESPACE }), ...change };
    const issuer = await Issuer.create({ config, client, clock: systemClock, log: silentLogger(), registry: new Registry(), signal: stop.signal });
    const port = await issuer.listen();
    running.push(issuer.run(stop.signal));
    return `127.0.0.1:${port}`;
  }

  const create = (object: KubeObject): Promise<JsonObject> => {
    const root = object.apiVersion === "v1" ? "/api/v1" : `/apis/${object.apiVersion}`;
    const scope = object.metadata.namespace === undefined ? "" : `/namespaces/${object.metadata.namespace}`;
    return admin.requestJson("POST", `${root}${scope}/${object.kind.toLowerCase()}s`, { body: object });
  };
  const path = (plural: string, name: string): string => `/api/v1/namespaces/${NAMESPACE}/${plural}/${name}`;
  const text = (object: JsonObject | undefined, key: string): string => {
    const value = stringAt(object, key);
    if (value === undefined) throw new Error(`no ${key}`);
    return value;
  };
  const clientOf = (token: string): ApiClient =>
    new ApiClient({
      connection: {
        url: connection.url,
        origin: "token",
        credentials: async () => {
          const { ca } = await connection.credentials();
          return { headers: { authorization: `Bearer ${token}` }, ...(ca === undefined ? {} : { ca }) };
        },
      },
    });
  const tokenOf = async (account: string, spec: JsonObject = {}): Promise<string> => {
    const body = { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec };
    return text(objectAt(await admin.requestJson("POST", `${path("serviceaccounts", account)}/token`, { body }), "status"), "token");
  };
  /** As the kubelet gets one for a pod of the agent on the node. */
  const podToken = async (node: string, account: string, audience = "sedge.network"): Promise<string> => {
    const name = `${account}-${node}-${Math.random().toString(36).slice(2)}`;
    const pod = await admin.requestJson("POST", path("pods", "").slice(0, -1), {
      body: {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name },
        spec: { serviceAccountName: account, nodeName: node, containers: [{ name: "c", image: "c" }] },
      },
    });
    const boundObjectRef = { apiVersion: "v1", kind: "Pod", name, uid: text(objectAt(pod, "metadata"), "uid") };
    return await tokenOf(account, { audiences: [audience], boundObjectRef });
  };
  const requestOf = (node: string): Promise<NewCertificateRequest> => createCertificateRequest({ commonName: node, uris: [`spiffe://sedge/node/${node}`] });
  const ask = async (token: string, node: string, at = address): Promise<EnrollAnswer> =>
    enroll({ server: at, authority, request: (await requestOf(node)).request, credential: { kind: "token", token }, signal: stop.signal });
  const nameIn = (answer: EnrollAnswer): string | undefined =>
    answer.kind === "issued" ? new X509Certificate(answer.certificates).subjectAltName : answer.kind;

  it("a token of the agent's pod gives the certificate of its node and of no other", async () => {
    const token = await podToken("n1", "sedge-agent");
    expect(nameIn(await ask(token, "n1"))).toBe("URI:spiffe://sedge/node/n1");
    expect(await ask(token, "n2")).toMatchObject({
      kind: "refused",
      reason: expect.stringMatching(/for node n2, the credential \(service-account\) is of node n1/) as string,
    });
  });

  it("tokens of others, for others, bound to nothing, or invented, give none", async () => {
    const tokens = {
      "another account's pod": await podToken("n1", "sedge-controllers"),
      "the agent's token for the API": await podToken("n1", "sedge-agent", "https://kubernetes.default.svc.cluster.local"),
      "an agent's token that is bound to no pod": await tokenOf("sedge-agent", { audiences: ["sedge.network"] }),
      invented: "eyJhbGciOiJub25lIn0.e30.",
      "an invented bootstrap token": "aaaaaa.0123456789abcdef",
    };
    for (const [what, token] of Object.entries(tokens)) expect(await ask(token, "n1"), what).toMatchObject({ kind: "refused" });
  });

  it("a Kubernetes bootstrap token gives certificates of nodes that exist, while it is good", async () => {
    const secret = {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: `bootstrap-token-${BOOTSTRAP.id}`, namespace: "kube-system" },
      type: "bootstrap.kubernetes.io/token",
      stringData: {
        "token-id": BOOTSTRAP.id,
        "token-secret": BOOTSTRAP.secret,
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:sedge",
      },
    };
    await create(secret);
    const token = `${BOOTSTRAP.id}.${BOOTSTRAP.secret}`;
    // The API server hears of the Secret by its own watch.
    await vi.waitFor(async () => expect(nameIn(await ask(token, "n2"))).toBe("URI:spiffe://sedge/node/n2"), { timeout: 20_000, interval: 500 });
    expect(await ask(token, "n3")).toMatchObject({ kind: "refused", reason: expect.stringMatching(/there is no Node n3/) as string });
  }, 60_000);

  it("the authority, the server's and the operator's certificates are in the cluster; another issuer uses the same, and what is not ours is left alone", async () => {
    const secret = async (name: string): Promise<JsonObject | undefined> => objectAt(await admin.requestJson("GET", path("secrets", name)), "data");
    const pem = (data: JsonObject | undefined, key: string): string => Buffer.from(text(data, key), "base64").toString();
    const ca = new X509Certificate(authority);
    for (const [name, uri] of [
      ["sedge-fanout-tls", "spiffe://sedge/fanout"],
      ["sedge-operator-tls", "spiffe://sedge/operator"],
      ["sedge-relay-tls", "spiffe://sedge/relay/sedge-relay"],
    ] as const) {
      const data = await vi.waitFor(() => secret(name), { timeout: 20_000 });
      const certificate = new X509Certificate(pem(data, "tls.crt"));
      expect([certificate.subjectAltName, certificate.verify(ca.publicKey), pem(data, "ca.crt")]).toEqual([`URI:${uri}`, true, authority]);
    }
    const before = await secret("sedge-fanout-tls");
    await admin.requestJson("PUT", path("secrets", "sedge-operator-tls"), {
      body: {
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: "sedge-operator-tls", namespace: NAMESPACE },
        type: "kubernetes.io/tls",
        data: { "tls.crt": "", "tls.key": "" },
      },
    });
    const second = await start({});
    expect(nameIn(await ask(await podToken("n1", "sedge-agent"), "n1", second))).toBe("URI:spiffe://sedge/node/n1");
    expect(await secret("sedge-fanout-tls")).toEqual(before);
    expect(await secret("sedge-operator-tls")).toEqual({ "tls.crt": "", "tls.key": "" });
  }, 60_000);

  it("by the CSR API: an issuer without a key makes the request, the signer approves and signs it", async () => {
    const own = await parseOwn();
    const csr = await start({ authority: "kubernetes", caCert: own.ca, tlsCert: own.cert, tlsKey: own.key });
    const answer = await ask(await podToken("n1", "sedge-agent"), "n1", csr);
    expect(nameIn(answer)).toBe("URI:spiffe://sedge/node/n1");
    const { items } = (await admin.requestJson("GET", CSRS)) as {
      items: { spec: { signerName: string; username: string }; status: { conditions: unknown } }[];
    };
    expect(items.map(({ spec }) => spec)).toMatchObject([{ signerName: "sedge.network/node", username: `system:serviceaccount:${NAMESPACE}:sedge-issuer` }]);
    expect(items[0]?.status.conditions).toMatchObject([{ type: "Approved", reason: "SedgeNode" }]);
  }, 60_000);

  it("requests that others make: the kubelet's for itself is approved, for another denied, a person's waits; what asks for too much fails", async () => {
    const impersonated = (user: string): ApiClient =>
      new ApiClient({
        connection: {
          url: connection.url,
          origin: user,
          credentials: async () => {
            const { headers, ...rest } = await connection.credentials();
            return { ...rest, headers: { ...headers, "impersonate-user": user, "impersonate-group": "system:masters" } };
          },
        },
      });
    const make = async (user: string, name: string, request: Uint8Array): Promise<void> => {
      const { pem } = await parseCertificateRequest(request);
      const as = impersonated(user);
      await as.requestJson("POST", CSRS, {
        body: {
          apiVersion: "certificates.k8s.io/v1",
          kind: "CertificateSigningRequest",
          metadata: { name },
          spec: {
            signerName: "sedge.network/node",
            request: Buffer.from(pem).toString("base64"),
            usages: ["digital signature", "client auth"],
            expirationSeconds: 3_600,
          },
        },
      });
      as.close();
    };
    const statusOf = async (name: string): Promise<{ conditions?: { type: string }[]; certificate?: string } | undefined> =>
      (await admin.requestJson("GET", `${CSRS}/${name}`))["status"] as { conditions?: { type: string }[]; certificate?: string } | undefined;
    const ended = (name: string, type: string, hasCertificate: boolean): Promise<void> =>
      vi.waitFor(
        async () => {
          const status = await statusOf(name);
          expect([status?.conditions?.map((condition) => condition.type) ?? [], status?.certificate !== undefined]).toEqual([[type], hasCertificate]);
        },
        { timeout: 20_000, interval: 100 },
      );
    const [own, another, person, operator] = [
      await requestOf("n2"),
      await requestOf("n1"),
      await requestOf("n1"),
      await createCertificateRequest({ commonName: "n1", uris: ["spiffe://sedge/operator"] }),
    ];
    await make("system:node:n2", "own", own.request);
    await make("system:node:n2", "another", another.request);
    await make("somebody", "person", person.request);
    await make("somebody", "too-much", operator.request);
    await ended("own", "Approved", true);
    await ended("another", "Denied", false);
    // The signer has passed over these two already when it came to the last: names are listed in order.
    expect(await statusOf("person")).toEqual({});
    const approve = async (name: string): Promise<void> => {
      const object = await admin.requestJson("GET", `${CSRS}/${name}`);
      const conditions = [{ type: "Approved", status: "True", reason: "Person", message: "by hand" }];
      await admin.requestJson("PUT", `${CSRS}/${name}/approval`, { body: { ...object, status: { conditions } } });
    };
    await approve("person");
    await ended("person", "Approved", true);
    await approve("too-much");
    await vi.waitFor(async () => expect((await statusOf("too-much"))?.conditions?.map(({ type }) => type)).toEqual(["Approved", "Failed"]), {
      timeout: 20_000,
    });
    expect((await statusOf("too-much"))?.certificate).toBeUndefined();
    const issued = new X509Certificate(Buffer.from((await statusOf("own"))?.certificate ?? "", "base64"));
    const hours = (Date.parse(issued.validTo) - Date.parse(issued.validFrom)) / 3_600_000;
    expect(hours).toBeLessThanOrEqual(1); // no longer than was asked for
  }, 60_000);

  it("the account may read no other Secret, and sign for no other signer", async () => {
    for (const request of [
      ["GET", path("secrets", "another")],
      ["GET", `/api/v1/namespaces/${NAMESPACE}/secrets`],
      ["GET", "/api/v1/namespaces/kube-system/secrets/sedge-ca"],
      ["PUT", path("configmaps", "another")],
      ["GET", "/api/v1/nodes"],
      ["DELETE", `${CSRS}/own`],
    ] as const)
      await expect(
        client.requestJson(
          request[0],
          request[1],
          request[0] === "PUT" ? { body: { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "another" } } } : {},
        ),
      ).rejects.toMatchObject({ status: 403 });
  });

  /** The authority of the cluster and a certificate for an issuer, as files. */
  async function parseOwn(): Promise<{ ca: string; cert: string; key: string }> {
    const { loadCertificateAuthority } = await import("../../src/runtime/tls.ts");
    const data = objectAt(await admin.requestJson("GET", path("secrets", "sedge-ca")), "data");
    const [cert, key] = [Buffer.from(text(data, "tls.crt"), "base64").toString(), Buffer.from(text(data, "tls.key"), "base64").toString()];
    const leaf = await (await loadCertificateAuthority({ cert, key })).issue({ commonName: "sedge-issuer", uris: ["spiffe://sedge/issuer"] });
    const files = { ca: join(directory, "ca.crt"), cert: join(directory, "tls.crt"), key: join(directory, "tls.key") };
    await writeFile(files.ca, authority);
    await writeFile(files.cert, leaf.cert);
    await writeFile(files.key, leaf.key);
    return files;
  }
});
