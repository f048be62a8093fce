/** The course of the demo, step by step, and its result. */

import type { z } from "zod";
import { ApiClient } from "../datastore/api-client.ts";
import { findConnection } from "../datastore/kubeconfig.ts";
import type { Children } from "./children.ts";
import { applyPolicy, createCluster, createPodObject, deleteCluster, installCrds, poll, setPodRunning } from "./cluster.ts";
import type { demoSchema } from "./config.ts";
import { expectedVerdicts } from "./expectation.ts";
import { type DemoNetwork, NODES } from "./network.ts";
import { addPod, type CniTarget, type RunningPod } from "./pods.ts";
import { allProbes, type ProbeOutcome, podName, renderTable, runProbes } from "./probes.ts";
import { freePort, startAgent, startApi, startFanout, startForwarder, writeCertificates } from "./programs.ts";
import { type DemoPolicy, PODS, POLICIES } from "./scenario.ts";
import { ServerView } from "./server-view.ts";

/** A denial is silence: this long without an answer. */
const SILENCE_MS = 700;
/** A probe that should pass and did not is sent once more with this much time: on a machine that is busy, silence alone proves nothing. */
const PATIENCE_MS = 5000;

export interface DemoResult {
  readonly ok: boolean;
  readonly kernel: boolean;
  readonly api: "embedded" | "kubeconfig";
  readonly nodes: number;
  readonly pods: readonly { readonly pod: string; readonly node: string; readonly addresses: readonly string[]; readonly addMs: number }[];
  readonly changes: readonly ChangeResult[];
  readonly probes: { readonly sent: number; readonly wrong: readonly string[] };
}

export interface ChangeResult {
  readonly policy: string;
  readonly title: string;
  /** Nodes that the policy concerns. */
  readonly nodes: number;
  /** From before the write to the API until the last node's kernel had it, ms. */
  readonly apiToKernelMs: number;
  readonly denied: number;
  readonly wrong: readonly string[];
}

export interface ShowOptions {
  readonly config: z.infer<typeof demoSchema>;
  readonly dir: string;
  readonly children: Children;
  readonly network: DemoNetwork;
  readonly hasKernel: boolean;
  readonly say: (line: string) => void;
}

export class Show {
  readonly #options: ShowOptions;
  #kubeconfig = "";
  #syncPort = 0;

  constructor(options: ShowOptions) {
    this.#options = options;
  }

  async run(): Promise<DemoResult> {
    const { config, dir, children, network, hasKernel, say } = this.#options;
    if (!hasKernel) say("not root: everything but the kernel is shown; no pods are connected and no packets are sent. Run as root for the rest.");
    this.#kubeconfig = config.kubeconfig ?? (await startApi(children, dir, await freePort(config.apiPort)));
    say(`API: ${config.kubeconfig === undefined ? "embedded" : "given"}, kubeconfig ${this.#kubeconfig}`);
    const api = new ApiClient({ connection: await findConnection({ file: this.#kubeconfig, environment: {} }) });
    await installCrds(api);
    if (config.kubeconfig !== undefined) await deleteCluster(api);
    await createCluster(api);

    const nodeNames = NODES.map(({ name }) => name);
    const certificates = await writeCertificates(dir, nodeNames);
    this.#syncPort = await freePort(config.syncPort);
    startFanout(children, { dir, kubeconfig: this.#kubeconfig, port: this.#syncPort, certificates });
    const server = new ServerView(`127.0.0.1:${this.#syncPort}`);
    await server.waitUntilServing();
    say(`fan-out server: in sync, 127.0.0.1:${this.#syncPort}`);

    if (hasKernel) {
      await network.create();
      startForwarder(children, { dir, netns: network.fabric });
    }
    const targets = new Map<string, CniTarget>();
    for (const node of NODES)
      targets.set(node.name, await startAgent(children, node, { dir, certificates, netns: hasKernel ? network.nodeNetns(node) : undefined }));
    await server.waitUntilLevel(NODES.length);
    say(`nodes: ${nodeNames.join(", ")}, agents connected and level`);

    const pods: RunningPod[] = [];
    for (const pod of PODS) {
      await createPodObject(api, pod);
      const target = targets.get(pod.node);
      if (!hasKernel || target === undefined) continue;
      const running = await addPod(pod, { target, network, children });
      pods.push(running);
      await setPodRunning(api, pod, running.addresses);
      say(`pod ${podName(pod)} on ${pod.node}: ${running.addresses.join(" ")}, ADD took ${running.addMs.toFixed(1)} ms`);
    }
    await poll("the server knows every pod", 15_000, async () => {
      const endpoints = await server.records("endpoint/");
      const demo = endpoints.filter(({ record }) => PODS.some((pod) => record?.key === `endpoint/${podName(pod)}`));
      return (
        demo.length === PODS.length &&
        (!hasKernel || demo.every(({ record }) => record?.value?.$case === "endpoint" && record.value.value.addresses.length > 0))
      );
    });
    await server.waitUntilLevel(NODES.length);

    const probes = allProbes(pods);
    const wrongBefore = hasKernel ? await this.#probe("before any policy", pods, []) : { outcomes: [], wrong: [] };
    const changes: ChangeResult[] = [];
    for (const [i, policy] of POLICIES.entries())
      changes.push(await this.#change({ api, server, policy, pods, applied: POLICIES.slice(0, i + 1), isLast: i === POLICIES.length - 1 }));
    api.close();
    server.close();
    const wrong = [...wrongBefore.wrong, ...changes.flatMap((change) => change.wrong)];
    return {
      ok: wrong.length === 0,
      kernel: hasKernel,
      api: config.kubeconfig === undefined ? "embedded" : "kubeconfig",
      nodes: NODES.length,
      pods: pods.map(({ pod, addresses, addMs }) => ({ pod: podName(pod), node: pod.node, addresses, addMs: round(addMs) })),
      changes,
      probes: { sent: probes.length * (hasKernel ? POLICIES.length + 1 : 0), wrong },
    };
  }

  /** Applies one policy, waits until it is in force everywhere, probes all pairs. */
  async #change(step: {
    api: ApiClient;
    server: ServerView;
    policy: DemoPolicy;
    pods: readonly RunningPod[];
    applied: readonly DemoPolicy[];
    isLast: boolean;
  }): Promise<ChangeResult> {
    const { hasKernel, say } = this.#options;
    const { namespace, name } = step.policy.manifest.metadata;
    const started = Date.now() + (performance.now() % 1);
    const resourceVersion = await applyPolicy(step.api, step.policy.manifest);
    const { at, nodes } = await step.server.waitUntilInForce(namespace, name, resourceVersion);
    const apiToKernelMs = round(Math.max(0, at - started));
    say(`policy ${namespace}/${name} (${step.policy.title}): in force on ${nodes} nodes ${apiToKernelMs} ms after the write began`);
    const { outcomes, wrong } = hasKernel
      ? await this.#probe(step.isLast ? "after all policies" : undefined, step.pods, step.applied)
      : { outcomes: [], wrong: [] };
    return {
      policy: `${namespace}/${name}`,
      title: step.policy.title,
      nodes,
      apiToKernelMs,
      denied: outcomes.filter(({ isAllowed }) => !isAllowed).length,
      wrong,
    };
  }

  /** Sends all probes and holds the outcome against what `sedge policy evaluate` says of the same manifests. */
  async #probe(
    heading: string | undefined,
    pods: readonly RunningPod[],
    applied: readonly DemoPolicy[],
  ): Promise<{ outcomes: readonly ProbeOutcome[]; wrong: readonly string[] }> {
    const { dir, say } = this.#options;
    const probes = allProbes(pods);
    const [first, expected] = await Promise.all([runProbes(pods, probes, SILENCE_MS), expectedVerdicts({ dir, pods, policies: applied, probes })]);
    const late = probes.filter((_probe, i) => expected[i] === "allow" && first[i]?.isAllowed === false && first[i].error === undefined);
    const again = new Map((await runProbes(pods, late, PATIENCE_MS)).map((outcome, i) => [late[i], outcome]));
    const outcomes = first.map((outcome, i) => again.get(probes[i]) ?? outcome);
    const wrong = outcomes.flatMap((outcome, i) => {
      const verdict = expected[i];
      const what = `${outcome.from} -> ${outcome.to} ${outcome.protocol} ${outcome.port}`;
      if (outcome.error !== undefined) return [`${what}: ${outcome.error}`];
      return outcome.isAllowed === (verdict === "allow")
        ? []
        : [`${what}: ${outcome.isAllowed ? "passed" : "did not pass"}, expected ${verdict} (${applied.length} policies)`];
    });
    if (heading !== undefined)
      say(`\n${heading} (ports ${[...new Set(probes.map(({ port }) => port))].join(", ")}: T over TCP, U over UDP, . not):\n${renderTable(pods, outcomes)}`);
    for (const line of wrong) say(`WRONG: ${line}`);
    return { outcomes, wrong };
  }

  /** What a person can do with the running demo. */
  instructions(): string {
    const { dir, network, hasKernel } = this.#options;
    const server = this.#syncPort === 5473 ? "" : ` --server 127.0.0.1:${this.#syncPort}`;
    return [
      "",
      "The demo stays up until Ctrl-C. In another terminal:",
      `  export KUBECONFIG=${this.#kubeconfig}`,
      "  kubectl get pods,networkpolicies -A        kubectl delete networkpolicy -n data default-deny",
      `  npx sedge status${server}        npx sedge clients${server}        npx sedge watch${server}`,
      `  npx sedge get policies${server} --node n1   npx sedge policy status${server} data/db-from-cart`,
      `  npx sedge status --socket ${dir}/n1/agent.sock`,
      ...(hasKernel ? [`  ip netns exec ${network.fabric.replace("fabric", "n1")} nft list table inet sedge`] : []),
      `Logs: ${dir}/*.log`,
      "",
    ].join("\n");
  }
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}
