/**
 * nf_tables in memory, behind the driver's interface: `new FakeNft()`.
 *
 * Behaves as the kernel does where a planner can go wrong: all or nothing, a rule to a missing chain or set, an element
 * that is there with another verdict, overlapping intervals, deletion of what is in use. The suite in nft-suite.ts runs on
 * this and on the real kernel. Connections that share a FakeNftKernel see each other's changes as foreign ones.
 */

import { errnoNumber } from "../../agent/drivers/netlink/libc.ts";
import type { NftRuleCount } from "../../agent/drivers/nftables/counters.ts";
import type { Nftables, NftForeignChange } from "../../agent/drivers/nftables/driver.ts";
import { type NftFailure, NftTransactionError } from "../../agent/drivers/nftables/error.ts";
import { ruleFingerprint } from "../../agent/drivers/nftables/lower.ts";
import type { NftTableState } from "../../agent/drivers/nftables/state.ts";
import { mergeElements, sortElements } from "../../agent/plan/nft/intervals.ts";
import type { NftChain, NftElement, NftOperation, NftRule, NftRuleset, NftSet, NftTable, NftTransaction, NftVerdict } from "../../agent/plan/nft/ruleset.ts";
import { nftText } from "../../agent/plan/nft/text.ts";
import { compareBytes, keyRanges } from "../../agent/plan/nft/values.ts";

type Content = {
  readonly table: NftTable;
  readonly chains: Map<string, { chain: NftChain; rules: { handle: bigint; rule: NftRule }[] }>;
  readonly sets: Map<string, { set: NftSet; elements: Map<string, NftElement> }>;
};

type Watcher = { readonly connection: FakeNft; readonly table: NftTable; readonly onChange: (change: NftForeignChange) => void };

/** What several connections share. */
export class FakeNftKernel {
  tables = new Map<string, Content>();
  generation = 1;
  lastHandle = 0n;
  readonly watchers = new Set<Watcher>();
}

/** An operation that the kernel would refuse. */
class Refusal extends Error {
  readonly code: string;

  constructor(code: string) {
    super(code);
    this.name = "Refusal";
    this.code = code;
  }
}

export class FakeNft implements Nftables {
  readonly #kernel: FakeNftKernel;
  /** Every transaction that was applied, for tests that ask how something was done. */
  readonly applied: NftTransaction[] = [];
  /** Set to make the next `apply` fail as if the kernel had refused the first operation. */
  failNextWith: string | undefined;

  constructor(kernel: FakeNftKernel = new FakeNftKernel()) {
    this.#kernel = kernel;
  }

  async apply(transaction: NftTransaction): Promise<void> {
    if (transaction.operations.length === 0) return;
    const kernel = this.#kernel;
    const tables = new Map(Array.from(kernel.tables, ([key, content]) => [key, copyContent(content)]));
    const failures: NftFailure[] = [];
    if (this.failNextWith !== undefined) {
      failures.push(failureOf(0, transaction.operations[0], this.failNextWith));
      this.failNextWith = undefined;
    }
    for (const [index, operation] of transaction.operations.entries()) {
      try {
        this.#operation(tables, operation);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        failures.push(failureOf(index, operation, error.code));
      }
    }
    const [first, ...rest] = failures;
    if (first !== undefined) throw new NftTransactionError([first, ...rest]);
    kernel.tables = tables;
    kernel.generation += 1;
    this.applied.push(transaction);
    this.#notify(transaction);
  }

  async readTable(table: NftTable): Promise<NftTableState | undefined> {
    const content = this.#kernel.tables.get(tableKey(table));
    if (content === undefined) return undefined;
    return {
      table,
      generation: this.#kernel.generation,
      chains: new Map(
        Array.from(content.chains, ([name, { chain, rules }]) => [
          name,
          { chain, rules: rules.map(({ handle, rule }) => ({ handle, comment: rule.comment, fingerprint: ruleFingerprint(table.family, rule) })) },
        ]),
      ),
      sets: new Map(Array.from(content.sets, ([name, { set, elements }]) => [name, { set, elements: sortElements(set, [...elements.values()]) }])),
      unknownSets: [],
    };
  }

  /** Set by tests: what a rule has counted. */
  counted: (chain: string, rule: NftRule) => bigint = () => 0n;

  async ruleCounts(table: NftTable, chain?: string): Promise<readonly NftRuleCount[]> {
    const chains = [...(this.#kernel.tables.get(tableKey(table))?.chains ?? [])].filter(([name]) => chain === undefined || name === chain);
    return chains.flatMap(([name, { rules }]) =>
      rules.map(({ handle, rule }) => {
        const packets = this.counted(name, rule);
        const counts = rule.statements.some(({ kind }) => kind === "counter");
        return { chain: name, handle, count: counts ? { packets, bytes: packets * 100n } : undefined };
      }),
    );
  }

  async generation(): Promise<number> {
    return this.#kernel.generation;
  }

  async watch(table: NftTable, onChange: (change: NftForeignChange) => void, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const watcher: Watcher = { connection: this, table, onChange };
    this.#kernel.watchers.add(watcher);
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    this.#kernel.watchers.delete(watcher);
  }

  close(): void {
    // Nothing is held open.
  }

  /** As `nft --stateless list table`; empty when there is no such table. */
  text(table: NftTable): string {
    const ruleset = this.ruleset(table);
    return ruleset === undefined ? "" : nftText(ruleset);
  }

  /** The table in the model's own terms. */
  ruleset(table: NftTable): NftRuleset | undefined {
    const content = this.#kernel.tables.get(tableKey(table));
    if (content === undefined) return undefined;
    return {
      table,
      chains: new Map(Array.from(content.chains, ([name, { chain, rules }]) => [name, { chain, rules: rules.map(({ rule }) => rule) }])),
      sets: new Map(Array.from(content.sets, ([name, { set, elements }]) => [name, { set, elements: [...elements.values()] }])),
    };
  }

  #notify({ operations }: NftTransaction): void {
    for (const { connection, table, onChange } of this.#kernel.watchers) {
      if (connection === this) continue;
      const concerned = operations.filter((operation) => tableKey(operation.table) === tableKey(table));
      if (concerned.length > 0) onChange({ kind: "changed", messages: [...new Set(concerned.map(({ kind }) => kind))] });
    }
  }

  #operation(tables: Map<string, Content>, operation: NftOperation): void {
    const key = tableKey(operation.table);
    if (operation.kind === "add-table") {
      if (!tables.has(key)) tables.set(key, { table: operation.table, chains: new Map(), sets: new Map() });
      return;
    }
    const content = tables.get(key) ?? refuse("ENOENT");
    switch (operation.kind) {
      case "delete-table":
        tables.delete(key);
        return;
      case "flush-table":
        for (const chain of content.chains.values()) chain.rules = [];
        return;
      case "add-chain":
        return addChain(content, operation.chain);
      case "delete-chain": {
        const { chains } = content;
        const chain = chains.get(operation.chain) ?? refuse("ENOENT");
        chain.rules = [];
        if (isChainUsed(content, operation.chain)) refuse("EBUSY");
        chains.delete(operation.chain);
        return;
      }
      case "flush-chain":
        (content.chains.get(operation.chain) ?? refuse("ENOENT")).rules = [];
        return;
      case "add-rule": {
        const { rules } = content.chains.get(operation.chain) ?? refuse("ENOENT");
        checkRule(content, operation.rule);
        this.#kernel.lastHandle += 1n;
        rules.push({ handle: this.#kernel.lastHandle, rule: operation.rule });
        if (hasLoop(content, operation.chain)) refuse("ELOOP");
        return;
      }
      case "delete-rule": {
        const chain = content.chains.get(operation.chain) ?? refuse("ENOENT");
        if (!chain.rules.some(({ handle }) => handle === operation.handle)) refuse("ENOENT");
        chain.rules = chain.rules.filter(({ handle }) => handle !== operation.handle);
        return;
      }
      case "add-set": {
        const present = content.sets.get(operation.set.name);
        if (present === undefined) content.sets.set(operation.set.name, { set: operation.set, elements: new Map() });
        else if (setIdentity(present.set) !== setIdentity(operation.set)) refuse("EEXIST");
        return;
      }
      case "delete-set":
        if (!content.sets.has(operation.set)) refuse("ENOENT");
        if (isSetUsed(content, operation.set)) refuse("EBUSY");
        content.sets.delete(operation.set);
        return;
      case "flush-set":
        (content.sets.get(operation.set) ?? refuse("ENOENT")).elements.clear();
        return;
      case "add-elements": {
        const { set, elements } = content.sets.get(operation.set.name) ?? refuse("ENOENT");
        for (const element of canonical(set, operation.elements)) addElement(content, set, elements, element, operation.exclusive === true);
        return;
      }
      case "delete-elements": {
        const { set, elements } = content.sets.get(operation.set.name) ?? refuse("ENOENT");
        for (const { key: element } of canonical(set, operation.elements)) if (!elements.delete(element)) refuse("ENOENT");
        return;
      }
    }
  }
}

function addChain(content: Content, chain: NftChain): void {
  const present = content.chains.get(chain.name);
  if (present === undefined) {
    content.chains.set(chain.name, { chain, rules: [] });
    return;
  }
  const { base } = chain;
  const before = present.chain.base;
  if (base === undefined) return;
  // A hook cannot move; the policy can change.
  if (before === undefined || before.type !== base.type || before.hook !== base.hook || before.priority !== base.priority) refuse("EEXIST");
  present.chain = { ...present.chain, base };
}

function addElement(content: Content, set: NftSet, elements: Map<string, NftElement>, element: NftElement, isExclusive: boolean): void {
  const { data } = element;
  if (data !== undefined && typeof data !== "string") checkTarget(content, data);
  const present = elements.get(element.key);
  if (present !== undefined) {
    if (JSON.stringify(present.data) !== JSON.stringify(data)) refuse("EEXIST");
    if (isExclusive) refuse("EEXIST");
    return;
  }
  if (set.intervals === true && overlapsAny(set, elements, element)) refuse("EEXIST");
  elements.set(element.key, element);
}

/** Linear: fakes hold few elements. */
function overlapsAny(set: NftSet, elements: ReadonlyMap<string, NftElement>, element: NftElement): boolean {
  const ranges = keyRanges(set.key, element.key);
  for (const other of elements.keys()) {
    const otherRanges = keyRanges(set.key, other);
    const overlaps = ranges.every((range, index) => {
      const otherRange = otherRanges[index];
      return otherRange !== undefined && compareBytes(range.from, otherRange.to) <= 0 && compareBytes(otherRange.from, range.to) <= 0;
    });
    if (overlaps) return true;
  }
  return false;
}

function canonical(set: NftSet, elements: readonly NftElement[]): NftElement[] {
  return mergeElements(set, elements);
}

function checkRule(content: Content, rule: NftRule): void {
  // The encoder's own errors come first, as with the driver.
  ruleFingerprint(content.table.family, rule);
  for (const statement of rule.statements) {
    if (statement.kind === "jump" || statement.kind === "goto") checkTarget(content, statement);
    if (statement.kind === "lookup" && !content.sets.has(statement.set)) refuse("ENOENT");
    if (statement.kind === "vmap" && content.sets.get(statement.map)?.set.data !== "verdict") refuse(content.sets.has(statement.map) ? "EINVAL" : "ENOENT");
  }
}

function checkTarget(content: Content, verdict: NftVerdict): void {
  if (verdict.kind !== "jump" && verdict.kind !== "goto") return;
  const target = content.chains.get(verdict.chain) ?? refuse("ENOENT");
  if (target.chain.base !== undefined) refuse("EOPNOTSUPP");
}

function targetsOf(content: Content, chain: string): string[] {
  const targets: string[] = [];
  for (const { rule } of content.chains.get(chain)?.rules ?? []) {
    for (const statement of rule.statements) {
      if (statement.kind === "jump" || statement.kind === "goto") targets.push(statement.chain);
      if (statement.kind === "vmap") targets.push(...mapTargets(content, statement.map));
    }
  }
  return targets;
}

function mapTargets(content: Content, map: string): string[] {
  const targets: string[] = [];
  for (const { data } of content.sets.get(map)?.elements.values() ?? []) {
    if (data !== undefined && typeof data !== "string" && (data.kind === "jump" || data.kind === "goto")) targets.push(data.chain);
  }
  return targets;
}

function isChainUsed(content: Content, name: string): boolean {
  const fromRules = [...content.chains.keys()].some((chain) => targetsOf(content, chain).includes(name));
  return fromRules || [...content.sets.keys()].some((set) => mapTargets(content, set).includes(name));
}

function isSetUsed(content: Content, name: string): boolean {
  for (const { rules } of content.chains.values()) {
    for (const { rule } of rules) {
      if (rule.statements.some((statement) => (statement.kind === "lookup" && statement.set === name) || (statement.kind === "vmap" && statement.map === name)))
        return true;
    }
  }
  return false;
}

function hasLoop(content: Content, start: string): boolean {
  const seen = new Set<string>();
  const queue = targetsOf(content, start);
  for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
    if (chain === start) return true;
    if (seen.has(chain)) continue;
    seen.add(chain);
    queue.push(...targetsOf(content, chain));
  }
  return false;
}

function setIdentity(set: NftSet): string {
  return [set.key.join(" . "), set.data ?? "", set.intervals === true, set.timeouts === true].join("|");
}

function copyContent({ table, chains, sets }: Content): Content {
  return {
    table,
    chains: new Map(Array.from(chains, ([name, { chain, rules }]) => [name, { chain, rules: [...rules] }])),
    sets: new Map(Array.from(sets, ([name, { set, elements }]) => [name, { set, elements: new Map(elements) }])),
  };
}

function failureOf(index: number, operation: NftOperation | undefined, code: string): NftFailure {
  return { index, operation, errno: errnoNumber(code), code };
}

function refuse(code: string): never {
  throw new Refusal(code);
}

function tableKey({ family, name }: NftTable): string {
  return `${family} ${name}`;
}
