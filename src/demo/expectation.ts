/** What the packets should do: asked of `sedge policy evaluate`, the offline evaluator, with the same manifests. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { execOk } from "../runtime/exec.ts";
import { sedgeEntry } from "./children.ts";
import type { RunningPod } from "./pods.ts";
import type { Probe } from "./probes.ts";
import { type DemoPolicy, NAMESPACES } from "./scenario.ts";

export async function expectedVerdicts(options: {
  dir: string;
  pods: readonly RunningPod[];
  policies: readonly DemoPolicy[];
  probes: readonly Probe[];
}): Promise<("allow" | "deny")[]> {
  const namespaces = Object.entries(NAMESPACES).map(([name, labels]) => ({
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name, labels: { ...labels, "kubernetes.io/metadata.name": name } },
  }));
  const pods = options.pods.map(({ pod, addresses }) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { namespace: pod.namespace, name: pod.name, labels: pod.labels },
    spec: { nodeName: pod.node, containers: [{ name: "app", image: "sedge/demo", ports: pod.ports.map(({ name, port }) => ({ name, containerPort: port })) }] },
    status: { phase: "Running", podIPs: addresses.map((ip) => ({ ip })) },
  }));
  const manifests = join(options.dir, "expected-manifests.json");
  const probes = join(options.dir, "expected-probes.json");
  writeFileSync(
    manifests,
    JSON.stringify({ apiVersion: "v1", kind: "List", items: [...namespaces, ...pods, ...options.policies.map(({ manifest }) => manifest)] }),
  );
  writeFileSync(probes, JSON.stringify(options.probes));
  const output = await execOk([process.execPath, sedgeEntry, "policy", "evaluate", "-f", manifests, "--probes", probes, "-o", "json"]);
  return (JSON.parse(output) as { verdict: "allow" | "deny" }[]).map(({ verdict }) => verdict);
}
