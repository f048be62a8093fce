/** A kubeconfig for the embedded API: one cluster, one user with a token, one context. */
import { stringify } from "yaml";

interface KubeconfigOptions {
  /** "https://127.0.0.1:6443" */
  readonly url: string;
  /** PEM. */
  readonly certificateAuthority: string;
  readonly token: string;
}

export function renderKubeconfig({ url, certificateAuthority, token }: KubeconfigOptions): string {
  const name = "sedge";
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name, cluster: { server: url, "certificate-authority-data": Buffer.from(certificateAuthority).toString("base64") } }],
    users: [{ name: "admin", user: { token } }],
    contexts: [{ name, context: { cluster: name, user: "admin", namespace: "default" } }],
    "current-context": name,
  });
}
