/** Results as Markdown: a table and sentences for each file of results. Pure. */

import type { ScenarioResult } from "../fanout/result.ts";
import { ratioTo } from "../fanout/table.ts";
import type { TierResult } from "../tier/result.ts";
import type { DeliveryLine, KernelSetsLine, Line, SetChangeLine, StuckLine } from "./lines.ts";

/** What a block of the page says for the lines of one file. */
export function block(name: string, lines: readonly Line[]): string {
  const [first] = lines;
  if (first === undefined) return `Not measured yet: there is no \`bench/baselines/${name}.jsonl\`.`;
  switch (first.bench) {
    case "fanout":
      return fanoutBlock(name, lines as readonly ScenarioResult[]);
    case "tier":
      return tierBlock(name, lines as readonly TierResult[]);
    case "delivery":
      return deliveryBlock(lines as readonly DeliveryLine[]);
    case "stuck":
      return stuckBlock(name, lines as readonly StuckLine[]);
    case "kernel-sets":
      return kernelSetsBlock(lines as readonly KernelSetsLine[]);
    case "set-change":
      return setChangeBlock(lines as readonly SetChangeLine[]);
  }
}

function fanoutBlock(name: string, lines: readonly ScenarioResult[]): string {
  const [first] = lines;
  const find = (scenario: string): ScenarioResult | undefined => lines.find((line) => line.scenario === scenario);
  const loads = lines.filter(({ load, cpuUsPerDelivery }) => load !== undefined && cpuUsPerDelivery !== undefined);
  const rows = loads.map((line) => [
    line.scenario,
    fixed(line.cpuUsPerDelivery),
    ratioTo(line, "node-sockets", "cpuPerDelivery") ?? "–",
    ratioTo(line, "c-write-loop", "cpuPerDelivery") ?? "–",
    `${fixed(line.deliveries?.perChange)} of ${fixed(line.deliveries?.expectedPerChange)}`,
    fixed(line.bytes?.perDelivery),
    `${fixed(line.commitToReceiptMs?.p50)} / ${fixed(line.commitToReceiptMs?.p99)}`,
    `${fixed(line.commitToAcknowledgedMs?.p50)} / ${fixed(line.commitToAcknowledgedMs?.p99)}`,
    `${fixed(line.coreShare * 100)} %`,
    `${fixed((line.bytes?.total ?? 0) / 1e6)} / ${fixed((line.typha?.bytes ?? 0) / 1e6)}`,
  ]);
  const facts = ["start", "storm", "reconnect", "restart"].flatMap((scenario) => {
    const line = find(scenario);
    return line === undefined ? [] : [connectSentence(line)];
  });
  const idle = find("idle");
  if (idle !== undefined)
    facts.push(
      `Idle: ${fixed(idle.coreShare * 1_000)} ms of CPU a second for all, ${fixed(idle.memory?.kbPerClient)} KB of memory a client, the server at ${fixed(idle.memory?.rssMb)} MB.`,
    );
  const hot = find("hot-key");
  if (hot !== undefined)
    facts.push(
      `Hot key: ${hot.load?.changes ?? 0} changes were at most ${hot.deliveries?.mostOfOneAgent ?? 0} messages and ${hot.deliveries?.mostBytesOfOneAgent ?? 0} bytes for one agent, all level ${fixed(hot.levelAfterMs)} ms after the last.`,
    );
  const slow = find("slow");
  if (slow?.slow !== undefined)
    facts.push(
      `Slow: with ${fixed(slow.slow.share * 100)} % of the agents reading nothing the others' p99 is ${fixed(slow.commitToReceiptMs?.p99)} ms, ${fixed(slow.slow.receiptMsWithout.p99)} ms without; ${fixed((slow.memory?.rssMb ?? 0) - slow.slow.memoryWithoutMb)} MB more; all level ${fixed(slow.slow.levelAfterResumeMs)} ms after they read again.`,
    );
  const clients = find("clients");
  if (clients?.listClientsMs !== undefined)
    facts.push(
      `\`sedge clients\`, the process from its start to its last line: ${fixed(clients.listClientsMs.at(Math.floor(clients.listClientsMs.length / 2)))} ms (the fastest ${fixed(clients.listClientsMs[0])} ms); the call alone, from connecting to the last client: ${fixed(clients.clientsCallMs?.at(Math.floor(clients.clientsCallMs.length / 2)))} ms (the fastest ${fixed(clients.clientsCallMs?.[0])} ms).`,
    );
  const failures = lines.flatMap(({ scenario, failures: found }) => found.map((failure) => `**${scenario} failed: ${failure}**`));
  return [
    `${thousands(first?.cluster.records ?? 0)} records, ${thousands(first?.cluster.pods ?? 0)} pods, ${first?.cluster.policies ?? 0} policies; commit ${first?.commit ?? ""}, load ${fixed(first?.machine.loadAverage)} before the run. [lines](../bench/baselines/${name}.jsonl), [picture](../bench/baselines/${name}.svg)`,
    ...(rows.length === 0
      ? []
      : [
          table(
            [
              "scenario",
              "server CPU, us per delivery",
              "× Node sockets",
              "× C loop",
              "deliveries a change",
              "bytes a delivery",
              "receipt p50 / p99, ms",
              "acknowledged p50 / p99, ms",
              "share of a core",
              "sent, MB: here / Typha",
            ],
            rows,
          ),
        ]),
    facts.map((fact) => `- ${fact}`).join("\n"),
    ...failures,
  ].join("\n\n");
}

function connectSentence({ scenario, seconds, perAgent, answers, restart, memory, typha, cluster }: ScenarioResult): string {
  const name = { start: "Start", storm: "Storm", reconnect: "Reconnect", restart: "Restart" }[scenario] ?? scenario;
  const parts = [
    `${fixed((perAgent?.cpuUs ?? 0) / 1_000)} ms of server CPU an agent`,
    `${thousands(perAgent?.bytesReceived ?? 0)} bytes down and ${thousands(perAgent?.bytesSent ?? 0)} up`,
    `Typha: ${thousands(Math.round((typha?.bytes ?? 0) / cluster.agents))} down`,
  ];
  if (restart === undefined) parts.push(`all level after ${fixed(seconds)} s`);
  else
    parts.push(
      `all level ${fixed(restart.levelAfterServingMs / 1_000)} s after the new process had the cluster, ${fixed(restart.levelAfterKillMs / 1_000)} s after the kill`,
    );
  if (answers !== undefined) parts.push(`${answers.unchanged} of ${answers.answers} by the digest exchange alone`);
  if (memory !== undefined) parts.push(`at most ${fixed(memory.peakRssMb)} MB`);
  return `${name}: ${parts.join("; ")}.`;
}

function tierBlock(name: string, lines: readonly TierResult[]): string {
  const [first] = lines;
  const rows = lines.map((line) => [
    line.scenario,
    line.what,
    `${fixed(share(line))} %`,
    line.levelAfterMs.map((ms) => fixed(ms / 1_000)).join(", "),
    line.outageMs === undefined ? "–" : `${fixed(line.outageMs.p50)} / ${fixed(line.outageMs.max)}`,
    fixed(line.serverCpuSeconds),
    `${fixed(line.bytesReceived / 1e6)} / ${fixed(line.typha.bytes / 1e6)}`,
  ]);
  const facts = lines.flatMap((line) => tierFacts(line));
  const aims = lines.flatMap(({ scenario, aims: all }) =>
    all.map(({ what, value, limit, isMet }) => `- ${isMet ? "met" : "**missed**"}, ${scenario}: ${what} ${fixed(value)}, aim below ${fixed(limit)}`),
  );
  const failures = lines.flatMap(({ scenario, failures: found }) => found.map((failure) => `**${scenario} failed: ${failure}**`));
  return [
    `Commit ${first?.commit ?? ""}, load ${fixed(first?.machine.loadAverage)} before the run. [lines](../bench/baselines/${name}.jsonl), [picture](../bench/baselines/${name}.svg)`,
    table(
      ["scenario", "what", "without a full view", "all level after, s", "without a server p50 / longest, ms", "server CPU, s", "sent, MB: here / Typha"],
      rows,
    ),
    [...facts.map((fact) => `- ${fact}`), ...aims].join("\n"),
    ...failures,
  ].join("\n\n");
}

function share({ answers }: TierResult): number {
  return answers.answers === 0 ? 100 : ((answers.answers - answers.full) / answers.answers) * 100;
}

function tierFacts({ scenario, handshakes, relay, typha, moves }: TierResult): string[] {
  if (handshakes !== undefined)
    return [
      `Handshakes: ${handshakes.count} in ${fixed(handshakes.ms / 1_000)} s (${handshakes.perSecond} a second); deliveries to those already connected p99 ${fixed(handshakes.receiptMsDuring.p99)} ms, ${fixed(handshakes.receiptMsBefore.p99)} ms before.`,
    ];
  if (relay !== undefined)
    return [
      `Relay tree: a change for all costs the root ${fixed(relay.viaRelays.rootCpuUsPerDelivery)} us a delivery through ${relay.relays} relays (which spend ${fixed(relay.viaRelays.relayCpuUsPerDelivery)} us), ${fixed(relay.direct.rootCpuUsPerDelivery)} us when all agents are its own; p99 to receipt ${fixed(relay.viaRelays.receiptMs.p99)} and ${fixed(relay.direct.receiptMs.p99)} ms. First start through the relays: ${fixed(relay.startMs / 1_000)} s. A relay that is killed: all level after ${fixed(relay.levelAfterKillMs / 1_000)} s.`,
    ];
  if (scenario === "rebalance")
    return [
      `Rebalancing: ${moves?.asked ?? 0} moves in ${fixed((moves?.ms ?? 0) / 1_000)} s; Typha closes one connection a second: ${thousands(typha.seconds ?? 0)} s.`,
    ];
  return [];
}

function deliveryBlock(lines: readonly DeliveryLine[]): string {
  const NAMES: Readonly<Record<string, string>> = {
    "c-write-loop": "a loop of write() in C",
    sockets: "Node's sockets, only written to",
    http2: "our own HTTP/2 (the default)",
    "grpc-js": "grpc-js",
  };
  const rows = lines.map(({ server, isTls, usPerDelivery, burstUsPerDelivery, kbPerClient, idleCpuMsPerSecond }) => [
    `${NAMES[server] ?? server}${isTls ? ", mutual TLS" : ""}`,
    fixed(usPerDelivery),
    fixed(burstUsPerDelivery),
    fixed(kbPerClient),
    fixed(idleCpuMsPerSecond),
  ]);
  return `${thousands(lines[0]?.clients ?? 0)} clients.\n\n${table(["server", "us of CPU per delivery", "us per message, ten in one tick", "KB per idle client", "idle, ms of CPU per second"], rows)}`;
}

function stuckBlock(name: string, [line]: readonly StuckLine[]): string {
  if (line === undefined) return "";
  const { agents, stuck, seconds, changesPerSecond, memory, held, mostInFlightBytes, mostDirtyKeys, levelAfterMs, commit, machine, failures } = line;
  const verdict = held.isBounded === undefined ? "too short to judge" : held.isBounded ? "bounded" : "**not bounded**";
  return [
    `${thousands(agents)} agents of which ${stuck} read nothing for ${fixed(seconds / 60)} minutes, ${changesPerSecond} changes a second; commit ${commit}, load ${fixed(machine.loadAverage)} before the run. [line](../bench/baselines/${name}.jsonl), [graph](../bench/baselines/${name}.svg)`,
    `What the process holds is ${verdict}: a floor of ${fixed(held.levelMb)} MB, which by the line through the second half grows by ${fixed(held.mbPerHour)} MB an hour, and at most ${fixed(held.mostMb)} MB. Resident: ${memory.before.rssMb} MB before, at most ${memory.most}, ${memory.after.rssMb} after. At most ${thousands(mostInFlightBytes)} bytes were on their way and ${thousands(mostDirtyKeys)} keys dirty for one agent; all were level ${fixed(levelAfterMs / 1_000)} s after the stuck ones went on.`,
    ...failures.map((failure) => `**failed: ${failure}**`),
  ].join("\n\n");
}

function kernelSetsBlock(lines: readonly KernelSetsLine[]): string {
  const rows = lines.map(({ form, size, medianUs, p99Us, lookupNs }) => [form, thousands(size), fixed(medianUs), fixed(p99Us), fixed(lookupNs)]);
  return `Load ${fixed(lines[0]?.loadAverage)} before the run.\n\n${table(["form", "members", "a change, us", "p99, us", "a lookup that finds nothing, ns"], rows)}`;
}

function setChangeBlock(lines: readonly SetChangeLine[]): string {
  const rows = lines.map(({ kind, size, medianMs, p99Ms, bytes, serverCpuUs, agentCpuUs, serverRssMb, agentRssMb }) => [
    kind,
    thousands(size),
    `${fixed(medianMs)} / ${fixed(p99Ms)}`,
    fixed(bytes),
    fixed(serverCpuUs),
    fixed(agentCpuUs),
    fixed(serverRssMb),
    fixed(agentRssMb),
  ]);
  const head = ["members are", "how many", "API to kernel, p50 / p99 ms", "bytes", "server CPU, us", "agent CPU, us", "server, MB", "agent, MB"];
  return `Load ${fixed(lines[0]?.loadAverage)} before the run.\n\n${table(head, rows)}`;
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** Three digits are what a measurement is good for. */
export function fixed(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  return size >= 1_000 ? thousands(Math.round(value)) : size >= 10 ? String(Math.round(value)) : String(Number(value.toFixed(size >= 1 ? 1 : 2)));
}

export function thousands(value: number): string {
  return String(value).replaceAll(/\B(?=(\d{3})+$)/g, ",");
}
