/**
 * All agents are on one of two servers; the operator asks for balance (the call behind `sedge rebalance`), and those whose first choice is the other server
 * move there at a bounded rate.
 */
import { credentials } from "@grpc/grpc-js";
import { IntrospectionServiceClient, type RebalanceResponse } from "../../src/wire/gen/sedge/sync/v1/introspection.ts";
import { rounded } from "../fanout/latency.ts";
import { addressOf } from "../fanout/server-order.ts";
import { TYPHA_SHED_SECONDS, typhaSessions, typhaSnapshot } from "../typha/typha.ts";
import { failuresNow, shapeOf, startAgents, type TierOptions, untilLevel, waitUntil } from "./parts.ts";
import { aim, type Measured } from "./result.ts";
import { Servers } from "./servers.ts";

export async function measureRebalance(options: TierOptions): Promise<Measured> {
  const { agents: count, delivery, movesPerSecond, sample, say } = options;
  const shape = shapeOf(options, count);
  const servers = new Servers({ count: 2, shape, delivery, settings: { movesPerSecond } });
  const agents = startAgents();
  try {
    say(`loading ${count} nodes on 2 servers; all agents connect to the first`);
    await Promise.all([servers.start(), agents.call("create", { first: 0, count, sample, tls: undefined })]);
    const { ports } = servers;
    await agents.call("keep", { ports: ports.slice(0, 1), isConnected: false });
    await untilLevel(servers, count);
    await agents.call("reorder", { ports });
    await agents.call("resetKept", undefined);
    await agents.call("begin", undefined);
    const before = await servers.usage();
    const began = performance.now();
    const { moving } = await rebalance(ports[0] ?? 0, movesPerSecond);
    await waitUntil(async () => {
      const { moves, connected } = await agents.call("kept", undefined);
      const [, second = 0] = await agents.call("countsOf", { ports });
      return moves >= moving && second >= moving && connected === count;
    }, `balanced: ${moving} of ${count} were to move`);
    await untilLevel(servers, count);
    const ms = Math.round(performance.now() - began);
    const after = await servers.usage();
    const { outageMs, moves } = await agents.call("kept", undefined);
    const received = await agents.call("finish", undefined);
    const failures = await failuresNow(servers, agents, received.repairs);
    if (received.answers.unchanged !== received.answers.answers)
      failures.push(`${received.answers.answers - received.answers.unchanged} of those that moved were sent records`);
    return {
      what: `${moving} agents move to the server that is their first choice, ${movesPerSecond} a second`,
      agents: count,
      answers: received.answers,
      outageMs,
      levelAfterMs: [ms],
      serverCpuSeconds: rounded((after.cpuUs - before.cpuUs) / 1e6),
      bytesReceived: received.wire.received,
      bytesSent: received.wire.sent,
      moves: { asked: moves, ms, perServer: await agents.call("countsOf", { ports }) },
      typha: { ...typhaSessions(typhaSnapshot(shape), moving), seconds: Math.round(moving * TYPHA_SHED_SECONDS) },
      aims: [aim("longest time that an agent was without a server (ms)", outageMs.max, 2_000)],
      failures,
    };
  } finally {
    await agents.stop();
    await servers.stop();
  }
}

async function rebalance(port: number, movesPerSecond: number): Promise<RebalanceResponse> {
  const client = new IntrospectionServiceClient(addressOf(port), credentials.createInsecure());
  try {
    return await new Promise((resolve, reject) => {
      client.rebalance({ movesPerSecond, dryRun: false }, (error, response) => (error === null ? resolve(response) : reject(error)));
    });
  } finally {
    client.close();
  }
}
