/**
 * Makes a Selector of an expression: predicate, identity, and the facts for indexing.
 *
 * Invariant: restrictions never exclude a set of labels that the selector matches (they may let through one that it does not).
 * Everything but the text is computed when it is asked for: most selectors are one that is known already, and a policy's subject never needs an identity.
 */
import { canonicalText, type Expression } from "./expression.ts";
import type { LabelLookup, LabelRestriction, Selector } from "./selector.ts";
import { sha224Of } from "./text-digest.ts";

type Restrictions = ReadonlyMap<string, LabelRestriction>;

/** The selector of an expression. */
export function selectorOf(expression: Expression): Selector {
  return new CompiledSelector(expression);
}

/**
 * Holds the expression and its text, and little else: a cluster has a selector or two for each policy, most are known already when they come, and Maps,
 * Sets and closures for each would be a third of what policies take.
 */
class CompiledSelector implements Selector {
  readonly canonical: string;
  readonly #expression: Expression;
  #labels: readonly string[] | undefined;
  #id: string | undefined;

  constructor(expression: Expression) {
    this.canonical = canonicalText(expression);
    this.#expression = expression;
  }

  get id(): string {
    this.#id ??= selectorId(this.canonical);
    return this.#id;
  }

  get restrictions(): Restrictions {
    const restrictions = new Map<string, LabelRestriction>();
    addRestrictions(this.#expression, false, restrictions);
    return restrictions;
  }

  get labels(): readonly string[] {
    this.#labels ??= labelsOf(this.#expression);
    return this.#labels;
  }

  matches(lookup: LabelLookup): boolean {
    return holds(this.#expression, lookup);
  }
}

function selectorId(canonical: string): string {
  return `s:${base64Url(sha224Of(`s:${canonical}`))}`;
}

function holds(expression: Expression, lookup: LabelLookup): boolean {
  switch (expression.kind) {
    case "all":
    case "global":
      return true;
    case "has":
      return lookup(expression.label) !== undefined;
    case "equals":
      return lookup(expression.label) === expression.value;
    case "not-equals":
      return lookup(expression.label) !== expression.value;
    case "contains":
      return lookup(expression.label)?.includes(expression.value) === true;
    case "starts-with":
      return lookup(expression.label)?.startsWith(expression.value) === true;
    case "ends-with":
      return lookup(expression.label)?.endsWith(expression.value) === true;
    case "in":
      return isAmong(expression.values, lookup(expression.label));
    case "not-in":
      return !isAmong(expression.values, lookup(expression.label));
    case "not":
      return !holds(expression.operand, lookup);
    case "and":
      for (const operand of expression.operands) if (!holds(operand, lookup)) return false;
      return true;
    case "or":
      for (const operand of expression.operands) if (holds(operand, lookup)) return true;
      return false;
  }
}

/** `values` are sorted by code units. */
function isAmong(values: readonly string[], value: string | undefined): boolean {
  if (value === undefined) return false;
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] ?? "") < value) low = middle + 1;
    else high = middle;
  }
  return values[low] === value;
}

const NONE: Restrictions = new Map();

/** Adds the facts about the labels that satisfy the expression (or its negation) to what must hold besides. A contradiction shows as "one of no values". */
function addRestrictions(expression: Expression, isNegated: boolean, into: Map<string, LabelRestriction>): void {
  switch (expression.kind) {
    case "all":
    case "global":
      return;
    case "has":
      add(into, expression.label, { mustBePresent: !isNegated, values: undefined });
      return;
    case "contains":
    case "starts-with":
    case "ends-with":
      if (!isNegated) add(into, expression.label, { mustBePresent: true, values: undefined });
      return;
    case "equals":
      if (!isNegated) add(into, expression.label, { mustBePresent: true, values: [expression.value] });
      return;
    case "not-equals":
      if (isNegated) add(into, expression.label, { mustBePresent: true, values: [expression.value] });
      return;
    case "in":
      if (!isNegated) add(into, expression.label, { mustBePresent: true, values: expression.values });
      return;
    case "not-in":
      if (isNegated) add(into, expression.label, { mustBePresent: true, values: expression.values });
      return;
    case "not":
      addRestrictions(expression.operand, !isNegated, into);
      return;
    case "and":
    case "or": {
      if ((expression.kind === "and") !== isNegated) {
        for (const operand of expression.operands) addRestrictions(operand, isNegated, into);
        return;
      }
      const parts = expression.operands.map((operand) => {
        const part = new Map<string, LabelRestriction>();
        addRestrictions(operand, isNegated, part);
        return part;
      });
      for (const [label, restriction] of restrictionsOfAny(parts)) add(into, label, restriction);
    }
  }
}

function add(into: Map<string, LabelRestriction>, label: string, restriction: LabelRestriction): void {
  const known = into.get(label);
  into.set(label, known === undefined ? restriction : bothHold(known, restriction));
}

function bothHold(a: LabelRestriction, b: LabelRestriction): LabelRestriction {
  if (a.mustBePresent !== b.mustBePresent) return { mustBePresent: true, values: [] };
  if (a.values === undefined || b.values === undefined) return { mustBePresent: a.mustBePresent, values: a.values ?? b.values };
  const other = new Set(b.values);
  return { mustBePresent: true, values: a.values.filter((value) => other.has(value)) };
}

/** One part holds: only what every part says is so. */
function restrictionsOfAny(parts: readonly Restrictions[]): Restrictions {
  const [first, ...rest] = parts;
  const result = new Map<string, LabelRestriction>();
  for (const [label, restriction] of first ?? NONE) {
    let merged: LabelRestriction | undefined = restriction;
    for (const part of rest) {
      const next = part.get(label);
      merged = merged === undefined || next === undefined ? undefined : eitherHolds(merged, next);
    }
    if (merged !== undefined) result.set(label, merged);
  }
  return result;
}

function eitherHolds(a: LabelRestriction, b: LabelRestriction): LabelRestriction | undefined {
  if (a.mustBePresent !== b.mustBePresent) return undefined;
  const values = a.values === undefined || b.values === undefined ? undefined : [...new Set([...a.values, ...b.values])];
  return { mustBePresent: a.mustBePresent, values };
}

function labelsOf(expression: Expression): readonly string[] {
  const labels: string[] = [];
  collectLabels(expression, labels);
  return labels;
}

function collectLabels(expression: Expression, into: string[]): void {
  if ("label" in expression) {
    if (!into.includes(expression.label)) into.push(expression.label);
  } else if (expression.kind === "not") collectLabels(expression.operand, into);
  else if ("operands" in expression) for (const operand of expression.operands) collectLabels(operand, into);
}

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/** Unpadded base64url (RFC 4648 section 5). */
function base64Url(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i += 3) {
    const group = ((bytes[i] ?? 0) << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    const characters = Math.min(4, bytes.length - i + 1);
    for (let c = 0; c < characters; c++) text += ALPHABET.charAt((group >> (18 - 6 * c)) & 63);
  }
  return text;
}
