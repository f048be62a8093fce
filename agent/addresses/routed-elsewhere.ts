/**
 * Addresses that the view says are somewhere by themselves: on loan to a node, or floating at a pod there. No pod is given one as its own, in whosever block it is.
 *
 * From the Borrowed records, which every node has for its routes: what is reserved is thus just what is routed, over a restart and without a server too. The
 * rejected way: floating addresses among the reserved ones of Pool records, each of which would go to every node again with each annotation.
 */
import type { NodeName } from "../../src/model/names.ts";
import type { RecordKey, RecordValue } from "../../src/model/record.ts";
import type { IpAddress } from "../../src/net/ip.ts";

export function nodesByAddress(records: ReadonlyMap<RecordKey, RecordValue>): ReadonlyMap<IpAddress, NodeName> {
  const nodes = new Map<IpAddress, NodeName>();
  for (const value of records.values()) if (value.kind === "borrowed") for (const address of value.addresses) nodes.set(address, value.node);
  return nodes;
}
