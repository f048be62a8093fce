/**
 * Who is at the other end. On the mTLS listener the certificate says it; on the plaintext listener (loopback only) everybody is `local` and may do all.
 *
 * Invariant: a node may open a session, claim and report only for itself; only an operator, another server of the tier, a relay that asks for an operator, or
 * `local` may look into the server, and only an operator or `local` may make it do something. A relay may serve any node and speak for those that it serves;
 * only a certificate of a relay makes a relay.
 */
import type { PeerCertificate } from "node:tls";
import type { NodeName } from "../src/model/names.ts";
import { NODE_NAME, NODE_URI, OPERATOR_URI, RELAY_URI, SERVER_URI, TRUST_DOMAIN, uriNames } from "../src/wire/identity-uris.ts";
import { CallError } from "./status.ts";

export type Identity =
  /** `endsAtUnixMs`: when its certificate ends. */
  | { readonly kind: "node"; readonly node: NodeName; readonly endsAtUnixMs?: number }
  /** A server below this one, which acts for the nodes that it serves. */
  | { readonly kind: "relay"; readonly name: string }
  | { readonly kind: "operator"; readonly name: string }
  /** Another fan-out server, by the certificate with which it serves. */
  | { readonly kind: "server" }
  /** The plaintext listener. */
  | { readonly kind: "local" };

const OPERATOR_NAME = "sedge-operator";

/** The identity that a verified certificate gives: a URI SAN of ours, else the common name. Throws CallError("unidentified"). */
export function identityOfCertificate(
  certificate: (Pick<PeerCertificate, "subject" | "subjectaltname"> & Partial<Pick<PeerCertificate, "valid_to">>) | undefined,
): Identity {
  if (certificate === undefined) throw new CallError("unidentified", "no client certificate: connect with a certificate that the server's CA signed");
  const uris = uriNames(certificate.subjectaltname ?? "");
  const ours = uris.filter((uri) => uri.startsWith(TRUST_DOMAIN));
  if (ours.length > 1) throw new CallError("unidentified", `the certificate has ${ours.length} identities (${ours.join(", ")}); it must have one`);
  const [uri] = ours;
  const commonName = [certificate.subject.CN].flat().at(0) ?? "";
  if (uri === SERVER_URI) return { kind: "server" };
  if (uri === OPERATOR_URI || (uri === undefined && commonName === OPERATOR_NAME)) return { kind: "operator", name: OPERATOR_NAME };
  if (uri?.startsWith(RELAY_URI) === true && NODE_NAME.test(uri.slice(RELAY_URI.length))) return { kind: "relay", name: uri.slice(RELAY_URI.length) };
  const node = uri === undefined ? commonName : uri.startsWith(NODE_URI) ? uri.slice(NODE_URI.length) : "";
  if (!NODE_NAME.test(node))
    throw new CallError(
      "unidentified",
      `the certificate names no node: it needs the URI ${NODE_URI}<name> or the node's name as common name (it has ${JSON.stringify(uri ?? commonName)})`,
    );
  const endsAtUnixMs = Date.parse(certificate.valid_to ?? "");
  return { kind: "node", node: node as NodeName, ...(Number.isNaN(endsAtUnixMs) ? {} : { endsAtUnixMs }) };
}

/** Throws CallError("wrong-identity") unless the peer may act for the node. */
export function requireNode(identity: Identity, node: string): void {
  if (identity.kind === "local" || (identity.kind === "node" && identity.node === node)) return;
  throw new CallError("wrong-identity", `${describeIdentity(identity)} may not act for node ${JSON.stringify(node)}`);
}

/** Throws CallError("wrong-identity") unless the peer may serve others' nodes. */
export function requireRelay(identity: Identity): void {
  if (identity.kind === "local" || identity.kind === "relay") return;
  throw new CallError("wrong-identity", `${describeIdentity(identity)} is no relay: its certificate needs the URI ${RELAY_URI}<name>`);
}

/** What its certificate calls a relay; undefined: it came without one. */
export function relayName(identity: Identity): string | undefined {
  return identity.kind === "relay" ? identity.name : undefined;
}

/** Throws CallError("wrong-identity") unless the peer may look into the server. */
export function requireReader(identity: Identity): void {
  if (identity.kind === "node")
    throw new CallError("wrong-identity", `${describeIdentity(identity)} may not use introspection: it needs the identity ${OPERATOR_URI}`);
}

/** Throws CallError("wrong-identity") unless the peer may change what the server does. */
export function requireOperator(identity: Identity): void {
  requireReader(identity);
  if (identity.kind === "server") throw new CallError("wrong-identity", `${describeIdentity(identity)} may only read: this needs the identity ${OPERATOR_URI}`);
}

export function describeIdentity(identity: Identity): string {
  switch (identity.kind) {
    case "node":
      return `node ${identity.node}`;
    case "relay":
      return `relay ${identity.name}`;
    case "operator":
      return `operator ${identity.name}`;
    case "server":
      return "a fan-out server";
    case "local":
      return "a local client";
  }
}
