/**
 * CertificateSigningRequests (certificates.k8s.io/v1) as values: what one asks for, how far it is, and the conditions that answer it.
 * Pure; who reads and writes them is in kubernetes-source.ts and request-signer.ts.
 */
import type { ApiResource } from "../datastore/api-resources.ts";
import { arrayAt, type JsonObject, numberAt, objectAt, stringAt, tryJsonObject } from "../datastore/json-object.ts";

export const SIGNING_REQUEST: ApiResource = {
  kind: "CertificateSigningRequest",
  group: "certificates.k8s.io",
  version: "v1",
  plural: "certificatesigningrequests",
  isNamespaced: false,
  hasProtobuf: false,
};
export const SIGNING_REQUEST_VERSION = "certificates.k8s.io/v1";

/** Usages of a node's certificate; the API wants them in the request. */
export const NODE_USAGES: readonly string[] = ["digital signature", "client auth"];

export interface SigningRequest {
  readonly name: string;
  readonly signerName: string;
  /** Who made it, as the API server authenticated them. */
  readonly username: string;
  /** PEM of the PKCS#10 request; "" when it cannot be read. */
  readonly request: string;
  readonly usages: readonly string[];
  /** undefined: the signer's own. */
  readonly expirationMs: number | undefined;
  readonly state: "waiting" | "approved" | "denied" | "failed";
  /** Of the condition that ended it. */
  readonly message: string;
  /** PEM chain. */
  readonly certificate: string | undefined;
}

export function parseSigningRequest(object: JsonObject): SigningRequest {
  const spec = objectAt(object, "spec");
  const status = objectAt(object, "status");
  const conditions = (arrayAt(status, "conditions") ?? []).flatMap((entry) => {
    const condition = tryJsonObject(entry);
    return condition !== undefined && stringAt(condition, "status") !== "False" ? [condition] : [];
  });
  const conditionOf = (type: string): JsonObject | undefined => conditions.find((condition) => stringAt(condition, "type") === type);
  const [denied, failed] = [conditionOf("Denied"), conditionOf("Failed")];
  const certificate = fromBase64(stringAt(status, "certificate"));
  const seconds = numberAt(spec, "expirationSeconds");
  return {
    name: stringAt(objectAt(object, "metadata"), "name") ?? "",
    signerName: stringAt(spec, "signerName") ?? "",
    username: stringAt(spec, "username") ?? "",
    request: fromBase64(stringAt(spec, "request")),
    usages: (arrayAt(spec, "usages") ?? []).filter((usage) => typeof usage === "string"),
    expirationMs: seconds === undefined ? undefined : seconds * 1_000,
    state: denied !== undefined ? "denied" : failed !== undefined ? "failed" : conditionOf("Approved") !== undefined ? "approved" : "waiting",
    message: stringAt(denied ?? failed, "message") ?? "",
    certificate: certificate === "" ? undefined : certificate,
  };
}

/** The object with one condition more. `at`: RFC 3339. */
export function withCondition(
  object: JsonObject,
  { type, reason, message, at }: { readonly type: "Approved" | "Denied" | "Failed"; readonly reason: string; readonly message: string; readonly at: string },
): JsonObject {
  const status = objectAt(object, "status");
  const condition = { type, status: "True", reason, message, lastUpdateTime: at, lastTransitionTime: at };
  return { ...object, status: { ...status, conditions: [...(arrayAt(status, "conditions") ?? []), condition] } };
}

export function withCertificate(object: JsonObject, pem: string): JsonObject {
  return { ...object, status: { ...objectAt(object, "status"), certificate: Buffer.from(pem).toString("base64") } };
}

function fromBase64(text: string | undefined): string {
  return Buffer.from(text ?? "", "base64").toString("utf8");
}
