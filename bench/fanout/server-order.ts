/** Which servers an agent prefers: as the agents themselves rank them. */
import { rankServers } from "../../src/wire/rendezvous.ts";
import { nodeName } from "./cluster.ts";

/** Ports, the first choice of the node first. */
export function serverOrder(agent: number, ports: readonly number[]): number[] {
  const servers = ports.map((port) => ({ port, identity: addressOf(port), isNear: false }));
  return rankServers(nodeName(agent), servers).map(({ port }) => port);
}

/** Of a server of the bench. */
export function addressOf(port: number): string {
  return `127.0.0.1:${port}`;
}
