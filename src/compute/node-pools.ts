/**
 * Which pools do not select which nodes, told to those nodes alone: so that a node takes no new address from a pool that stopped to select it.
 *
 * Invariant: a node that every pool selects has no record, so clusters without node selectors pay nothing.
 */
import type { NodeName } from "../model/names.ts";
import type { NodePools as NodePoolsRecord } from "../model/record.ts";
import type { IpPool, Labels, Node } from "../model/resource.ts";
import { parseSelector } from "../selector/parse-selector.ts";
import { NO_DELTA, NO_NODES } from "./audience.ts";
import type { Ledger } from "./ledger.ts";
import { isSameValue } from "./same-value.ts";

export class NodePools {
  readonly #nodes = new Map<NodeName, Labels>();
  /** Selectors of pools that may not select everything, by pool. */
  readonly #selectors = new Map<string, string>();
  readonly #dirty = new Set<NodeName>();
  readonly #records = new Map<NodeName, NodePoolsRecord>();

  setNode(name: NodeName, node: Node | undefined): void {
    if (node === undefined) {
      if (this.#nodes.delete(name)) this.#dirty.add(name);
      return;
    }
    const before = this.#nodes.get(name);
    this.#nodes.set(name, node.labels);
    if (before === undefined || !isSameValue(before, node.labels)) this.#dirty.add(name);
  }

  setPool(name: string, pool: IpPool | undefined): void {
    const before = this.#selectors.get(name);
    const after = pool === undefined || pool.nodeSelector === "all()" ? undefined : pool.nodeSelector;
    if (before === after) return;
    if (after === undefined) this.#selectors.delete(name);
    else this.#selectors.set(name, after);
    for (const node of this.#nodes.keys()) this.#dirty.add(node);
  }

  commit(ledger: Ledger): void {
    for (const name of this.#dirty) {
      const before = this.#records.get(name);
      const labels = this.#nodes.get(name);
      const excluded = labels === undefined ? [] : this.#excluded(labels);
      if (excluded.length === 0) {
        if (this.#records.delete(name)) ledger.remove(`node-pools/${name}`, [name]);
        continue;
      }
      const record: NodePoolsRecord = { kind: "node-pools", node: name, excluded };
      if (isSameValue(before, record)) continue;
      this.#records.set(name, record);
      ledger.put(`node-pools/${name}`, record, before === undefined ? { entered: [name], left: NO_NODES } : NO_DELTA);
    }
    this.#dirty.clear();
  }

  #excluded(labels: Labels): readonly string[] {
    return [...this.#selectors].flatMap(([pool, selector]) => (parseSelector(selector).matches((key) => labels[key]) ? [] : pool)).sort();
  }
}
