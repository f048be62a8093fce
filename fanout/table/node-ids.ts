/**
 * Node names as small numbers, so that audiences are sets of numbers. A number belongs to its name while somebody holds it (records that are the node's own,
 * its session, a watch) and is then forgotten, so that nodes that come and go for months cost nothing. It is never given again: what was written down
 * about a node that is gone must not be read as being about another.
 */
import type { NodeName } from "../../src/model/names.ts";
import type { Brand } from "../../src/net/ip.ts";

export type NodeId = Brand<number, "NodeId">;

export class NodeIds {
  readonly #ids = new Map<NodeName, NodeId>();
  readonly #nodes = new Map<NodeId, { readonly name: NodeName; holders: number }>();
  #next = 0;

  /** Nodes that have a number. */
  get size(): number {
    return this.#ids.size;
  }

  /** The node's number; a new one at the first call. Whoever keeps it for longer than the call holds it too. */
  idOf(name: NodeName): NodeId {
    const known = this.#ids.get(name);
    if (known !== undefined) return known;
    const id = this.#next++ as NodeId;
    this.#ids.set(name, id);
    this.#nodes.set(id, { name, holders: 0 });
    return id;
  }

  hold(id: NodeId): void {
    const node = this.#nodes.get(id);
    if (node !== undefined) node.holders++;
  }

  /** Takes one `hold` back. */
  release(id: NodeId): void {
    const node = this.#nodes.get(id);
    if (node === undefined || --node.holders > 0) return;
    this.#nodes.delete(id);
    this.#ids.delete(node.name);
  }

  findId(name: NodeName): NodeId | undefined {
    return this.#ids.get(name);
  }

  names(): IterableIterator<NodeName> {
    return this.#ids.keys();
  }

  /** Undefined: nobody holds the number any more. */
  findName(id: NodeId): NodeName | undefined {
    return this.#nodes.get(id)?.name;
  }
}
