/** Which servers an agent prefers, by rendezvous hashing: each agent ranks them by a hash of both names, so that a server that comes or goes moves only its own agents. */
import { contentHash } from "../../src/wire/digest.ts";
import { nodeName } from "./cluster.ts";

const encoder = new TextEncoder();

export function serverOrder(agent: number, ports: readonly number[]): number[] {
  const rank = (port: number): bigint => contentHash(encoder.encode(`${nodeName(agent)} ${port}`), 0n);
  return ports
    .map((port) => ({ port, rank: rank(port) }))
    .sort((a, b) => (a.rank < b.rank ? 1 : a.rank > b.rank ? -1 : a.port - b.port))
    .map(({ port }) => port);
}
