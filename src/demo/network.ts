/**
 * The demo's network: a fabric namespace with one bridge, a namespace a node on it, a namespace a pod. Nothing is made in the machine's own
 * network namespace.
 */
import { execOk } from "../runtime/exec.ts";

export interface DemoNode {
  readonly name: string;
  readonly addressV4: string;
  readonly addressV6: string;
}

/** Where agents reach the server: an address of the fabric's bridge. */
export const SERVER_ADDRESS = "172.30.77.1";

/**
 * A bridge without one of its own has the lowest of its ports': with a port that comes or goes it may be another, and nodes would send to the old one until
 * they ask anew.
 */
const BRIDGE_MAC = "02:5e:d9:00:00:01";

export const NODES: readonly DemoNode[] = [1, 2, 3].map((i) => ({ name: `n${i}`, addressV4: `172.30.77.${10 + i}`, addressV6: `fd30:77::${10 + i}` }));

export class DemoNetwork {
  readonly #prefix: string;
  #isClosed = false;

  /** `prefix`: every namespace's name begins with it. */
  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  /** From now on no namespace is made: what is cleaned up stays so. */
  close(): void {
    this.#isClosed = true;
  }

  get fabric(): string {
    return `${this.#prefix}fabric`;
  }

  nodeNetns(node: DemoNode): string {
    return `${this.#prefix}${node.name}`;
  }

  /** The fabric and the nodes. */
  async create(): Promise<void> {
    await execOk(["ip", "netns", "add", this.fabric]);
    await inNetns(this.fabric, "link", "set", "lo", "up");
    await inNetns(this.fabric, "link", "add", "br0", "address", BRIDGE_MAC, "type", "bridge");
    await inNetns(this.fabric, "address", "add", `${SERVER_ADDRESS}/24`, "dev", "br0");
    await inNetns(this.fabric, "link", "set", "br0", "up");
    for (const node of NODES) await this.createNode(node);
  }

  /** A node that has just started: its interface on the fabric, and nothing else. */
  async createNode(node: DemoNode): Promise<void> {
    const netns = this.nodeNetns(node);
    await execOk(["ip", "netns", "add", netns]);
    await inNetns(this.fabric, "link", "add", node.name, "type", "veth", "peer", "name", "eth0", "netns", netns);
    await inNetns(this.fabric, "link", "set", node.name, "master", "br0", "up");
    await inNetns(netns, "link", "set", "lo", "up");
    await inNetns(netns, "address", "add", `${node.addressV4}/24`, "dev", "eth0");
    await inNetns(netns, "address", "add", `${node.addressV6}/64`, "dev", "eth0", "nodad");
    await inNetns(netns, "link", "set", "eth0", "up");
  }

  /** The namespace that a container runtime would have made for the pod. */
  async createPodNetns(namespace: string, pod: string): Promise<{ name: string; path: string }> {
    if (this.#isClosed) throw new Error("the demo is being stopped");
    const name = `${this.#prefix}pod-${namespace}-${pod}`;
    await execOk(["ip", "netns", "add", name]);
    await inNetns(name, "link", "set", "lo", "up");
    return { name, path: `/var/run/netns/${name}` };
  }
}

function inNetns(netns: string, ...command: string[]): Promise<string> {
  return execOk(["ip", "-n", netns, ...command]);
}
