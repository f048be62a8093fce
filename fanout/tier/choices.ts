/**
 * Where each node should be: the servers that are ready, ranked for it as it ranks them itself (src/wire/rendezvous.ts).
 *
 * This server counts as there while it serves, though its own endpoint may not be ready yet: an agent that is connected must find it in the list.
 */
import type { NodeName } from "../../src/model/names.ts";
import type { ServerList } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { rankServers } from "../../src/wire/rendezvous.ts";
import { isNear, type Member, type Members } from "./members.ts";

const MAX_TARGETS = 3;

export class Choices {
  readonly #members: Members;
  #version = -1;
  #present: readonly Member[] = [];
  /** By zone. */
  readonly #lists = new Map<string, ServerList>();

  constructor(members: Members) {
    this.#members = members;
  }

  /** What the node is told; undefined while it is not known how agents reach this server. */
  listFor(node: NodeName): ServerList | undefined {
    this.#refresh();
    if (this.#members.self === undefined) return undefined;
    const zone = this.#members.zoneOf(node);
    let list = this.#lists.get(zone);
    if (list === undefined) {
      list = { servers: this.#present.map((member) => ({ addresses: [...member.addresses], name: member.name, near: isNear(member, zone) })) };
      this.#lists.set(zone, list);
    }
    return list;
  }

  /** Servers for the node, its first choice first. */
  ranked(node: NodeName): readonly Member[] {
    this.#refresh();
    const zone = this.#members.zoneOf(node);
    return rankServers(
      node,
      this.#present.map((member) => ({ identity: member.identity, isNear: isNear(member, zone), member })),
    ).map(({ member }) => member);
  }

  /** Addresses of other servers for the node, best first. */
  targetsOf(node: NodeName): readonly string[] {
    return this.ranked(node)
      .filter(({ isSelf }) => !isSelf)
      .slice(0, MAX_TARGETS)
      .flatMap(({ addresses }) => addresses);
  }

  #refresh(): void {
    if (this.#version === this.#members.version) return;
    this.#version = this.#members.version;
    this.#present = this.#members.list.filter(({ isReady, isSelf }) => isReady || isSelf);
    this.#lists.clear();
  }
}
