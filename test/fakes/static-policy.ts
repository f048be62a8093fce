/** The reconcile loop with a view that never changes: the pods named have an Endpoint record without a stack, so that everything is allowed to them. */
import { Reconciler } from "../../agent/apply/reconciler.ts";
import { NftDriver } from "../../agent/drivers/nftables/driver.ts";
import type { RtnetlinkDriver } from "../../agent/drivers/rtnetlink/driver.ts";
import { Shaper } from "../../agent/pods/shaper.ts";
import type { Pool, RecordKey, RecordValue } from "../../src/model/record.ts";
import type { Labels } from "../../src/model/resource.ts";
import { readTrafficLimits } from "../../src/model/traffic-limits.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";

export function staticPolicy({
  pods,
  annotations,
  pools,
  host,
  prefix,
  log,
}: {
  readonly pods: readonly string[];
  /** Annotations of pods that limit their traffic. */
  readonly annotations: Readonly<Record<string, Labels>>;
  readonly pools: readonly Pool[];
  readonly host: RtnetlinkDriver;
  readonly prefix: string;
  readonly log: Logger;
}): { readonly reconciler: Reconciler; readonly shaper: Shaper; readonly close: () => void } {
  const records = new Map<RecordKey, RecordValue>(pools.map((pool) => [`pool/${pool.name}`, pool]));
  for (const pod of pods) {
    const limits = readTrafficLimits(annotations[pod] ?? {})?.limits;
    const endpoint = { kind: "endpoint", namespace: "shop", pod, uid: "", stack: "", addresses: [] } as const;
    records.set(`endpoint/shop/${pod}`, limits === undefined ? endpoint : { ...endpoint, limits });
  }
  const nft = NftDriver.open();
  const reconciler = new Reconciler({
    nft,
    rtnetlink: host,
    source: { records, undecodable: new Map(), outdated: new Map(), revision: 1n, epoch: "static", isComplete: true },
    settings: { nodeName: "n1", interfacePrefix: prefix },
    clock: systemClock,
    log,
    observer: { applied: () => undefined, failed: () => undefined, repaired: () => undefined, programmed: () => undefined, podProtected: () => undefined },
    onProgrammed: () => undefined,
    checkIntervalMs: 60_000,
  });
  const shaper = new Shaper({
    kernel: host,
    endpoints: () => reconciler.endpoints.list(),
    limitsOf(podKey) {
      const record = records.get(`endpoint/${podKey}`);
      return record?.kind === "endpoint" ? record.limits : undefined;
    },
    isReady: () => reconciler.programmed !== undefined,
    clock: systemClock,
    log,
  });
  return { reconciler, shaper, close: () => nft.close() };
}
