/** Where certificates for nodes come from: an authority whose key is here, or whoever signs CertificateSigningRequests in the cluster. */
import type { CertificateRequest } from "../runtime/certificate-request.ts";
import type { CertificateAuthority } from "../runtime/tls.ts";
import { NODE_URI } from "../wire/identity-uris.ts";

export type Issued =
  /** PEM, the leaf first. */
  | { readonly kind: "issued"; readonly certificates: readonly string[] }
  /** Ask again with the same request after this long. */
  | { readonly kind: "pending"; readonly retryAfterMs: number }
  /** Somebody said no; asking again does not help. */
  | { readonly kind: "denied"; readonly reason: string };

export interface CertificateSource {
  /** The authority that servers and agents should trust, PEM. */
  authorityPem(): string;
  /** `node` was established by who calls, and the request names it. Rejects when it cannot be told at the moment. */
  issue(request: CertificateRequest, node: string, signal: AbortSignal): Promise<Issued>;
}

/** Signs by itself. */
export function ownAuthority(authority: CertificateAuthority, { validForMs }: { readonly validForMs: number }): CertificateSource {
  return {
    authorityPem: () => authority.cert,
    async issue({ publicKey }, node) {
      const certificate = await authority.certify(publicKey, { commonName: node, uris: [`${NODE_URI}${node}`], validForMs });
      return { kind: "issued", certificates: [certificate] };
    },
  };
}
