/** A pod that is connected here, as plans have it, and its record in the view. */
import type { PodKey } from "../../src/model/names.ts";
import type { Endpoint, RecordKey, RecordValue } from "../../src/model/record.ts";
import type { IpAddress } from "../../src/net/ip.ts";

export interface PlannedEndpoint {
  readonly podKey: PodKey;
  readonly interfaceName: string;
  readonly addresses: readonly IpAddress[];
  readonly podUid?: string;
}

/** The record of a connected pod; undefined: there is none, or it is of an earlier or later pod of the name. */
export function endpointRecord(records: ReadonlyMap<RecordKey, RecordValue>, { podKey, podUid }: PlannedEndpoint): Endpoint | undefined {
  const record = records.get(`endpoint/${podKey}`);
  if (record?.kind !== "endpoint" || (podUid !== undefined && record.uid !== "" && record.uid !== podUid)) return undefined;
  return record;
}
