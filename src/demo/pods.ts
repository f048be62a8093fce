/** Pods as a container runtime makes them: a namespace, the CNI executable called with environment and stdin, a process inside. */
import { createInterface } from "node:readline";
import { exec } from "../runtime/exec.ts";
import { type Child, type Children, cniExecutable, logTail } from "./children.ts";
import type { DemoNetwork, DemoNode } from "./network.ts";
import type { DemoPod } from "./scenario.ts";

export interface CniTarget {
  readonly node: DemoNode;
  readonly socket: string;
  readonly queueDir: string;
}

export interface RunningPod {
  readonly pod: DemoPod;
  readonly netns: string;
  readonly addresses: readonly string[];
  /** From the start of the CNI executable to its exit, ms. */
  readonly addMs: number;
  probe(request: ProbeRequest): Promise<ProbeAnswer>;
}

export interface ProbeRequest {
  readonly protocol: "tcp" | "udp";
  readonly address: string;
  readonly port: number;
  readonly timeoutMs: number;
}

export interface ProbeAnswer {
  readonly answer: string | null;
  readonly error?: string;
}

/** ADD, as the kubelet's runtime would; throws with the plugin's own error object when it fails. */
export async function addPod(
  pod: DemoPod,
  { target, network, children }: { target: CniTarget; network: DemoNetwork; children: Children },
): Promise<RunningPod> {
  const netns = await network.createPodNetns(pod.namespace, pod.name);
  const containerId = `demo-${pod.namespace}-${pod.name}`;
  const config = { cniVersion: "1.1.0", name: "k8s-pod-network", type: "sedge-cni", socket: target.socket, queueDir: target.queueDir };
  const env = {
    CNI_COMMAND: "ADD",
    CNI_CONTAINERID: containerId,
    CNI_NETNS: netns.path,
    CNI_IFNAME: "eth0",
    CNI_PATH: "/opt/cni/bin",
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${pod.namespace};K8S_POD_NAME=${pod.name};K8S_POD_INFRA_CONTAINER_ID=${containerId}`,
  };
  const started = performance.now();
  const result = await exec([cniExecutable], { stdin: JSON.stringify(config), env, timeoutMs: 30_000 });
  const addMs = performance.now() - started;
  if (result.code !== 0) throw new Error(`CNI ADD of pod ${pod.namespace}/${pod.name} failed: ${result.stdout}${result.stderr}`);
  const { ips = [] } = JSON.parse(result.stdout) as { ips?: { address: string }[] };
  const child = children.start(`pod-${pod.namespace}-${pod.name}`, [`${pod.namespace}/${pod.name}`, pod.ports.map(({ port }) => port).join(",")], {
    netns: netns.name,
    withPipe: true,
    entry: new URL("./pod-process.ts", import.meta.url).pathname,
  });
  const prober = await connectProber(child);
  return { pod, netns: netns.name, addresses: ips.map(({ address }) => address.split("/")[0] ?? ""), addMs, probe: prober };
}

/** Request and answer lines over the process's pipes; resolves when the process has said that it listens. */
async function connectProber(child: Child): Promise<(request: ProbeRequest) => Promise<ProbeAnswer>> {
  const { stdin, stdout } = child.process;
  if (stdin === null || stdout === null) throw new Error(`${child.name} has no pipes`);
  const waiting = new Map<number, (answer: ProbeAnswer) => void>();
  let lastId = 0;
  const ready = new Promise<void>((resolve, reject) => {
    waiting.set(0, () => resolve());
    child.process.once("exit", () => reject(new Error(`${child.name} ended: ${logTail(child)}`)));
  });
  createInterface({ input: stdout }).on("line", (line) => {
    const { id, ...answer } = JSON.parse(line) as { id: number } & ProbeAnswer;
    waiting.get(id)?.(answer);
    waiting.delete(id);
  });
  await ready;
  return (request) =>
    new Promise((resolve) => {
      const id = ++lastId;
      waiting.set(id, resolve);
      stdin.write(`${JSON.stringify({ id, ...request })}\n`);
    });
}
