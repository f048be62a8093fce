/**
 * Which server a node goes to: rendezvous hashing (highest random weight, Thaler and Ravishankar 1998), near servers first.
 *
 * Both ends compute it alike, so that a server knows who should be elsewhere and an agent where to go without asking. Invariant: a server that comes takes
 * only the nodes whose first choice it is, and one that goes gives away only its own, evenly over the others. Rejected: a ring of hashes (needs many
 * points for each server to be even), the order of a list (all nodes would agree on the first).
 */
import { textHash } from "./digest.ts";

export interface ServerChoice {
  /** The server's first address, "host:port": the one name of it that every list has. */
  readonly identity: string;
  readonly isNear: boolean;
}

/** The servers, the node's first choice first. Equal identities keep their order. */
export function rankServers<T extends ServerChoice>(node: string, servers: readonly T[]): readonly T[] {
  return servers
    .map((server) => ({ server, weight: textHash(`${node}\n${server.identity}`) }))
    .sort((a, b) => Number(b.server.isNear) - Number(a.server.isNear) || (a.weight < b.weight ? 1 : a.weight > b.weight ? -1 : 0))
    .map(({ server }) => server);
}
