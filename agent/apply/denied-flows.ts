/**
 * Connections that policy allowed when they began and denies now, cut so that they do not live on as "established".
 *
 * Judged by the same evaluation as everywhere else, from the records that the kernel has. Invariant: only what is surely denied is cut: not while a
 * record is not understood, not of a pod whose policy is not known, not between a host and its own pods.
 * Rejected: cutting whatever a changed policy selects: connections that are still allowed would break at each change.
 */
import type { Endpoint, Policy, RecordKey, RecordValue, SetShard, Stack } from "../../src/model/record.ts";
import type { IpAddress } from "../../src/net/ip.ts";
import { type Direction, evaluate, type SetLookup } from "../../src/policy/evaluate.ts";
import { setsOfShards } from "../../src/policy/shard-sets.ts";
import { wholeStack } from "../../src/policy/stack-lists.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { Due } from "../../src/runtime/due.ts";
import type { Logger } from "../../src/runtime/log.ts";
import type { Conntrack, ConntrackFlow } from "../drivers/conntrack/driver.ts";
import type { LocalEndpoint } from "./local-endpoints.ts";

export interface FlowView {
  readonly records: ReadonlyMap<RecordKey, RecordValue>;
  readonly undecodable: ReadonlyMap<RecordKey, string>;
  readonly outdated: ReadonlyMap<RecordKey, string>;
}

export interface DeniedFlowsOptions {
  readonly conntrack: Conntrack;
  readonly source: FlowView;
  readonly endpoints: () => readonly LocalEndpoint[];
  /** The node's own addresses. */
  readonly hostAddresses: () => ReadonlySet<IpAddress>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onCut: (flows: number) => void;
}

/** Changes that come together are judged together, and a busy node is not always listing its connections. */
const REST_MS = 500;

export class DeniedFlows {
  readonly name = "connections";
  readonly #options: DeniedFlowsOptions;
  readonly #due = new Due();

  constructor(options: DeniedFlowsOptions) {
    this.#options = options;
  }

  /** The kernel has another policy. */
  policyChanged(): void {
    this.#due.mark();
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, onCut } = this.#options;
    while (!signal.aborted) {
      await this.#due.wait(signal);
      if (signal.aborted) return;
      this.#due.clear();
      try {
        const cut = this.cut();
        if (cut > 0) log.info({ connections: cut }, "connections that policy denies now were cut");
        onCut(cut);
      } catch (error) {
        log.warn({ err: error }, "connections cannot be listed: what policy denies now may go on until it ends");
      }
      await clock.sleep(REST_MS, signal);
    }
  }

  /** How many went. */
  cut(): number {
    const { conntrack, source, endpoints, hostAddresses } = this.#options;
    if (source.undecodable.size > 0 || source.outdated.size > 0) return 0;
    const byAddress = new Map<IpAddress, LocalEndpoint>();
    for (const endpoint of endpoints()) for (const address of endpoint.addresses) byAddress.set(address, endpoint);
    if (byAddress.size === 0) return 0;
    const flows = conntrack.flows({ addresses: new Set(byAddress.keys()) });
    if (flows.length === 0) return 0;
    const judge = new FlowJudge(source.records, byAddress, hostAddresses());
    return flows.filter((flow) => judge.isDenied(flow) && conntrack.deleteFlow(flow)).length;
  }
}

class FlowJudge {
  readonly #records: ReadonlyMap<RecordKey, RecordValue>;
  readonly #byAddress: ReadonlyMap<IpAddress, LocalEndpoint>;
  readonly #hostAddresses: ReadonlySet<IpAddress>;
  readonly #sets: SetLookup;
  readonly #stacks = new Map<RecordKey, Stack>();

  constructor(records: ReadonlyMap<RecordKey, RecordValue>, byAddress: ReadonlyMap<IpAddress, LocalEndpoint>, hostAddresses: ReadonlySet<IpAddress>) {
    this.#records = records;
    this.#byAddress = byAddress;
    this.#hostAddresses = hostAddresses;
    const shards: SetShard[] = [];
    for (const value of records.values()) if (value.kind === "set") shards.push(value);
    this.#sets = setsOfShards(shards);
  }

  isDenied(flow: ConntrackFlow): boolean {
    const from = this.#byAddress.get(flow.source);
    const to = this.#byAddress.get(flow.destination);
    if (from !== undefined && this.#isDeniedAt(from, "egress", flow)) return true;
    return to !== undefined && !this.#hostAddresses.has(flow.source) && this.#isDeniedAt(to, "ingress", flow);
  }

  #isDeniedAt({ podKey, podUid }: LocalEndpoint, direction: Direction, flow: ConntrackFlow): boolean {
    const record = this.#records.get(`endpoint/${podKey}`);
    if (record?.kind !== "endpoint" || isOther(record, podUid) || record.stack === "") return false;
    const stack = this.#stack(record.stack);
    if (stack === undefined || !this.#isWhole(stack)) return false;
    const { action } = evaluate({
      stack,
      policy: (key) => this.#policy(key),
      sets: this.#sets,
      direction,
      packet: {
        sourceAddress: flow.source,
        destinationAddress: flow.destination,
        protocol: flow.protocol,
        sourcePort: flow.sourcePort,
        destinationPort: flow.destinationPort,
        icmpType: flow.icmpType,
        icmpCode: flow.icmpCode,
      },
    });
    return action === "deny";
  }

  /** With the policies of its lists; undefined: not known. */
  #stack(key: RecordKey): Stack | undefined {
    const known = this.#stacks.get(key);
    if (known !== undefined) return known;
    const stack = this.#records.get(key);
    if (stack?.kind !== "stack") return undefined;
    const whole = wholeStack(stack, (list) => this.#records.get(list));
    this.#stacks.set(key, whole);
    return whole;
  }

  #policy(key: RecordKey): Policy | undefined {
    const value = this.#records.get(key);
    return value?.kind === "policy" ? value : undefined;
  }

  #isWhole({ tiers, profiles = [] }: Stack): boolean {
    return [...tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress]), ...profiles].every((key) => this.#policy(key) !== undefined);
  }
}

/** The record of a pod before, under the same name. */
function isOther({ uid }: Endpoint, podUid: string | undefined): boolean {
  return podUid !== undefined && uid !== "" && uid !== podUid;
}
