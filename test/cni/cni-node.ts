/** A node for tests of the CNI side with the kernel: a namespace of its own, an agent (test/fakes/cni-agent.ts) in it that can be killed, and pods' namespaces. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type CniAgentOptions, DIE_AT_FILE } from "../fakes/cni-agent.ts";
import { type CniReply, callCni } from "../fakes/cni-caller.ts";
import { createNetns, type Netns } from "../kernel/netns.ts";

const PREFIX = "sdgcni";
const agentEntry = new URL("../fakes/cni-agent.ts", import.meta.url).pathname;

/** Echoes one UDP datagram a socket; prints "ready". */
const ECHO = `const d=require("node:dgram");let n=2;for(const [t,a] of [["udp4","0.0.0.0"],["udp6","::"]]){const s=d.createSocket({type:t,ipv6Only:t==="udp6"});s.on("message",(m,r)=>s.send(m,r.port,r.address));s.bind(7,a,()=>{if(--n===0)console.log("ready")})}`;
/** Sends one datagram to each address given at once and prints those that answered within a second. */
const ASK = `const d=require("node:dgram");const got=[];const all=process.argv.slice(1);let left=all.length;const end=()=>{console.log(JSON.stringify(got.sort()));process.exit()};setTimeout(end,1000);for(const a of all){const s=d.createSocket(a.includes(":")?"udp6":"udp4");s.on("error",()=>0);s.on("message",()=>{got.push(a);if(--left===0)end()});s.send("x",7,a)}`;

export class Node implements AsyncDisposable {
  readonly host: Netns;
  readonly directory: string;
  readonly #options: Omit<CniAgentOptions, "directory" | "hasKernel">;
  readonly #pods = new Map<string, Netns>();
  #agent: ChildProcess | undefined;

  private constructor(host: Netns, directory: string, options: Omit<CniAgentOptions, "directory" | "hasKernel">) {
    this.host = host;
    this.directory = directory;
    this.#options = options;
  }

  static async start(options: Partial<CniAgentOptions> = {}): Promise<Node> {
    const host = await createNetns(PREFIX);
    await host.sysctl("net.ipv4.ip_forward", "1");
    await host.sysctl("net.ipv6.conf.all.forwarding", "1");
    for (const address of ["192.0.2.1/32", "2001:db8::1/128"]) await host.ip("address", "add", address, "dev", "lo");
    const node = new Node(host, await mkdtemp(join(tmpdir(), "sedge-pods-")), { pools: ["10.65.0.0/24", "fd00:65::/64"], ...options });
    await node.startAgent();
    return node;
  }

  /** `over`: for this run of the agent alone. */
  async startAgent(over: Partial<CniAgentOptions> = {}): Promise<void> {
    const options: CniAgentOptions = { ...this.#options, ...over, directory: this.directory, hasKernel: true };
    this.#agent = this.host.spawn(process.execPath, [agentEntry, JSON.stringify(options)], { stdio: ["ignore", "pipe", "inherit"] });
    await said(this.#agent, "ready");
  }

  async killAgent(): Promise<void> {
    const agent = this.#agent;
    if (agent === undefined) return;
    this.#agent = undefined;
    const ended = once(agent, "exit");
    agent.kill("SIGKILL");
    await ended;
  }

  /** The agent that is there kills itself at this point of the next request for its victim. */
  async armAgent(dieAt: number): Promise<void> {
    await writeFile(join(this.directory, DIE_AT_FILE), String(dieAt));
  }

  /** Resolves when the agent has ended by itself. */
  async agentEnded(): Promise<void> {
    const agent = this.#agent;
    if (agent !== undefined && agent.exitCode === null && agent.signalCode === null) await once(agent, "exit");
    this.#agent = undefined;
  }

  /** False also when it is about to end: whoever answers a DEL from the queue has no agent. */
  async isAgentUp(): Promise<boolean> {
    const status = await this.call("STATUS", "");
    if (status.code === 0) return true;
    await this.agentEnded();
    return false;
  }

  /** Addresses that the host routes to pods. */
  async routedAddresses(): Promise<readonly string[]> {
    const routes = `${await this.host.ip("-4", "route", "show", "proto", "94")}\n${await this.host.ip("-6", "route", "show", "proto", "94")}`;
    return [...routes.matchAll(/^(\S+) dev cali/gm)].map(([, destination = ""]) => destination.split("/")[0] ?? "").sort();
  }

  /** Addresses that our table lets pods send from. */
  async allowedSources(): Promise<readonly string[]> {
    const text = await this.host.exec("nft", "list", "table", "inet", "sedge");
    return [...text.matchAll(/"cali\w+" \. ([0-9a-f.:]+)/g)].map(([, address = ""]) => address).sort();
  }

  async podNetns(containerId: string): Promise<Netns> {
    const known = this.#pods.get(containerId);
    if (known !== undefined) return known;
    const netns = await createNetns(PREFIX);
    this.#pods.set(containerId, netns);
    return netns;
  }

  async add(containerId: string, pod = containerId): Promise<CniReply> {
    return await callCni(this.directory, { command: "ADD", containerId, pod, netns: (await this.podNetns(containerId)).path });
  }

  async call(command: string, containerId: string, config: Record<string, unknown> = {}, pod = containerId): Promise<CniReply> {
    return await callCni(this.directory, { command, containerId, pod, netns: (await this.podNetns(containerId)).path, config });
  }

  async hostInterfaces(): Promise<readonly string[]> {
    const links = JSON.parse(await this.host.ip("-j", "link")) as { ifname: string }[];
    return links.map(({ ifname }) => ifname).filter((name) => name.startsWith("cali"));
  }

  async used(): Promise<readonly string[]> {
    const blocks = JSON.parse(await readFile(join(this.directory, "api.json"), "utf8")) as { allocations: { address: string; pod: string }[] }[];
    return blocks.flatMap(({ allocations }) => allocations.map(({ address }) => address));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.killAgent();
    for (const pod of this.#pods.values()) await pod[Symbol.asyncDispose]();
    await this.host[Symbol.asyncDispose]();
    await rm(this.directory, { recursive: true, force: true });
  }
}

async function said(child: ChildProcess, word: string): Promise<void> {
  if (child.stdout === null) throw new Error("no pipe");
  for await (const line of createInterface({ input: child.stdout })) if (line === word) return;
  throw new Error(`it ended before it said ${word}`);
}

export function addressesOf({ json }: CniReply): readonly string[] {
  return (json.ips ?? []).map(({ address }) => address.split("/")[0] ?? "").sort();
}

export async function startEcho(netns: Netns): Promise<void> {
  await said(netns.spawn(process.execPath, ["-e", ECHO], { stdio: ["ignore", "pipe", "inherit"] }), "ready");
}

export async function answered(netns: Netns, addresses: readonly string[]): Promise<unknown> {
  return JSON.parse(await netns.exec(process.execPath, "-e", ASK, ...addresses));
}
