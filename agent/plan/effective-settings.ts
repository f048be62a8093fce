/**
 * The agent's own settings with what the cluster states for the node in their place: what a flag says is the default, what an object says holds. Pure.
 *
 * Invariant: the same object comes back while neither changed, so that comparing settings costs nothing, and a change of the record is a change of the
 * plan like any other: live, in one transaction, without a restart.
 */
import type { NodeSettings, RecordKey, RecordValue } from "../../src/model/record.ts";
import { failsafePorts } from "./failsafe.ts";
import type { PlanSettings } from "./ruleset.ts";

export class EffectiveSettings {
  readonly #own: PlanSettings;
  #stated: NodeSettings | undefined;
  #effective: PlanSettings;

  constructor(own: PlanSettings) {
    this.#own = own;
    this.#effective = own;
  }

  of(records: ReadonlyMap<RecordKey, RecordValue>): PlanSettings {
    const record = records.get(`node-settings/${this.#own.nodeName}`);
    const stated = record?.kind === "node-settings" ? record : undefined;
    if (stated === this.#stated) return this.#effective;
    this.#stated = stated;
    this.#effective = stated === undefined ? this.#own : withStated(this.#own, stated);
    return this.#effective;
  }
}

function withStated(own: PlanSettings, stated: NodeSettings): PlanSettings {
  const { failsafeInbound, failsafeOutbound, endpointToHostAction, logPrefix, denyAction } = stated;
  const { inbound, outbound } = own.failsafePorts ?? failsafePorts();
  return {
    ...own,
    failsafePorts: { inbound: failsafeInbound ?? inbound, outbound: failsafeOutbound ?? outbound },
    ...(endpointToHostAction === undefined ? {} : { endpointToHostAction }),
    ...(logPrefix === undefined ? {} : { logPrefix }),
    ...(denyAction === undefined ? {} : { denyAction }),
  };
}
