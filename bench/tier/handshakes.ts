/**
 * A storm of TLS handshakes on a server that serves others meanwhile: the cluster changes at a steady rate for the agents that are connected, and their
 * deliveries are timed without and with the storm.
 */
import { makeCertificates } from "../fanout/certificates.ts";
import { rounded } from "../fanout/latency.ts";
import type { ServerMethods } from "../fanout/server-process.ts";
import type { Worker } from "../fanout/worker.ts";
import { typhaSessions, typhaSnapshot } from "../typha/typha.ts";
import { shapeOf, startAgents, type TierOptions, waitUntil } from "./parts.ts";
import { aim, type Measured } from "./result.ts";
import { Servers } from "./servers.ts";

const CHURN = { kind: "scoped", ratePerSecond: 50, batch: 1, isEachAlone: false, warmUpChanges: 0 } as const;
const QUIET_SECONDS = 3;
const SLICE_SECONDS = 0.5;

export async function measureHandshakes(options: TierOptions): Promise<Measured> {
  const { agents: storm, connected, delivery, sample, say } = options;
  const total = connected + storm;
  // Changes concern nodes that have an agent before the storm.
  const shape = shapeOf({ ...options, policies: Math.min(options.policies, Math.ceil(connected / 5)) }, connected, total);
  say(`making ${total} certificates`);
  const certificates = await makeCertificates(total);
  const servers = new Servers({ count: 1, shape, delivery, certificates });
  const [there, coming] = [startAgents(), startAgents()];
  try {
    say(`loading ${total} nodes; ${connected} agents connect first`);
    await servers.start();
    const server = servers.at(0);
    await there.call("create", { first: 0, count: connected, sample, tls: certificates.agents.slice(0, connected) });
    await coming.call("create", { first: connected, count: storm, sample, tls: certificates.agents.slice(connected) });
    await there.call("keep", { ports: servers.ports, isConnected: false });
    await waitUntil(async () => (await there.call("kept", undefined)).connected === connected, "the first agents connected");
    await server.call("level", { nodes: connected });
    await server.call("drive", { load: { ...CHURN, changes: 100 }, seconds: 0, nodes: connected });
    await there.call("begin", undefined);
    await server.call("drive", { load: CHURN, seconds: QUIET_SECONDS, nodes: connected });
    const quiet = await there.call("finish", undefined);
    say(`p99 before: ${quiet.latency.p99} ms; the storm begins`);
    await there.call("begin", undefined);
    const before = await servers.usage();
    const began = performance.now();
    await coming.call("begin", undefined);
    await coming.call("keep", { ports: servers.ports, isConnected: false });
    const storming = waitUntil(async () => (await coming.call("kept", undefined)).connected === storm, "all connected");
    const churning = new AbortController();
    const churn = churnUntil(churning.signal, server, connected);
    const [stormMs] = await Promise.all([storming.finally(() => churning.abort()), churn]);
    await server.call("level", { nodes: total });
    const levelAfterMs = Math.round(performance.now() - began);
    const after = await servers.usage();
    const during = await there.call("finish", undefined);
    const { failedTries } = await coming.call("kept", undefined);
    const received = await coming.call("finish", undefined);
    const digests = await server.call("digests", { nodes: total });
    const wrong = (await there.call("wrongDigests", { digests })) + (await coming.call("wrongDigests", { digests }));
    return {
      what: `${storm} agents connect over mutual TLS at the same moment while ${connected} others are served`,
      agents: total,
      answers: received.answers,
      levelAfterMs: [levelAfterMs],
      serverCpuSeconds: rounded((after.cpuUs - before.cpuUs) / 1e6),
      bytesReceived: received.wire.received,
      bytesSent: received.wire.sent,
      handshakes: {
        count: storm,
        ms: Math.round(stormMs),
        perSecond: Math.round((storm * 1_000) / stormMs),
        failedTries,
        receiptMsBefore: quiet.latency,
        receiptMsDuring: during.latency,
      },
      typha: typhaSessions(typhaSnapshot(shape), storm),
      aims: [aim("p99 of a delivery to those already connected (ms)", during.latency.p99, 100)],
      failures: [
        ...(wrong === 0 ? [] : [`${wrong} agents have another view than the server says`]),
        ...(during.ended === 0 ? [] : [`${during.ended} of those already connected lost their stream, the first: ${during.firstEnd}`]),
      ],
    };
  } finally {
    await Promise.all([there.stop(), coming.stop(), servers.stop()]);
    certificates.remove();
  }
}

/** In slices: the one under way when the signal aborts is the last. */
async function churnUntil(signal: AbortSignal, server: Worker<ServerMethods>, nodes: number): Promise<void> {
  while (!signal.aborted) await server.call("drive", { load: CHURN, seconds: SLICE_SECONDS, nodes });
}
