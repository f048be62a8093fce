/**
 * Packets and bytes that rules have counted, without the rest of them: what a scrape of metrics reads.
 *
 * Not guarded against changes meanwhile, as reading a table is: a rule that goes is counted by the next reading or not at all.
 */
import type { NftTable } from "../../plan/nft/ruleset.ts";
import { Attributes, listAttributes } from "../netlink/attributes.ts";
import { isNetlinkError } from "../netlink/error.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { NFPROTO, NFT_MSG, NFTA_EXPR, NFTA_RULE, nftMessageType } from "./protocol.ts";

export type NftRuleCount = {
  readonly chain: string;
  readonly handle: bigint;
  /** undefined: the rule does not count. */
  readonly count: { readonly packets: bigint; readonly bytes: bigint } | undefined;
};

const NFGENMSG = 4;
const NFTA_COUNTER = { bytes: 1, packets: 2 } as const;

/** In the order of each chain. `chain`: of that one alone. Empty when there is no such table or chain. */
export function readRuleCounts(socket: NetlinkSocket, table: NftTable, chain?: string): NftRuleCount[] {
  try {
    const replies = socket.dump(
      { type: nftMessageType(NFT_MSG.getRule), subject: { operation: "read", object: `counters of table ${table.family} ${table.name}` } },
      (writer) => {
        writer.header([NFPROTO[table.family], 0, 0, 0]);
        writer.string(NFTA_RULE.table, table.name);
        if (chain !== undefined) writer.string(NFTA_RULE.chain, chain);
      },
    );
    return replies.flatMap(({ payload }) => {
      const attributes = new Attributes(payload.subarray(NFGENMSG));
      const name = attributes.string(NFTA_RULE.chain);
      // Kernels that do not know the filter answer with all.
      if (attributes.string(NFTA_RULE.table) !== table.name || name === undefined || (chain !== undefined && name !== chain)) return [];
      return [{ chain: name, handle: attributes.u64Be(NFTA_RULE.handle) ?? 0n, count: countOf(attributes.raw(NFTA_RULE.expressions)) }];
    });
  } catch (error) {
    if (isNetlinkError(error, "ENOENT")) return [];
    throw error;
  }
}

function countOf(expressions: Buffer | undefined): NftRuleCount["count"] {
  if (expressions === undefined) return undefined;
  for (const { value } of listAttributes(expressions)) {
    const expression = new Attributes(value);
    if (expression.string(NFTA_EXPR.name) !== "counter") continue;
    const data = expression.nested(NFTA_EXPR.data);
    return { packets: data?.u64Be(NFTA_COUNTER.packets) ?? 0n, bytes: data?.u64Be(NFTA_COUNTER.bytes) ?? 0n };
  }
  return undefined;
}
