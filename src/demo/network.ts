/**
 * The demo's network: a fabric namespace with one bridge, a namespace a node on it, a namespace a pod. Nothing is made in the machine's own
 * network namespace.
 */
import { execOk } from "../runtime/exec.ts";
import { NETNS_PREFIX } from "./registry.ts";

export interface DemoNode {
  readonly name: string;
  readonly netns: string;
  readonly addressV4: string;
  readonly addressV6: string;
}

export const FABRIC = `${NETNS_PREFIX}fabric`;
/** Where agents reach the server: an address of the fabric's bridge. */
export const SERVER_ADDRESS = "172.30.77.1";

export const NODES: readonly DemoNode[] = [1, 2, 3].map((i) => ({
  name: `n${i}`,
  netns: `${NETNS_PREFIX}n${i}`,
  addressV4: `172.30.77.${10 + i}`,
  addressV6: `fd30:77::${10 + i}`,
}));

function inNetns(netns: string, ...command: string[]): Promise<string> {
  return execOk(["ip", "-n", netns, ...command]);
}

export async function createFabric(): Promise<void> {
  await execOk(["ip", "netns", "add", FABRIC]);
  await inNetns(FABRIC, "link", "set", "lo", "up");
  await inNetns(FABRIC, "link", "add", "br0", "type", "bridge");
  await inNetns(FABRIC, "address", "add", `${SERVER_ADDRESS}/24`, "dev", "br0");
  await inNetns(FABRIC, "link", "set", "br0", "up");
  for (const node of NODES) {
    await execOk(["ip", "netns", "add", node.netns]);
    await inNetns(FABRIC, "link", "add", node.name, "type", "veth", "peer", "name", "eth0", "netns", node.netns);
    await inNetns(FABRIC, "link", "set", node.name, "master", "br0", "up");
    await inNetns(node.netns, "link", "set", "lo", "up");
    await inNetns(node.netns, "address", "add", `${node.addressV4}/24`, "dev", "eth0");
    await inNetns(node.netns, "address", "add", `${node.addressV6}/64`, "dev", "eth0", "nodad");
    await inNetns(node.netns, "link", "set", "eth0", "up");
  }
}

/** The namespace that a container runtime would have made for the pod. */
export async function createPodNetns(namespace: string, pod: string): Promise<{ name: string; path: string }> {
  const name = `${NETNS_PREFIX}pod-${namespace}-${pod}`;
  await execOk(["ip", "netns", "add", name]);
  await inNetns(name, "link", "set", "lo", "up");
  return { name, path: `/var/run/netns/${name}` };
}
