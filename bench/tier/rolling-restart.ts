/**
 * Three servers, restarted one after the other as a Deployment does it: out of the Service, drained, gone, a new process with everything to load, into the
 * Service again; then the agents whose first choice it is come back. While a server is away the cluster changes, so that those who return have something to get.
 */
import { rounded } from "../fanout/latency.ts";
import { typhaSessions, typhaSnapshot } from "../typha/typha.ts";
import { failuresNow, shapeOf, startAgents, type TierOptions, untilLevel, waitUntil } from "./parts.ts";
import { aim, type Measured } from "./result.ts";
import { Servers } from "./servers.ts";

const SERVERS = 3;
const CHANGES_WHILE_AWAY = 50;
/** Part of its even share that a server has at least when the agents have come back. */
const BALANCED = 0.7;

export async function measureRollingRestart(options: TierOptions): Promise<Measured> {
  const { agents: count, delivery, drainMs, settleMs, movesPerSecond, sample, say } = options;
  const shape = shapeOf(options, count);
  const servers = new Servers({ count: SERVERS, shape, delivery, settings: { drainMs, movesPerSecond } });
  const agents = startAgents();
  try {
    say(`loading ${count} nodes on ${SERVERS} servers`);
    await Promise.all([servers.start(), agents.call("create", { first: 0, count, sample, tls: undefined })]);
    await agents.call("keep", { ports: servers.ports, isConnected: false });
    await untilLevel(servers, count);
    say(`connected: ${(await agents.call("countsOf", { ports: servers.ports })).join(", ")}`);
    await agents.call("resetKept", undefined);
    await agents.call("begin", undefined);
    const before = await servers.usage();
    const levelAfterMs: number[] = [];
    let drained = 0;
    for (let index = 0; index < SERVERS; index++) {
      const others = [0, 1, 2].filter((other) => other !== index);
      drained += (await agents.call("countsOf", { ports: servers.ports }))[index] ?? 0;
      const began = performance.now();
      await servers.drain(index);
      await untilLevelOn(servers, others, count);
      levelAfterMs.push(Math.round(performance.now() - began));
      say(`server ${index} is gone, all level on the others after ${levelAfterMs.at(-1)} ms`);
      await servers.change("scoped", CHANGES_WHILE_AWAY, others);
      await servers.replace(index);
      await comeBack(index);
      const counts = await agents.call("countsOf", { ports: servers.ports });
      say(`server ${index} is back; agents: ${counts.join(", ")}`);
    }
    await untilLevel(servers, count);
    const after = await servers.usage();
    const { outageMs, moves } = await agents.call("kept", undefined);
    const received = await agents.call("finish", undefined);
    const failures = await failuresNow(servers, agents, received.repairs);
    const { answers, full } = received.answers;
    const resumed = rounded(((answers - full) / Math.max(1, answers)) * 100);
    if (drained < count) failures.push(`only ${drained} agents were on a server when it was drained`);
    return {
      what: `${SERVERS} servers are replaced one after the other`,
      agents: count,
      answers: received.answers,
      outageMs,
      levelAfterMs,
      serverCpuSeconds: rounded((after.cpuUs - before.cpuUs) / 1e6),
      bytesReceived: received.wire.received,
      bytesSent: received.wire.sent,
      moves: { asked: moves, ms: 0, perServer: await agents.call("countsOf", { ports: servers.ports }) },
      typha: typhaSessions(typhaSnapshot(shape), drained),
      aims: [
        aim("share of sessions that needed a full view (%)", rounded(100 - resumed), 1),
        aim("longest time until all were level after a step (ms)", Math.max(...levelAfterMs), 10_000),
        aim("longest time that an agent was without a server (ms)", outageMs.max, 2_000),
      ],
      failures,
    };
  } finally {
    await agents.stop();
    await servers.stop();
  }

  /** Within the time given; agents that stay where they are is no failure. */
  async function comeBack(index: number): Promise<void> {
    const share = (count / SERVERS) * BALANCED;
    await waitUntil(async () => ((await agents.call("countsOf", { ports: servers.ports }))[index] ?? 0) >= share, "balanced", settleMs).catch(() => undefined);
  }
}

/** As untilLevel, while one of the servers is away. */
function untilLevelOn(servers: Servers, running: readonly number[], count: number): Promise<number> {
  return waitUntil(async () => {
    let level = 0;
    for (const index of running) level += (await servers.at(index).call("usage", { isCollected: false })).levelClients;
    return level === count;
  }, "level on the others");
}
