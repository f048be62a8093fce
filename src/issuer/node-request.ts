/**
 * What a node's certificate request may say: its own name and nothing else. The same rule for requests over EST and for CertificateSigningRequests.
 */
import type { CertificateRequest } from "../runtime/certificate-request.ts";
import { NODE_NAME, NODE_URI } from "../wire/identity-uris.ts";

export type NodeRequest = { readonly node: string; readonly problem?: undefined } | { readonly node?: undefined; readonly problem: string };

/** The one node that the request is for, or what is wrong with it. */
export function nodeOfRequest({ commonName, uris, otherNames }: CertificateRequest): NodeRequest {
  if (!NODE_NAME.test(commonName)) return { problem: `the subject must be CN=<name of the node>; it is CN=${JSON.stringify(commonName)}` };
  const want = `${NODE_URI}${commonName}`;
  const others = [...uris.filter((uri) => uri !== want), ...otherNames];
  if (others.length > 0) return { problem: `the request asks for more than a node may be (${others.join(", ")}); the only name allowed is the URI ${want}` };
  return { node: commonName };
}
