/**
 * Pods and objects of a cluster whose programs may be away at any moment: written, connected and disconnected as a scheduler and a container runtime do, again and
 * again until it is done.
 */
import { ApiError } from "../../src/datastore/api-error.ts";
import { API_RESOURCES } from "../../src/datastore/api-resources.ts";
import { type IpAddress, parseIp } from "../../src/net/ip.ts";
import { exec } from "../../src/runtime/exec.ts";
import type { NaivePod, NaivePolicy } from "../conformance/naive-network-policy.ts";
import type { Cluster } from "./cluster.ts";

export interface PodSpec extends NaivePod {
  readonly name: string;
  readonly node: string;
}

export interface ConnectedPod extends PodSpec {
  readonly uid: string;
  readonly containerId: string;
  readonly netns: { readonly name: string; readonly path: string };
  readonly addresses: readonly IpAddress[];
}

const WRITE_TRIES = 200;
const AGAIN_MS = 100;
const ADD_DEADLINE_MS = 60_000;
const TRY_AGAIN_LATER = 11;

/** The API may be away, and an answer may be lost after the write: for writes that may be repeated. undefined: what was to be deleted is gone. */
export async function untilWritten<T>(write: () => Promise<T>): Promise<T | undefined> {
  for (let tries = 0; ; tries++) {
    try {
      return await write();
    } catch (error) {
      const status = error instanceof ApiError ? (error.status ?? 0) : 0;
      if (status === 404) return undefined;
      if ((status >= 400 && status < 500 && status !== 409 && status !== 429) || tries > WRITE_TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

export async function writeNamespace(cluster: Cluster, name: string, labels: Readonly<Record<string, string>> = {}): Promise<void> {
  const object = { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } };
  await untilWritten(() => cluster.api.patch(API_RESOURCES.Namespace, { name }, object, { type: "apply", fieldManager: "test" }));
}

export async function writeNetworkPolicy(cluster: Cluster, { metadata: { namespace, name }, spec }: NaivePolicy): Promise<void> {
  const object = { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { namespace, name }, spec };
  await untilWritten(() => cluster.api.patch(API_RESOURCES.NetworkPolicy, { namespace, name }, object, { type: "apply", fieldManager: "test" }));
}

/** null takes one away. */
export async function annotatePod(
  cluster: Cluster,
  { namespace, name }: { readonly namespace: string; readonly name: string },
  annotations: Readonly<Record<string, string | null>>,
): Promise<void> {
  await untilWritten(() => cluster.api.patch(API_RESOURCES.Pod, { namespace, name }, { metadata: { annotations } }, { type: "merge" }));
}

/** The pod's object as the scheduler leaves it; resolves to its uid. */
export async function writePod(cluster: Cluster, { namespace, name, labels, node, ports }: PodSpec): Promise<string> {
  const containers = [{ name: "app", image: "none", ports: ports.map(({ name, protocol, port }) => ({ name, protocol, containerPort: port })) }];
  const spec = { nodeName: node, containers, automountServiceAccountToken: false };
  const object = { apiVersion: "v1", kind: "Pod", metadata: { namespace, name, labels }, spec };
  const stored = await untilWritten(() => cluster.api.patch(API_RESOURCES.Pod, { namespace, name }, object, { type: "apply", fieldManager: "test" }));
  return (stored as { metadata: { uid: string } }).metadata.uid;
}

/** Object, namespace, `onNetns`, and ADD, which is called again when it says so (code 11) and, at each of those, `onAgain`. */
export async function connectPod(
  cluster: Cluster,
  pod: PodSpec,
  { tag = "0", onNetns = () => undefined, onAgain = () => undefined }: { tag?: string; onNetns?: (path: string) => void; onAgain?: () => void } = {},
): Promise<ConnectedPod> {
  const uid = await writePod(cluster, pod);
  const netns = await cluster.network.createPodNetns(pod.namespace, `${pod.name}-${tag}`);
  onNetns(netns.path);
  const containerId = `c-${pod.namespace}-${pod.name}-${tag}`;
  const began = performance.now();
  for (;;) {
    const { code, stdout, stderr } = await cluster.cni({
      command: "ADD",
      node: pod.node,
      namespace: pod.namespace,
      pod: pod.name,
      uid,
      containerId,
      netns: netns.path,
    });
    if (code === 0) {
      const { ips } = JSON.parse(stdout) as { ips: { address: string }[] };
      return { ...pod, uid, containerId, netns, addresses: ips.map(({ address }) => parseIp(address.split("/")[0] ?? "")) };
    }
    if (cniCode(stdout) !== TRY_AGAIN_LATER || performance.now() - began > ADD_DEADLINE_MS)
      throw new Error(`ADD of ${containerId} on ${pod.node}: exit ${code} ${stdout}${stderr}`);
    onAgain();
    await new Promise((resolve) => setTimeout(resolve, 2 * AGAIN_MS));
  }
}

/** What the kubelet writes when the sandbox is up. */
export async function writePodRunning(cluster: Cluster, { namespace, name, addresses }: ConnectedPod): Promise<void> {
  const status = { phase: "Running", podIP: addresses[0], podIPs: addresses.map((ip) => ({ ip })) };
  await untilWritten(() => cluster.api.patch(API_RESOURCES.Pod, { namespace, name }, { status }, { type: "merge", subresource: "status" }));
}

/** DEL, then the namespace and the object. Throws when DEL does not succeed: it must, whoever is away. */
export async function disconnectPod(cluster: Cluster, { node, namespace, name, uid, containerId, netns }: ConnectedPod): Promise<void> {
  const { code, stdout } = await cluster.cni({ command: "DEL", node, namespace, pod: name, uid, containerId, netns: netns.path });
  await exec(["ip", "netns", "delete", netns.name]);
  await untilWritten(() => cluster.api.requestJson("DELETE", `/api/v1/namespaces/${namespace}/pods/${name}`, { query: { gracePeriodSeconds: 0 } }));
  if (code !== 0) throw new Error(`DEL of ${containerId} on ${node}: exit ${code} ${stdout}`);
}

/** The code of a CNI error object; undefined: it is none. */
export function cniCode(stdout: string): number | undefined {
  try {
    return (JSON.parse(stdout) as { code?: number }).code;
  } catch {
    return undefined;
  }
}
