/**
 * Kills and changes at random, from a seed, while every pair of pods is probed; after each round everything must have converged.
 *
 * A round: one to three faults at once, changes of the cluster in the middle of them, everything started again, and then the quiet point: each object of
 * the API in force on all its nodes, each lane probed under its final verdict, the kernel's contents held against the API's.
 * A failure does not end the run: all of them are told, with the round and what was going on.
 * Above 500 lines, because faults, changes and the quiet point all act on one cluster, one world and one seed.
 */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { API_RESOURCES } from "../../src/datastore/api-resources.ts";
import { sedgeEntry } from "../../src/demo/children.ts";
import { poll } from "../../src/demo/cluster.ts";
import { execOk } from "../../src/runtime/exec.ts";
import type { NaivePolicy } from "../conformance/naive-network-policy.ts";
import { AccountedTraffic } from "./accounted-traffic.ts";
import {
  type Change,
  NAMESPACES,
  portsOf,
  Random,
  randomLabels,
  randomNamespaceLabels,
  randomPolicy,
  TCP_PORTS,
  UDP_PORTS,
  type WorldPod,
  Worlds,
} from "./chaos-world.ts";
import { type Cluster, nodeOf } from "./cluster.ts";
import { type ConnectedPod, connectPod, disconnectPod, untilWritten, writeNamespace, writeNetworkPolicy, writePod, writePodRunning } from "./cluster-pods.ts";
import { contentsDifference, kernelProblems, nodeContents } from "./kernel-contents.ts";

export interface ChaosOptions {
  readonly seed: number;
  readonly cluster: Cluster;
  readonly packetsPerSecond?: number;
  readonly pods?: number;
  readonly say?: (line: string) => void;
}

const POD_COUNT = 9;
const MAX_POLICIES = 8;
const CONVERGE_MS = 30_000;
const REPAIR_MS = 1_000;

export class Chaos {
  readonly failures: string[] = [];
  readonly done = new Map<string, number>();
  readonly traffic: AccountedTraffic;
  readonly #options: Required<ChaosOptions>;
  readonly #cluster: Cluster;
  readonly #random: Random;
  #worlds = new Worlds({ namespaces: {}, pods: new Map(), policies: new Map() });
  #lastPod = 0;
  #round = 0;
  #now = "start";
  /** "kind namespace/name" of what was deleted: the server must have heard. */
  readonly #deleted = new Set<string>();
  readonly #connected = new Map<string, ConnectedPod>();

  constructor(options: ChaosOptions) {
    this.#options = { packetsPerSecond: 300, pods: POD_COUNT, say: () => undefined, ...options };
    this.#cluster = options.cluster;
    this.#random = new Random(options.seed);
    this.traffic = new AccountedTraffic({
      tcpPorts: TCP_PORTS,
      udpPorts: UDP_PORTS,
      packetsPerSecond: this.#options.packetsPerSecond,
      maxFlows: 24,
      onFailure: (what) => this.#fail(what),
    });
  }

  get rounds(): number {
    return this.#round;
  }

  async begin(): Promise<void> {
    for (const name of NAMESPACES) await this.#setNamespace(name, randomNamespaceLabels(this.#random));
    for (let i = 0; i < this.#options.pods; i++) await this.#addPod(this.#newPod());
    for (let i = 0; i < 5; i++) await this.#setPolicy(randomPolicy(this.#random, this.#random.pick(NAMESPACES), `p${i}`));
    this.traffic.start();
    await this.#quiet();
  }

  async round(): Promise<void> {
    this.#round++;
    const random = this.#random;
    const faults = this.#pickFaults();
    const changes = Array.from({ length: random.below(4) }, () => this.#pickChange());
    this.#now = `round ${this.#round}: ${[...faults, ...changes].map(({ name }) => name).join(", ")}`;
    this.#options.say(this.#now);
    const work = [...faults, ...changes].map(async ({ name, run }) => {
      this.#count(name.replace(/ .*/, ""));
      await run();
    });
    for (const result of await Promise.allSettled(work)) if (result.status === "rejected") this.#fail(`an action failed: ${String(result.reason)}`);
    await this.#quiet();
    if (faults.length === 0 || random.chance(0.3)) await this.#interfere();
  }

  /** At the end: the command line's evaluator agrees, and a table that is built anew says what the one that was kept says. */
  async end(): Promise<void> {
    this.#now = "end";
    await this.#compareWithEvaluate();
    for (const node of this.#cluster.nodes) await this.#restartWithNothing(node);
    await this.#quiet();
    this.traffic.stop();
  }

  async wipeAll(): Promise<void> {
    for (const node of this.#cluster.nodes) {
      this.#now = `wipe ${node}`;
      await this.#restartWithNothing(node);
    }
  }

  #pickFaults(): readonly Action[] {
    const random = this.#random;
    const node = random.pick(this.#cluster.nodes);
    const pause = (): number => random.below(1_500);
    const kill = (program: string, start: () => Promise<void> | void, before: () => void = () => undefined): (() => Promise<void>) => {
      const [first, second] = [random.below(400), pause()];
      return async () => {
        await sleep(first);
        await this.#cluster.kill(program);
        before();
        await sleep(second);
        await start();
      };
    };
    const startAgent = (): void => this.#cluster.startAgent(node);
    const agent: Action = { name: `kill-agent ${node}`, run: kill(`agent-${node}`, startAgent) };
    const wiped: Action = {
      name: `kill-agent-and-state ${node}`,
      run: kill(`agent-${node}`, startAgent, () => rmSync(this.#cluster.stateDirOf(node), { recursive: true, force: true })),
    };
    const stopped = random.below(2_500);
    const freeze = (program: string): Action => ({
      name: `freeze-${program.replace("-", " ")}`,
      run: async () => {
        this.#cluster.signal(program, "SIGSTOP");
        await sleep(stopped);
        this.#cluster.signal(program, "SIGCONT");
      },
    });
    const frozen = freeze(`agent-${node}`);
    const fanout: Action = { name: "kill-fanout", run: kill("fanout", () => this.#cluster.startFanout()) };
    const api: Action = { name: "kill-api", run: kill("api", () => this.#cluster.startApi()) };
    return random.pick([
      [agent],
      [wiped],
      [frozen],
      [fanout],
      [api],
      [fanout, api],
      [agent, fanout],
      [wiped, api],
      [agent, fanout, api],
      [wiped, fanout],
      [freeze("fanout")],
      [freeze("api")],
      [],
    ]);
  }

  #pickChange(): Action {
    const random = this.#random;
    const when = random.below(1_200);
    const late = (name: string, run: () => Promise<void>): Action => ({
      name,
      run: async () => {
        await sleep(when);
        await run();
      },
    });
    const seedHere = random.below(1 << 30);
    const own = new Random(seedHere);
    switch (random.below(6)) {
      case 0:
        return late("policy-deleted", async () => {
          const policies = [...this.#worlds.newest.policies.values()];
          if (policies.length > 0) await this.#deletePolicy(own.pick(policies));
        });
      case 1:
        return late("namespace-labels", () => this.#setNamespace(own.pick(NAMESPACES), randomNamespaceLabels(own)));
      case 2:
        return late("pod-labels", async () => {
          const pods = [...this.#worlds.newest.pods.values()];
          await this.#setPodLabels(own.pick(pods), randomLabels(own));
        });
      case 3:
        return late("pod-replaced", () =>
          this.#exclusively(async () => {
            const old = own.pick([...this.#worlds.newest.pods.values()]);
            await this.#removePod(old);
            await this.#addPod(own.chance(0.5) ? { ...this.#newPod(own), namespace: old.namespace, name: old.name } : this.#newPod(own));
          }),
        );
      default:
        return late("policy-set", async () => {
          const { policies } = this.#worlds.newest;
          const n = policies.size >= MAX_POLICIES ? own.below(MAX_POLICIES) : this.#lastPolicy++;
          const old = [...policies.values()][n];
          await this.#setPolicy(randomPolicy(own, old?.metadata.namespace ?? own.pick(NAMESPACES), old?.metadata.name ?? `p${n + 100}`));
        });
    }
  }

  #lastPolicy = 0;
  #queue: Promise<void> = Promise.resolve();

  /** Pods come and go one after the other: two pods of one name at once is not what an API allows. */
  #exclusively(work: () => Promise<void>): Promise<void> {
    const next = this.#queue.then(work);
    this.#queue = next.catch(() => undefined);
    return next;
  }

  /** Somebody else breaks what is ours: repaired within a second, and what is theirs stays. */
  async #interfere(): Promise<void> {
    const random = this.#random;
    const node = random.pick(this.#cluster.nodes);
    const how = random.pick(["flush-table", "delete-table", "flush-chain", "delete-routes", "foreign-table", "flush-set", "link-flap"]);
    this.#now = `round ${this.#round}: ${how} on ${node}`;
    this.#options.say(this.#now);
    this.#count(how);
    const pods = this.#worlds.newest.pods;
    const before = await nodeContents(this.#cluster, node);
    const isThere = ({ from, to }: { from: string; to: string }): boolean => pods.get(from)?.node === node || pods.get(to)?.node === node;
    if (how !== "foreign-table") this.traffic.judge((lane) => (isThere(lane) ? "open" : this.#worlds.verdictOf(lane)));
    const chains = [...before.matchAll(/: chain (\S+) \{/g)].map((match) => match[1] ?? "");
    if (how === "flush-table") await this.#cluster.nft(node, "flush", "table", "inet", "sedge");
    else if (how === "delete-table") await this.#cluster.nft(node, "delete", "table", "inet", "sedge");
    else if (how === "flush-chain") await this.#cluster.nft(node, "flush", "chain", "inet", "sedge", random.pick(chains));
    else if (how === "flush-set") await this.#cluster.nft(node, "flush", "set", "inet", "sedge", "interfaces");
    else if (how === "link-flap") await this.#flapLink(node);
    else if (how === "delete-routes") await this.#cluster.ip(node, random.pick(["-4", "-6"]), "route", "flush", "table", "main", "proto", "94");
    else
      await this.#cluster.nft(node, `add table inet foreign-${this.#round}; add chain inet foreign-${this.#round} c { type filter hook forward priority 7; }`);
    const began = performance.now();
    try {
      await poll(`${how} on ${node} is repaired`, 10_000, async () => (await nodeContents(this.#cluster, node)) === before);
      const tookMs = performance.now() - began;
      if (tookMs > REPAIR_MS) this.#fail(`${how} on ${node} was repaired only after ${Math.round(tookMs)} ms`);
    } catch (error) {
      this.#fail(`${String(error)}: ${contentsDifference(before, await nodeContents(this.#cluster, node))}`);
    }
    if (how === "foreign-table") await this.#cluster.nft(node, "delete", "table", "inet", `foreign-${this.#round}`);
    this.#judge();
  }

  /** The kernel forgets routes over a link that goes down, and an IPv6 address with it; whoever cares for the link gives it the address again. */
  async #flapLink(node: string): Promise<void> {
    await this.#cluster.ip(node, "link", "set", "eth0", "down");
    await this.#cluster.ip(node, "link", "set", "eth0", "up");
    await this.#cluster.ip(node, "address", "add", `${nodeOf(node).addressV6}/64`, "dev", "eth0", "nodad");
  }

  async #restartWithNothing(node: string): Promise<void> {
    const before = await nodeContents(this.#cluster, node);
    const digest = (await this.#cluster.agentStatus(node))?.view.digest;
    await this.#cluster.kill(`agent-${node}`);
    rmSync(this.#cluster.stateDirOf(node), { recursive: true, force: true });
    this.#cluster.startAgent(node);
    const after = await this.#cluster
      .agentUntil(
        node,
        "has everything again",
        (status) => status.isSynced && status.programmedRevision === status.view.revision && status.view.digest === digest,
      )
      .catch((error: unknown) => {
        this.#fail(`the view of a new start is not that of before: ${String(error)}`);
        return undefined;
      });
    if (after === undefined) return;
    await poll(`${node}: what is programmed anew is what was there`, 5_000, async () => (await nodeContents(this.#cluster, node)) === before).catch(async () =>
      this.#fail(`${node}: a start with no memory programs something else: ${contentsDifference(before, await nodeContents(this.#cluster, node))}`),
    );
  }

  #newPod(random = this.#random): Omit<WorldPod, "id" | "addresses"> {
    const labels = randomLabels(random);
    return {
      namespace: random.pick(NAMESPACES),
      name: `pod-${this.#lastPod + 1}`,
      node: random.pick(this.#cluster.nodes),
      labels,
      ports: portsOf(labels["app"] ?? ""),
    };
  }

  async #addPod(pod: Omit<WorldPod, "id" | "addresses">): Promise<void> {
    const tag = String(++this.#lastPod);
    const id = `${pod.namespace}/${pod.name}#${tag}`;
    const connected = await connectPod(this.#cluster, pod, { tag, onAgain: () => this.#count("add-again") });
    this.#connected.set(id, connected);
    const { addresses, netns } = connected;
    this.traffic.addPod({ id, netns: netns.path, addresses });
    this.#change((world) => ({ ...world, pods: new Map(world.pods).set(id, { ...pod, id, addresses }) }));
    await writePodRunning(this.#cluster, connected);
  }

  async #removePod({ id }: WorldPod): Promise<void> {
    this.traffic.removePod(id);
    this.#change((world) => {
      const pods = new Map(world.pods);
      pods.delete(id);
      return { ...world, pods };
    });
    const connected = this.#connected.get(id);
    this.#connected.delete(id);
    if (connected === undefined) return;
    await disconnectPod(this.#cluster, connected);
    this.#deleted.add(`Pod ${connected.namespace}/${connected.name}`);
  }

  async #setPodLabels(pod: WorldPod, labels: Readonly<Record<string, string>>): Promise<void> {
    const before = this.#worlds.newest.pods.get(pod.id);
    if (before === undefined) return;
    this.#change((world) => {
      const present = world.pods.get(pod.id);
      return present === undefined ? world : { ...world, pods: new Map(world.pods).set(pod.id, { ...present, labels }) };
    });
    await this.#exclusively(async () => {
      if (this.#worlds.newest.pods.has(pod.id)) await writePod(this.#cluster, { ...before, labels });
    });
  }

  async #setNamespace(name: string, labels: Readonly<Record<string, string>>): Promise<void> {
    this.#change((world) => ({ ...world, namespaces: { ...world.namespaces, [name]: labels } }));
    await writeNamespace(this.#cluster, name, labels);
  }

  async #setPolicy(policy: NaivePolicy): Promise<void> {
    const key = `${policy.metadata.namespace}/${policy.metadata.name}`;
    this.#change((world) => ({ ...world, policies: new Map(world.policies).set(key, policy) }));
    await writeNetworkPolicy(this.#cluster, policy);
  }

  async #deletePolicy({ metadata }: NaivePolicy): Promise<void> {
    this.#change((world) => {
      const policies = new Map(world.policies);
      policies.delete(`${metadata.namespace}/${metadata.name}`);
      return { ...world, policies };
    });
    await untilWritten(() => this.#cluster.api.delete(API_RESOURCES.NetworkPolicy, metadata));
    this.#deleted.add(`NetworkPolicy ${metadata.namespace}/${metadata.name}`);
  }

  #count(what: string): void {
    this.done.set(what, (this.done.get(what) ?? 0) + 1);
  }

  #change(change: Change): void {
    this.#worlds.begin(change);
    this.#judge();
  }

  #judge(): void {
    const known = new Map<string, ReturnType<Worlds["verdictOf"]>>();
    this.traffic.judge((lane) => {
      const key = `${lane.from} ${lane.to} ${lane.protocol} ${lane.port}`;
      const verdict = known.get(key) ?? this.#worlds.verdictOf(lane);
      known.set(key, verdict);
      return verdict;
    });
  }

  /** Everything has arrived everywhere; then all is judged strictly, and the kernels are looked through. */
  async #quiet(): Promise<void> {
    await this.#converge();
    this.#worlds.settled();
    this.#judge();
    await this.traffic.untilAllProbed();
    const { pods, policies } = this.#worlds.newest;
    const live = [...pods.values()].map((pod) => ({ ...pod, name: `${pod.namespace}/${pod.name}` }));
    // Reports of addresses go to the API in batches, and neighbours of the kernel's notifications are not instant: it has a moment.
    let problems: readonly string[] = [];
    await poll("the kernels hold what they should", 10_000, async () => {
      problems = await kernelProblems(this.#cluster, live, [...policies.keys()]);
      return problems.length === 0;
    }).catch(() => {
      for (const problem of problems) this.#fail(problem);
    });
  }

  async #converge(): Promise<void> {
    const began = performance.now();
    const { namespaces, pods, policies } = this.#worlds.newest;
    const objects = [
      ...Object.keys(namespaces).map((name) => ({ kind: "Namespace" as const, namespace: "", name })),
      ...[...pods.values()].map(({ namespace, name }) => ({ kind: "Pod" as const, namespace, name })),
      ...[...policies.values()].map(({ metadata }) => ({ kind: "NetworkPolicy" as const, ...metadata })),
    ];
    let missing = "";
    const isSo = async (): Promise<boolean> => {
      for (const object of objects) {
        const key = object.namespace === "" ? { name: object.name } : object;
        const { metadata } = (await this.#cluster.api.get(API_RESOURCES[object.kind], key)) as { metadata: { resourceVersion: string } };
        const status = await this.#cluster.objectStatus(object.kind, object.namespace, object.name);
        missing = `${object.kind} ${object.namespace}/${object.name}: API ${metadata.resourceVersion}, server ${JSON.stringify(status, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value))}`;
        if (status === undefined || status.resourceVersion !== metadata.resourceVersion || status.nodesProgrammed !== status.nodes) return false;
      }
      for (const [kind = "", namespace = "", name = ""] of [...this.#deleted].map((key) => key.split(/[ /]/))) {
        const isBack = objects.some((object) => object.kind === kind && object.namespace === namespace && object.name === name);
        missing = `${kind} ${namespace}/${name} is deleted, and the server still has it`;
        if (!isBack && (await this.#cluster.objectStatus(kind, namespace, name)) !== undefined) return false;
      }
      missing = "agents are not level";
      const { clients, clientsLevel, syncStatus, recordsByKind } = await this.#cluster.server.status();
      if (syncStatus !== "in-sync" || clients !== this.#cluster.nodes.length || clientsLevel !== clients) return false;
      missing = `records ${JSON.stringify(recordsByKind)}`;
      if ((recordsByKind["policy"] ?? policies.size) > policies.size || (recordsByKind["endpoint"] ?? pods.size) !== pods.size) return false;
      for (const node of this.#cluster.nodes) {
        const status = await this.#cluster.agentStatus(node);
        missing = `agent ${node}: ${JSON.stringify(status)}`;
        if (
          status === undefined ||
          !status.isSynced ||
          status.isStale ||
          status.unconfirmedReports > 0 ||
          status.kernelError !== "" ||
          status.failures.length > 0
        )
          return false;
      }
      return true;
    };
    await poll("everything is in force", CONVERGE_MS, () =>
      isSo().catch((error: unknown) => {
        missing = String(error);
        return false;
      }),
    ).catch(async (error: unknown) => {
      throw new Error(`${this.#now}: not converged after ${CONVERGE_MS} ms: ${missing} (${String(error)})`);
    });
    this.#deleted.clear();
    this.#options.say(`  converged after ${Math.round(performance.now() - began)} ms`);
  }

  async #compareWithEvaluate(): Promise<void> {
    const { namespaces, pods, policies } = this.#worlds.newest;
    const items = [
      ...Object.entries(namespaces).map(([name, labels]) => ({
        apiVersion: "v1",
        kind: "Namespace",
        metadata: { name, labels: { ...labels, "kubernetes.io/metadata.name": name } },
      })),
      ...[...pods.values()].map((pod) => ({
        apiVersion: "v1",
        kind: "Pod",
        metadata: { namespace: pod.namespace, name: pod.name, labels: pod.labels },
        spec: {
          nodeName: pod.node,
          containers: [{ name: "app", image: "none", ports: pod.ports.map(({ name, protocol, port }) => ({ name, protocol, containerPort: port })) }],
        },
        status: { phase: "Running", podIPs: pod.addresses.map((ip) => ({ ip })) },
      })),
      ...[...policies.values()].map((policy) => ({ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", ...policy })),
    ];
    const lanes = [...pods.values()].flatMap((from) =>
      [...pods.values()].flatMap((to) =>
        from === to
          ? []
          : [
              ...TCP_PORTS.map((port) => ({ from, to, protocol: "TCP" as const, port })),
              ...UDP_PORTS.map((port) => ({ from, to, protocol: "UDP" as const, port })),
            ],
      ),
    );
    const [manifests, probes] = [join(this.#cluster.dir, "world.json"), join(this.#cluster.dir, "probes.json")];
    writeFileSync(manifests, JSON.stringify({ apiVersion: "v1", kind: "List", items }));
    writeFileSync(
      probes,
      JSON.stringify(
        lanes.map(({ from, to, protocol, port }) => ({
          from: `${from.namespace}/${from.name}`,
          to: `${to.namespace}/${to.name}`,
          protocol: protocol.toLowerCase(),
          port,
        })),
      ),
    );
    const output = await execOk([process.execPath, sedgeEntry, "policy", "evaluate", "-f", manifests, "--probes", probes, "-o", "json"]);
    for (const [i, { verdict }] of (JSON.parse(output) as { verdict: string }[]).entries()) {
      const lane = lanes[i];
      if (lane === undefined) continue;
      const ours = this.#worlds.verdictOf({ from: lane.from.id, to: lane.to.id, protocol: lane.protocol, port: lane.port });
      if (ours !== verdict)
        this.#fail(`sedge policy evaluate says ${verdict}, the oracle ${ours}: ${lane.from.id} -> ${lane.to.id} ${lane.protocol} ${lane.port}`);
    }
  }

  #fail(what: string): void {
    const line = `[${this.#now}] ${what}`;
    this.failures.push(line);
    this.#options.say(`FAILURE ${line}`);
  }
}

interface Action {
  readonly name: string;
  readonly run: () => Promise<void>;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
