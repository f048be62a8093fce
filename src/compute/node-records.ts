/**
 * Records of one node each, told to that node alone, that are made of the node's labels and of what their owner knows besides.
 *
 * Invariant: a node of which there is nothing to say has no record, so that clusters without what the owner looks at pay nothing.
 */
import type { NodeName } from "../model/names.ts";
import { type NodePools, type NodeSettings, recordKey } from "../model/record.ts";
import type { Labels, Node } from "../model/resource.ts";
import { NO_DELTA, NO_NODES } from "./audience.ts";
import type { Ledger } from "./ledger.ts";
import { isSameValue } from "./same-value.ts";

export class NodeRecords<R extends NodePools | NodeSettings> {
  readonly #recordOf: (name: NodeName, labels: Labels) => R | undefined;
  readonly #nodes = new Map<NodeName, Labels>();
  readonly #dirty = new Set<NodeName>();
  readonly #records = new Map<NodeName, R>();

  /** `recordOf`: undefined when there is nothing to say of the node. */
  constructor(recordOf: (name: NodeName, labels: Labels) => R | undefined) {
    this.#recordOf = recordOf;
  }

  setNode(name: NodeName, node: Node | undefined): void {
    if (node === undefined) {
      if (this.#nodes.delete(name)) this.#dirty.add(name);
      return;
    }
    const before = this.#nodes.get(name);
    this.#nodes.set(name, node.labels);
    if (before === undefined || !isSameValue(before, node.labels)) this.#dirty.add(name);
  }

  /** There may be something else to say of the node. */
  markDirty(name: NodeName): void {
    this.#dirty.add(name);
  }

  markAllDirty(): void {
    for (const name of this.#nodes.keys()) this.#dirty.add(name);
  }

  commit(ledger: Ledger): void {
    for (const name of this.#dirty) {
      const before = this.#records.get(name);
      const labels = this.#nodes.get(name);
      const record = labels === undefined ? undefined : this.#recordOf(name, labels);
      if (isSameValue(before, record)) continue;
      if (record !== undefined) {
        this.#records.set(name, record);
        ledger.put(recordKey(record), record, before === undefined ? { entered: [name], left: NO_NODES } : NO_DELTA);
      } else if (before !== undefined) {
        this.#records.delete(name);
        ledger.remove(recordKey(before), [name]);
      }
    }
    this.#dirty.clear();
  }
}
