/** What a scenario works with, and what all of them say of it. */
import type { DeliveryKind } from "../../fanout/delivery/delivery.ts";
import type { TyphaSnapshot } from "../typha/typha.ts";
import type { AckMode } from "./acks.ts";
import type { AgentsMethods } from "./agents-process.ts";
import type { Certificates } from "./certificates.ts";
import type { ClusterShape } from "./cluster.ts";
import { rounded } from "./latency.ts";
import type { MemoryFigures } from "./result.ts";
import type { ChangeKind } from "./scenarios.ts";
import type { ServerMethods, Usage } from "./server-process.ts";
import { Worker } from "./worker.ts";

export interface Parts {
  /** Another one after a restart. */
  server: Worker<ServerMethods>;
  readonly agents: Worker<AgentsMethods>;
  readonly shape: ClusterShape;
  readonly seconds: number;
  readonly delivery: DeliveryKind;
  readonly acks: AckMode;
  readonly slowShare: number;
  /** Undefined: plain text. */
  readonly certificates: Certificates | undefined;
  readonly snapshot: TyphaSnapshot;
  /** Changes so far, so that another server can have the same cluster. */
  readonly history: { readonly kind: ChangeKind; readonly changes: number }[];
  port: number;
  /** Memory of the server without agents. */
  rssAlone: number;
}

export function startServer(): Worker<ServerMethods> {
  return new Worker<ServerMethods>(new URL("server-process.ts", import.meta.url), { nodeFlags: ["--expose-gc"] });
}

/** What must hold at every quiet point. `areEndsAllowed`: streams were to end. */
export async function failuresNow(
  { server, agents }: Parts,
  received: { readonly repairs: number; readonly ended: number; readonly firstEnd: string },
  areEndsAllowed = false,
): Promise<string[]> {
  const failures: string[] = [];
  const wrong = await agents.call("wrongDigests", { digests: await server.call("digests", {}) });
  if (wrong > 0) failures.push(`${wrong} agents have another view than the server says`);
  if (received.repairs > 0) failures.push(`${received.repairs} repairs`);
  if (received.ended > 0 && !areEndsAllowed) failures.push(`${received.ended} streams ended, the first: ${received.firstEnd}`);
  return failures;
}

export function memoryOf({ rssBytes, peakRssBytes }: Usage): MemoryFigures {
  return { rssMb: rounded(rssBytes / 1e6), peakRssMb: rounded(peakRssBytes / 1e6) };
}

/** Where nothing but agents has come since the server was alone. */
export function memoryWithClients({ rssAlone, shape }: Parts, usage: Usage): MemoryFigures {
  return { ...memoryOf(usage), kbPerClient: rounded((usage.rssBytes - rssAlone) / 1e3 / shape.agents) };
}

export function perAgent({
  cpuUs,
  received,
  sent,
  agents,
}: {
  readonly cpuUs: number;
  readonly received: number;
  readonly sent: number;
  readonly agents: number;
}): {
  readonly cpuUs: number;
  readonly bytesReceived: number;
  readonly bytesSent: number;
} {
  return { cpuUs: rounded(cpuUs / agents), bytesReceived: Math.round(received / agents), bytesSent: Math.round(sent / agents) };
}
