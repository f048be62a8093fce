/**
 * What the policies' rules have counted, summed over the kernel rules that one rule became and over the stacks that hold it.
 *
 * Kernel counters begin at zero when a chain is rewritten; here each kernel rule counts by what it grew since it was last read, and chains are read once
 * more before they are rewritten. Invariant: a sum never shrinks while its policy is in force.
 */
import type { RecordKey } from "../../src/model/record.ts";
import type { NftRuleCount } from "../drivers/nftables/counters.ts";
import type { NftRuleset } from "../plan/nft/ruleset.ts";
import { type RuleSource, sourceOf } from "../plan/policy-chains.ts";

export interface PolicyCount {
  readonly policy: RecordKey;
  readonly direction: RuleSource["direction"];
  readonly rule: number;
  readonly action: RuleSource["action"];
  readonly packets: number;
  readonly bytes: number;
}

interface Sum {
  readonly source: RuleSource;
  packets: bigint;
  bytes: bigint;
}

export class RuleCounters {
  readonly #sums = new Map<string, Sum>();
  #seen = new Map<bigint, { readonly packets: bigint; readonly bytes: bigint }>();

  /** `isWhole`: the counts are of the whole table, and what is not among them is gone. */
  collect(ruleset: NftRuleset, counts: readonly NftRuleCount[], isWhole: boolean): void {
    const seen = isWhole ? new Map<bigint, { packets: bigint; bytes: bigint }>() : this.#seen;
    const live = new Set<string>();
    const byChain = new Map<string, NftRuleCount[]>();
    for (const count of counts) {
      const ofChain = byChain.get(count.chain);
      if (ofChain === undefined) byChain.set(count.chain, [count]);
      else ofChain.push(count);
    }
    for (const [chain, ofChain] of byChain) {
      const rules = ruleset.chains.get(chain)?.rules ?? [];
      // Someone else's rule among ours: which is which is not known until the table is repaired.
      if (rules.length !== ofChain.length) continue;
      for (const [i, { handle, count }] of ofChain.entries()) {
        const rule = rules[i];
        const source = rule === undefined || count === undefined ? undefined : sourceOf(rule);
        if (count === undefined || source === undefined) continue;
        const before = this.#seen.get(handle) ?? { packets: 0n, bytes: 0n };
        const sum = this.#sum(source);
        // Less than before: someone has reset it.
        sum.packets += count.packets < before.packets ? count.packets : count.packets - before.packets;
        sum.bytes += count.bytes < before.bytes ? count.bytes : count.bytes - before.bytes;
        seen.set(handle, count);
        live.add(nameOf(source));
      }
    }
    this.#seen = seen;
    if (isWhole) for (const name of this.#sums.keys()) if (!live.has(name)) this.#sums.delete(name);
  }

  list(): readonly PolicyCount[] {
    return [...this.#sums.values()].map(({ source: { policy, direction, rule, action }, packets, bytes }) => ({
      policy,
      direction,
      rule,
      action,
      packets: Number(packets),
      bytes: Number(bytes),
    }));
  }

  #sum(source: RuleSource): Sum {
    const name = nameOf(source);
    let sum = this.#sums.get(name);
    if (sum === undefined) {
      sum = { source, packets: 0n, bytes: 0n };
      this.#sums.set(name, sum);
    }
    return sum;
  }
}

function nameOf({ policy, direction, rule, action }: RuleSource): string {
  return `${policy} ${direction} ${rule} ${action}`;
}
