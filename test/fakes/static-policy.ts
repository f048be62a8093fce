/** The reconcile loop with a view that never changes: the pods named have an Endpoint record without a stack, so that everything is allowed to them. */
import { Reconciler } from "../../agent/apply/reconciler.ts";
import { NftDriver } from "../../agent/drivers/nftables/driver.ts";
import type { RtnetlinkDriver } from "../../agent/drivers/rtnetlink/driver.ts";
import type { Pool, RecordKey, RecordValue } from "../../src/model/record.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";

export function staticPolicy({
  pods,
  pools,
  host,
  prefix,
  log,
}: {
  readonly pods: readonly string[];
  readonly pools: readonly Pool[];
  readonly host: RtnetlinkDriver;
  readonly prefix: string;
  readonly log: Logger;
}): { readonly reconciler: Reconciler; readonly close: () => void } {
  const records = new Map<RecordKey, RecordValue>(pools.map((pool) => [`pool/${pool.name}`, pool]));
  for (const pod of pods) records.set(`endpoint/shop/${pod}`, { kind: "endpoint", namespace: "shop", pod, uid: "", stack: "", addresses: [] });
  const nft = NftDriver.open();
  const reconciler = new Reconciler({
    nft,
    rtnetlink: host,
    source: { records, undecodable: new Map(), outdated: new Map(), revision: 1n, epoch: "static", isComplete: true },
    settings: { nodeName: "n1", interfacePrefix: prefix },
    clock: systemClock,
    log,
    observer: { applied: () => undefined, failed: () => undefined, repaired: () => undefined, programmed: () => undefined },
    onProgrammed: () => undefined,
    checkIntervalMs: 60_000,
  });
  return { reconciler, close: () => nft.close() };
}
