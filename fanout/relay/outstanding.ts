/** Reports that went up and have no result yet: the newest of each node and block, so that a node hears when the parent was lost. */
import type { EndpointReport, ReportResult } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import type { NodeId } from "../table/node-ids.ts";

export class Outstanding {
  readonly #reports = new Map<NodeId, Map<string, EndpointReport>>();

  add(node: NodeId, report: EndpointReport): void {
    const own = this.#reports.get(node) ?? new Map<string, EndpointReport>();
    own.set(nameOf(report), report);
    this.#reports.set(node, own);
  }

  /** A result has come; one of an older report settles nothing. */
  settle(node: NodeId, result: ReportResult): void {
    const own = this.#reports.get(node);
    const name = nameOf(result);
    if (own === undefined || (own.get(name)?.generation ?? 0n) > result.generation) return;
    own.delete(name);
    if (own.size === 0) this.#reports.delete(node);
  }

  /** The parent is lost: each gets the advice to come again. */
  takeAll(): [NodeId, ReportResult][] {
    const results: [NodeId, ReportResult][] = [];
    for (const [node, own] of this.#reports)
      for (const { block, generation } of own.values()) results.push([node, comeAgain({ block, generation }, "the relay has lost its parent")]);
    this.#reports.clear();
    return results;
  }
}

/** The answer to a report that cannot be written now. */
export function comeAgain({ block, generation }: Pick<EndpointReport, "block" | "generation">, error: string): ReportResult {
  return { block, generation, error, retry: true, ended: [], superseded: false };
}

function nameOf({ block }: Pick<EndpointReport, "block">): string {
  return block === undefined ? "" : `${block.address.toString("hex")}/${block.length}`;
}
