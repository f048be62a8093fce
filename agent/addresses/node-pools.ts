/** The pools of a view as one node may use them: one that does not select the node gives addresses only to pods that name it, whatever they select, as in Calico. */
import type { Pool, RecordKey, RecordValue } from "../../src/model/record.ts";

export function poolsOf(node: string, records: ReadonlyMap<RecordKey, RecordValue>): readonly Pool[] {
  const own = records.get(`node-pools/${node}`);
  const excluded = new Set(own?.kind === "node-pools" ? own.excluded : []);
  const pools: Pool[] = [];
  for (const value of records.values()) {
    if (value.kind !== "pool") continue;
    pools.push(excluded.has(value.name) && !value.disabled ? { ...value, disabled: true, isSelective: true } : value);
  }
  return pools;
}
