/**
 * Who asks for a certificate, and for which node: the certificate that it has, or a token.
 *
 * Invariant: a certificate is only ever issued for a node that the credential names; a credential that names none (a bootstrap token) is told apart, so that
 * who issues can ask for more (the Node object must exist).
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { NODE_NAME, NODE_URI, uriNames } from "../wire/identity-uris.ts";

export type Applicant =
  | { readonly kind: "node"; readonly node: string; readonly by: CredentialKind }
  /** May ask for any node's. */
  | { readonly kind: "any-node"; readonly by: CredentialKind };

export type CredentialKind = "certificate" | "service-account" | "bootstrap-token" | "token-file";

/** What a token gives; undefined: nobody that we know. Rejects when it cannot be told at the moment. */
export type TokenJudge = (token: string, signal: AbortSignal) => Promise<Applicant | undefined>;

/** The node of a certificate that was verified against our authority; undefined: it is not a node's. */
export function applicantOfCertificate(subjectAltName: string | undefined): Applicant | undefined {
  const [uri, ...others] = uriNames(subjectAltName ?? "").filter((name) => name.startsWith(NODE_URI));
  const node = uri?.slice(NODE_URI.length);
  return node === undefined || others.length > 0 || !NODE_NAME.test(node) ? undefined : { kind: "node", node, by: "certificate" };
}

/** The first that knows the token. */
export function anyOf(judges: readonly TokenJudge[]): TokenJudge {
  return async (token, signal) => {
    for (const judge of judges) {
      const applicant = await judge(token, signal);
      if (applicant !== undefined) return applicant;
    }
    return undefined;
  };
}

/** Lines "TOKEN NODE"; NODE may be *. Throws TypeError with the line that is wrong; never with a token in it. */
export function fileTokens(text: string): TokenJudge {
  const known = text.split("\n").flatMap((line, index): { digest: Buffer; applicant: Applicant }[] => {
    const [content = ""] = line.split("#");
    const [token, node, ...rest] = content.trim().split(/\s+/);
    if (token === undefined || token === "") return [];
    if (node === undefined || rest.length > 0) throw new TypeError(`line ${index + 1}: want TOKEN NODE, where NODE is a node's name or *`);
    if (token.length < 16) throw new TypeError(`line ${index + 1}: the token is shorter than 16 characters`);
    if (node !== "*" && !NODE_NAME.test(node)) throw new TypeError(`line ${index + 1}: ${JSON.stringify(node)} is no name of a node`);
    return [{ digest: digestOf(token), applicant: node === "*" ? { kind: "any-node", by: "token-file" } : { kind: "node", node, by: "token-file" } }];
  });
  return (token) => {
    const digest = digestOf(token);
    return Promise.resolve(known.find((entry) => timingSafeEqual(entry.digest, digest))?.applicant);
  };
}

function digestOf(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
