/**
 * One root, four relays below it, all agents on the relays: the start, changes for all and for a few nodes, a relay that is killed; then all agents move to the
 * root, and the same changes reach them from there.
 */
import { rounded } from "../fanout/latency.ts";
import { addressOf } from "../fanout/server-order.ts";
import { Worker } from "../fanout/worker.ts";
import { typhaSessions, typhaSnapshot } from "../typha/typha.ts";
import { failuresNow, shapeOf, startAgents, type TierOptions, waitUntil } from "./parts.ts";
import type { RelayMethods } from "./relay-process.ts";
import { aim, type Measured, type RelayLoad } from "./result.ts";
import { Servers } from "./servers.ts";

const RELAYS = 4;
const BROADCAST = { kind: "broadcast", ratePerSecond: 4, batch: 1, changes: 12, isEachAlone: false, warmUpChanges: 0 } as const;

export async function measureRelay(options: TierOptions): Promise<Measured> {
  const { agents: count, delivery, sample, say } = options;
  const shape = shapeOf(options, count);
  const servers = new Servers({ count: 1, shape, delivery });
  const relays = Array.from({ length: RELAYS }, () => new Worker<RelayMethods>(new URL("relay-process.ts", import.meta.url)));
  const agents = startAgents();
  try {
    say(`loading ${count} nodes on the root; ${RELAYS} relays`);
    await Promise.all([servers.start(), agents.call("create", { first: 0, count, sample, tls: undefined })]);
    const root = servers.at(0);
    const [rootPort = 0] = servers.ports;
    const parents = [addressOf(rootPort)];
    const ports = await Promise.all(relays.map(async (relay, i) => (await relay.call("start", { name: `relay-${i}`, parents, delivery })).port));
    const allLevel = (): Promise<number> =>
      waitUntil(async () => {
        const { clients, levelClients, relayedClients, relayedLevelClients } = await root.call("usage", { isCollected: false });
        return clients + relayedClients === count && levelClients + relayedLevelClients === count;
      }, `the root knows that all ${count} agents are level`);
    const relayCpuUs = async (): Promise<number> => {
      const usages = await Promise.all(relays.map((relay) => relay.call("usage", undefined).catch(() => ({ cpuUs: 0 }))));
      return usages.reduce((sum, { cpuUs }) => sum + cpuUs, 0);
    };
    const drive = async (hasRelays: boolean): Promise<RelayLoad> => {
      await agents.call("begin", undefined);
      const [rootBefore, relaysBefore] = [(await root.call("usage", { isCollected: false })).cpuUs, await relayCpuUs()];
      await root.call("drive", { load: BROADCAST, seconds: 0, nodes: 0 });
      await allLevel();
      const [rootAfter, relaysAfter] = [(await root.call("usage", { isCollected: false })).cpuUs, await relayCpuUs()];
      const { messages, latency } = await agents.call("finish", undefined);
      const perDelivery = (cpuUs: number): number => rounded(cpuUs / Math.max(1, messages));
      const load = { deliveries: messages, rootCpuUsPerDelivery: perDelivery(rootAfter - rootBefore), receiptMs: latency };
      return hasRelays ? { ...load, relayCpuUsPerDelivery: perDelivery(relaysAfter - relaysBefore) } : load;
    };

    const began = performance.now();
    await agents.call("keep", { ports, isConnected: false });
    await allLevel();
    const startMs = Math.round(performance.now() - began);
    say(`all have their view after ${startMs} ms; changes for all`);
    const viaRelays = await drive(true);
    const digestFailures = await failuresNow(servers, agents, 0);

    await agents.call("resetKept", undefined);
    await agents.call("begin", undefined);
    const before = await servers.usage();
    const killed = performance.now();
    await relays[0]?.kill();
    await agents.call("reorder", { ports: ports.slice(1) });
    await waitUntil(async () => (await agents.call("kept", undefined)).connected === count, "all agents on the other relays");
    await allLevel();
    const levelAfterKillMs = Math.round(performance.now() - killed);
    const afterKill = await agents.call("finish", undefined);
    const { outageMs } = await agents.call("kept", undefined);
    say(`a relay was killed: all level after ${levelAfterKillMs} ms; all move to the root`);
    const killFailures = await failuresNow(servers, agents, afterKill.repairs);

    await agents.call("begin", undefined);
    const moved = performance.now();
    await agents.call("letGo", undefined);
    await agents.call("disconnect", undefined);
    await agents.call("keep", { ports: [rootPort], isConnected: false });
    await waitUntil(async () => (await root.call("usage", { isCollected: false })).clients === count, "all agents on the root");
    await allLevel();
    const levelAfterMoveMs = Math.round(performance.now() - moved);
    const received = await agents.call("finish", undefined);
    const direct = await drive(false);
    const after = await servers.usage();
    const failures = [...digestFailures, ...killFailures, ...(await failuresNow(servers, agents, received.repairs))];
    const full = afterKill.answers.full + received.answers.full;
    if (full > 0) failures.push(`${full} agents needed a full view when they went to another relay or to the root`);
    return {
      what: `${RELAYS} relays below one root`,
      agents: count,
      answers: received.answers,
      outageMs,
      levelAfterMs: [levelAfterKillMs, levelAfterMoveMs],
      serverCpuSeconds: rounded((after.cpuUs - before.cpuUs) / 1e6),
      bytesReceived: afterKill.wire.received + received.wire.received,
      bytesSent: afterKill.wire.sent + received.wire.sent,
      relay: { relays: RELAYS, startMs, viaRelays, direct, levelAfterKillMs },
      typha: typhaSessions(typhaSnapshot(shape), afterKill.answers.answers + received.answers.answers),
      aims: [
        aim("longest time that an agent was without a server (ms)", outageMs.max, 2_000),
        aim(
          "the root's CPU for a delivery through relays, as a share of its own delivery",
          rounded(viaRelays.rootCpuUsPerDelivery / direct.rootCpuUsPerDelivery),
          0.25,
        ),
      ],
      failures,
    };
  } finally {
    await Promise.all([agents.stop(), ...relays.map((relay) => relay.stop()), servers.stop()]);
  }
}
