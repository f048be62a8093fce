/**
 * Who is at the other end. On the mTLS listener the certificate says it; on the plaintext listener (loopback only) everybody is `local` and may do all.
 *
 * Invariant: a node may open a session, claim and report only for itself; only an operator (or `local`) may look into the server.
 */
import type { PeerCertificate } from "node:tls";
import type { NodeName } from "../src/model/names.ts";
import { CallError } from "./status.ts";

export type Identity =
  | { readonly kind: "node"; readonly node: NodeName }
  | { readonly kind: "operator"; readonly name: string }
  /** The plaintext listener. */
  | { readonly kind: "local" };

const NODE_URI = "spiffe://sedge/node/";
const OPERATOR_URI = "spiffe://sedge/operator";
const OPERATOR_NAME = "sedge-operator";
/** RFC 1123 subdomain, as Kubernetes names nodes. */
const NODE_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

/** The identity that a verified certificate gives: a URI SAN of ours, else the common name. Throws CallError("unidentified"). */
export function identityOfCertificate(certificate: Pick<PeerCertificate, "subject" | "subjectaltname"> | undefined): Identity {
  if (certificate === undefined) throw new CallError("unidentified", "no client certificate: connect with a certificate that the server's CA signed");
  const uris = uriNames(certificate.subjectaltname ?? "");
  const ours = uris.filter((uri) => uri.startsWith("spiffe://sedge/"));
  if (ours.length > 1) throw new CallError("unidentified", `the certificate has ${ours.length} identities (${ours.join(", ")}); it must have one`);
  const [uri] = ours;
  const commonName = [certificate.subject.CN].flat().at(0) ?? "";
  if (uri === OPERATOR_URI || (uri === undefined && commonName === OPERATOR_NAME)) return { kind: "operator", name: OPERATOR_NAME };
  const node = uri === undefined ? commonName : uri.startsWith(NODE_URI) ? uri.slice(NODE_URI.length) : "";
  if (!NODE_NAME.test(node))
    throw new CallError(
      "unidentified",
      `the certificate names no node: it needs the URI ${NODE_URI}<name> or the node's name as common name (it has ${JSON.stringify(uri ?? commonName)})`,
    );
  return { kind: "node", node: node as NodeName };
}

/** Throws CallError("wrong-identity") unless the peer may act for the node. */
export function requireNode(identity: Identity, node: string): void {
  if (identity.kind === "local" || (identity.kind === "node" && identity.node === node)) return;
  throw new CallError("wrong-identity", `${describeIdentity(identity)} may not act for node ${JSON.stringify(node)}`);
}

/** Throws CallError("wrong-identity") unless the peer may look into the server. */
export function requireOperator(identity: Identity): void {
  if (identity.kind === "node")
    throw new CallError("wrong-identity", `${describeIdentity(identity)} may not use introspection: it needs the identity ${OPERATOR_URI}`);
}

export function describeIdentity(identity: Identity): string {
  switch (identity.kind) {
    case "node":
      return `node ${identity.node}`;
    case "operator":
      return `operator ${identity.name}`;
    case "local":
      return "a local client";
  }
}

/**
 * URI names of Node's text form "DNS:a, URI:b". Values with a comma or quote are JSON-quoted there (CVE-2021-44532), so that a name cannot smuggle in
 * another; the quoted ones are no names of ours and are left out.
 */
function uriNames(text: string): string[] {
  return text
    .replaceAll(/"(?:[^"\\]|\\.)*"/g, "")
    .split(", ")
    .filter((name) => name.startsWith("URI:"))
    .map((name) => name.slice("URI:".length));
}
