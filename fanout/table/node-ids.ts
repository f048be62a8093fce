/** Node names as small numbers, so that audiences are sets of numbers. A name keeps its number for the life of the table. */
import type { NodeName } from "../../src/model/names.ts";
import type { Brand } from "../../src/net/ip.ts";

export type NodeId = Brand<number, "NodeId">;

export class NodeIds {
  readonly #ids = new Map<NodeName, NodeId>();
  readonly #names: NodeName[] = [];

  /** The node's number; a new one at the first call. */
  idOf(name: NodeName): NodeId {
    const known = this.#ids.get(name);
    if (known !== undefined) return known;
    const id = this.#names.length as NodeId;
    this.#names.push(name);
    this.#ids.set(name, id);
    return id;
  }

  findId(name: NodeName): NodeId | undefined {
    return this.#ids.get(name);
  }

  nameOf(id: NodeId): NodeName {
    const name = this.#names[id];
    if (name === undefined) throw new RangeError(`no node has number ${id}`);
    return name;
  }
}
