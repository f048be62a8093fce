/**
 * One transaction as the commits that carry it out: chains that a verdict map is to lead to are there, with their rules, one commit earlier. Pure.
 *
 * The kernel's commit is not one instant for a packet under way: its rules are those of the generation in which it entered the base chain, and a map's
 * elements are those of the moment of the lookup (nf_tables: `nft_do_chain` reads the generation once, sets read it at each lookup). A packet between the two
 * finds the new element and goes to a chain that in its own generation has no rules: it falls through to the base chain's policy, accept. A chain that was
 * there one commit earlier has its rules in both generations. Members of sets that give way to narrower ones: replaced-prefixes.ts.
 * Invariant: the first stage changes nothing for any packet, as nothing leads to what it adds; so all that changes does so in one commit, the last. A base
 * chain is led to by the kernel itself, so it comes with the last.
 */
import type { NftOperation, NftTransaction } from "./nft/ruleset.ts";
import { replacedPrefixes } from "./replaced-prefixes.ts";

export function stagesOf({ operations: all }: NftTransaction): readonly NftTransaction[] {
  // A table that is made anew cannot be prepared: it has no earlier commit.
  if (all.some(({ kind }) => kind === "delete-table")) return [{ operations: all }];
  const { early, operations, late } = replacedPrefixes(all);
  return [...only(early), ...mapStages(operations), ...only(late)].map((stage) => ({ operations: stage }));
}

/** One stage, or two: what leads to new chains comes second. */
function mapStages(operations: readonly NftOperation[]): readonly (readonly NftOperation[])[] {
  const chains = new Set(
    operations.flatMap((operation) => (operation.kind === "add-chain" && operation.chain.base === undefined ? [operation.chain.name] : [])),
  );
  if (!operations.some((operation) => leadsTo(operation, chains))) return [operations];
  const sets = new Set(operations.flatMap((operation) => (operation.kind === "add-set" ? [operation.set.name] : [])));
  const isAddition = (operation: NftOperation): boolean => {
    switch (operation.kind) {
      case "add-table":
      case "add-set":
        return true;
      case "add-chain":
        return chains.has(operation.chain.name);
      case "add-rule":
        return chains.has(operation.chain);
      case "add-elements":
        return sets.has(operation.set.name) && !leadsTo(operation, chains);
      default:
        return false;
    }
  };
  return [operations.filter(isAddition), operations.filter((operation) => !isAddition(operation))];
}

function only(stage: readonly NftOperation[]): readonly (readonly NftOperation[])[] {
  return stage.length === 0 ? [] : [stage];
}

function leadsTo(operation: NftOperation, chains: ReadonlySet<string>): boolean {
  if (operation.kind !== "add-elements") return false;
  return operation.elements.some(({ data }) => typeof data === "object" && (data.kind === "goto" || data.kind === "jump") && chains.has(data.chain));
}
