/** A refused transaction: which operations the kernel objected to, in the model's terms. */

import type { NftOperation } from "../../plan/nft/ruleset.ts";
import { ruleText } from "../../plan/nft/text.ts";
import { NetlinkError } from "../netlink/error.ts";

export type NftFailure = {
  /** Index in the transaction's operations; -1 when the commit as a whole failed. */
  readonly index: number;
  readonly operation: NftOperation | undefined;
  /** For element operations, the key that was refused, where the kernel says which. */
  readonly element?: string | undefined;
  readonly errno: number;
  readonly code: string;
  /** The kernel's extended acknowledgement. */
  readonly reason?: string | undefined;
};

/** Nothing of the transaction was carried out. `code`, `errno` and `reason` are those of the first failure. */
export class NftTransactionError extends NetlinkError {
  /** In the order of the operations; the kernel reports all that it found, not only the first. */
  readonly failures: readonly [NftFailure, ...NftFailure[]];

  constructor(failures: readonly [NftFailure, ...NftFailure[]]) {
    const [first] = failures;
    const more = failures.length > 1 ? `, and ${failures.length - 1} more` : "";
    const object = first.operation === undefined ? "nftables commit" : `${describeOperation(first.operation, first.element)} (operation ${first.index}${more})`;
    super({ operation: "apply", object, errno: first.errno, reason: first.reason });
    this.name = "NftTransactionError";
    this.failures = failures;
  }
}

/** One line for logs and errors; element lists by count. */
export function describeOperation(operation: NftOperation, element?: string): string {
  const table = `${operation.table.family} ${operation.table.name}`;
  switch (operation.kind) {
    case "add-table":
    case "delete-table":
    case "flush-table":
      return `${operation.kind} ${table}`;
    case "add-chain":
      return `add-chain ${table} ${operation.chain.name}`;
    case "delete-chain":
    case "flush-chain":
      return `${operation.kind} ${table} ${operation.chain}`;
    case "add-rule":
      return `add-rule ${table} ${operation.chain} "${ruleText(operation.rule)}"`;
    case "delete-rule":
      return `delete-rule ${table} ${operation.chain} handle ${operation.handle}`;
    case "add-set":
      return `add-set ${table} ${operation.set.name}`;
    case "delete-set":
    case "flush-set":
      return `${operation.kind} ${table} ${operation.set}`;
    case "add-elements":
    case "delete-elements":
      return `${operation.kind} ${table} ${operation.set.name} ${element ?? `(${operation.elements.length} elements)`}`;
  }
}
