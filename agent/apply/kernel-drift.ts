/** A difference between the kernel's table and what was put there, for people: what it is, and the record whose it is. Pure. */
import type { RecordKey } from "../../src/model/record.ts";
import type { NftDrift } from "../drivers/nftables/state.ts";

/** A difference between the kernel and what was put there. */
export interface KernelDrift {
  /** For people: "chain policy/…/ingress: missing". */
  readonly what: string;
  /** The record whose it is; of a set in shards the part of the key before the shard. Absent: of no record. */
  readonly record?: RecordKey;
}

const DRIFT_WORDS = {
  "chain-missing": "missing",
  "chain-extra": "not ours",
  "chain-differs": "declared otherwise",
  "rules-differ": "other rules",
  "set-missing": "missing",
  "set-extra": "not ours",
  "set-differs": "declared otherwise",
  "elements-differ": "other elements",
} as const;

/** `origins`: the record of each chain and set, as the plan that the kernel has says. */
export function describeDrift(drift: NftDrift, origins: ReadonlyMap<string, RecordKey>): KernelDrift {
  if (drift.kind === "table-missing") return { what: "the table is missing" };
  const object = "chain" in drift ? drift.chain : drift.set;
  const record = origins.get(object)?.replace(/\/$/, "");
  return { what: `${"chain" in drift ? "chain" : "set"} ${object}: ${DRIFT_WORDS[drift.kind]}`, ...(record === undefined ? {} : { record }) };
}
