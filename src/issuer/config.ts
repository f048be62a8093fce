/** Settings of `sedge issuer`. Flag, SEDGE_ISSUER_<NAME>, file: see src/runtime/config.ts. */
import { z } from "zod";
import { isPortInRange } from "../runtime/host-port.ts";
import { LOG_LEVELS } from "../runtime/log.ts";

const hostAndPort = z
  .string()
  .regex(/^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/, "want HOST:PORT, for example 0.0.0.0:5474 or [::]:5474")
  .refine(isPortInRange, "the port must be 65535 or lower");

export const issuerConfigSchema = z.strictObject({
  listen: hostAndPort.default("0.0.0.0:5474").describe("Where nodes ask for certificates: HTTPS, Enrollment over Secure Transport (RFC 7030)"),
  authority: z
    .enum(["secret", "files", "kubernetes"])
    .default("secret")
    .describe(
      "Who signs: an authority kept in a Secret, made when there is none (secret); one from --ca-cert and --ca-key (files); whoever signs CertificateSigningRequests of --signer-name (kubernetes)",
    ),
  caCert: z.string().optional().describe("With --authority files: the authority's certificate (PEM); with kubernetes: the authority that others sign with"),
  caKey: z.string().optional().describe("With --authority files: the key of the authority (PEM, PKCS#8, ECDSA P-256)"),
  caSecret: z.string().default("sedge-ca").describe("With --authority secret: its name; the ConfigMap of the same name gets ca.crt"),
  namespace: z.string().default("sedge-system").describe("Where the Secrets and the ConfigMap are"),
  tlsCert: z.string().optional().describe("The issuer's own certificate (PEM, URI spiffe://sedge/issuer); without it the authority signs one"),
  tlsKey: z.string().optional().describe("The key of the issuer's own certificate (PEM)"),
  tokenFile: z
    .string()
    .optional()
    .describe("Bootstrap tokens that need no API: a line each, TOKEN NODE, where NODE is a node's name or * for any; # begins a comment"),
  tokenReview: z.boolean().default(true).describe("Ask the API server who bears a token (TokenReview): service account tokens and Kubernetes bootstrap tokens"),
  audience: z.string().min(1).default("sedge.network").describe("Audience of the agents' service account tokens"),
  agentAccount: z
    .string()
    .regex(/^[a-z0-9.-]+:[a-z0-9.-]+$/, "want NAMESPACE:NAME")
    .default("sedge-system:sedge-agent")
    .describe("Service account of the agents, NAMESPACE:NAME; its tokens must be bound to a pod, whose node is the one that gets a certificate"),
  bootstrapGroup: z
    .string()
    .min(1)
    .default("system:bootstrappers:sedge")
    .describe("Group of Kubernetes bootstrap tokens whose bearer may ask for the certificate of any Node that exists"),
  signerName: z.string().min(1).default("sedge.network/node").describe("signerName of CertificateSigningRequests"),
  signRequests: z
    .boolean()
    .default(true)
    .describe(
      "With an authority of its own: also sign CertificateSigningRequests of --signer-name; those of the node itself are approved, others wait for an approval",
    ),
  validityHours: z.number().int().min(1).max(8_760).default(720).describe("A node's certificate is good for so long; the agent renews it after two thirds"),
  kubeconfig: z.string().optional().describe("Kubeconfig of the API server; without it KUBECONFIG, ~/.kube/config or the pod's service account"),
  metricsListen: hostAndPort.default("127.0.0.1:9094").describe("Where /metrics is served"),
  healthListen: hostAndPort.default("127.0.0.1:9095").describe("Where /liveness and /readiness are served"),
  logLevel: z.enum(LOG_LEVELS).default("info").describe("trace, debug, info, warn, error, fatal or silent"),
});

export type IssuerConfig = z.infer<typeof issuerConfigSchema>;

/** What the schema alone cannot say. Empty when the settings fit together. */
export function configProblems(config: IssuerConfig): readonly string[] {
  const { authority, caCert, caKey, tlsCert, tlsKey, tokenFile, tokenReview } = config;
  const problems: string[] = [];
  if (authority === "files" && (caCert === undefined || caKey === undefined)) problems.push("--authority files: --ca-cert and --ca-key are needed");
  if (authority === "kubernetes" && (caCert === undefined || tlsCert === undefined || tlsKey === undefined))
    problems.push("--authority kubernetes: --ca-cert, --tls-cert and --tls-key are needed, since the issuer has no key of its own to sign with");
  if (authority !== "files" && caKey !== undefined) problems.push(`--ca-key: leave it out with --authority ${authority}`);
  if ((tlsCert === undefined) !== (tlsKey === undefined)) problems.push("--tls-cert and --tls-key go together");
  if (!tokenReview && tokenFile === undefined) problems.push("--no-token-review: give --token-file, else no node could get its first certificate");
  return problems;
}

/** Whether it works without an API server. */
export function isStandalone({ authority, tokenReview, signRequests }: IssuerConfig): boolean {
  return authority === "files" && !tokenReview && !signRequests;
}
