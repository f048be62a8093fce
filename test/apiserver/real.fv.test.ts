// The real kube-apiserver against the same suite: what it says of the embedded API is true of Kubernetes.

import { describeApi } from "./api-suite.ts";
import { findGoTool, startKubeApiserver } from "./start.ts";

await describeApi("kube-apiserver", async () => {
  if (findGoTool("kube-apiserver") === undefined) return "kube-apiserver is not built (node scripts/build-go-tools.mjs kube-apiserver)";
  const server = await startKubeApiserver();
  return { kubeconfigPath: server.kubeconfig, close: () => server.stop() };
});
