/**
 * Which pools do not select which nodes, told to those nodes alone: so that a node takes no new address from a pool that stopped to select it.
 *
 * Invariant: a node that every pool selects has no record, so clusters without node selectors pay nothing.
 */
import type { NodeName } from "../model/names.ts";
import type { NodePools as NodePoolsRecord } from "../model/record.ts";
import type { IpPool, Labels, Node } from "../model/resource.ts";
import { parseSelector } from "../selector/parse-selector.ts";
import type { Ledger } from "./ledger.ts";
import { NodeRecords } from "./node-records.ts";

export class NodePools {
  readonly #records = new NodeRecords<NodePoolsRecord>((node, labels) => {
    const excluded = this.#excluded(labels);
    return excluded.length === 0 ? undefined : { kind: "node-pools", node, excluded };
  });
  /** Selectors of pools that may not select everything, by pool. */
  readonly #selectors = new Map<string, string>();

  setNode(name: NodeName, node: Node | undefined): void {
    this.#records.setNode(name, node);
  }

  setPool(name: string, pool: IpPool | undefined): void {
    const before = this.#selectors.get(name);
    const after = pool === undefined || pool.nodeSelector === "all()" ? undefined : pool.nodeSelector;
    if (before === after) return;
    if (after === undefined) this.#selectors.delete(name);
    else this.#selectors.set(name, after);
    this.#records.markAllDirty();
  }

  commit(ledger: Ledger): void {
    this.#records.commit(ledger);
  }

  #excluded(labels: Labels): readonly string[] {
    return [...this.#selectors].flatMap(([pool, selector]) => (parseSelector(selector).matches((key) => labels[key]) ? [] : pool)).sort();
  }
}
