/**
 * Who a certificate of ours says that its holder is: a URI in the subject alternative name (RFC 5280 4.2.1.6), of the form of a SPIFFE id with the trust
 * domain `sedge`. One home, because the issuer writes what servers and agents read.
 */

export const TRUST_DOMAIN = "spiffe://sedge/";
export const SERVER_URI = `${TRUST_DOMAIN}fanout`;
export const ISSUER_URI = `${TRUST_DOMAIN}issuer`;
export const OPERATOR_URI = `${TRUST_DOMAIN}operator`;
/** Before the relay's name. */
export const RELAY_URI = `${TRUST_DOMAIN}relay/`;
/** Before the node's name. */
export const NODE_URI = `${TRUST_DOMAIN}node/`;

/** RFC 1123 subdomain, as Kubernetes names nodes. */
export const NODE_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

/**
 * URI names of Node's text form "DNS:a, URI:b". Values with a comma or quote are JSON-quoted there (CVE-2021-44532), so that a name cannot smuggle in
 * another; the quoted ones are no names of ours and are left out.
 */
export function uriNames(subjectAltName: string): readonly string[] {
  return subjectAltName
    .replaceAll(/"(?:[^"\\]|\\.)*"/g, "")
    .split(", ")
    .filter((name) => name.startsWith("URI:"))
    .map((name) => name.slice("URI:".length));
}
