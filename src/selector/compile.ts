/**
 * Makes a Selector of an expression: predicate, identity, and the facts for indexing.
 *
 * Invariant: restrictions never exclude a set of labels that the selector matches (they may let through one that it does not).
 * The identity is computed when it is first asked for: selectors that only serve as a policy's subject never need it.
 */
import { sha224 } from "@noble/hashes/sha2.js";
import { utf8ToBytes } from "@noble/hashes/utils.js";
import { canonicalText, type Expression } from "./expression.ts";
import type { LabelLookup, LabelRestriction, Selector } from "./selector.ts";

type Restrictions = ReadonlyMap<string, LabelRestriction>;

/** The selector of an expression. */
export function selectorOf(expression: Expression): Selector {
  return new CompiledSelector(expression);
}

class CompiledSelector implements Selector {
  readonly canonical: string;
  readonly restrictions: Restrictions;
  readonly labels: ReadonlySet<string>;
  readonly matches: (lookup: LabelLookup) => boolean;
  #id: string | undefined;

  constructor(expression: Expression) {
    this.canonical = canonicalText(expression);
    this.restrictions = restrictionsOf(expression, false);
    const labels = new Set<string>();
    collectLabels(expression, labels);
    this.labels = labels;
    this.matches = compile(expression);
  }

  get id(): string {
    this.#id ??= selectorId(this.canonical);
    return this.#id;
  }
}

function selectorId(canonical: string): string {
  return `s:${base64Url(sha224(utf8ToBytes(`s:${canonical}`)))}`;
}

function compile(expression: Expression): (lookup: LabelLookup) => boolean {
  switch (expression.kind) {
    case "all":
    case "global":
      return () => true;
    case "has": {
      const { label } = expression;
      return (lookup) => lookup(label) !== undefined;
    }
    case "equals": {
      const { label, value } = expression;
      return (lookup) => lookup(label) === value;
    }
    case "not-equals": {
      const { label, value } = expression;
      return (lookup) => lookup(label) !== value;
    }
    case "contains": {
      const { label, value } = expression;
      return (lookup) => lookup(label)?.includes(value) === true;
    }
    case "starts-with": {
      const { label, value } = expression;
      return (lookup) => lookup(label)?.startsWith(value) === true;
    }
    case "ends-with": {
      const { label, value } = expression;
      return (lookup) => lookup(label)?.endsWith(value) === true;
    }
    case "in":
    case "not-in": {
      const { label } = expression;
      const values = new Set<string | undefined>(expression.values);
      return expression.kind === "in" ? (lookup) => values.has(lookup(label)) : (lookup) => !values.has(lookup(label));
    }
    case "not": {
      const operand = compile(expression.operand);
      return (lookup) => !operand(lookup);
    }
    case "and": {
      const operands = expression.operands.map(compile);
      return (lookup) => operands.every((operand) => operand(lookup));
    }
    case "or": {
      const operands = expression.operands.map(compile);
      return (lookup) => operands.some((operand) => operand(lookup));
    }
  }
}

const NONE: Restrictions = new Map();

/** Facts about the labels that satisfy the expression (or its negation). */
function restrictionsOf(expression: Expression, isNegated: boolean): Restrictions {
  switch (expression.kind) {
    case "all":
    case "global":
      return NONE;
    case "has":
      return new Map([[expression.label, { mustBePresent: !isNegated, values: undefined }]]);
    case "contains":
    case "starts-with":
    case "ends-with":
      return isNegated ? NONE : new Map([[expression.label, { mustBePresent: true, values: undefined }]]);
    case "equals":
      return isNegated ? NONE : oneOf(expression.label, [expression.value]);
    case "not-equals":
      return isNegated ? oneOf(expression.label, [expression.value]) : NONE;
    case "in":
      return isNegated ? NONE : oneOf(expression.label, expression.values);
    case "not-in":
      return isNegated ? oneOf(expression.label, expression.values) : NONE;
    case "not":
      return restrictionsOf(expression.operand, !isNegated);
    case "and":
    case "or": {
      const parts = expression.operands.map((operand) => restrictionsOf(operand, isNegated));
      return (expression.kind === "and") === !isNegated ? restrictionsOfAll(parts) : restrictionsOfAny(parts);
    }
  }
}

function oneOf(label: string, values: readonly string[]): Restrictions {
  return new Map([[label, { mustBePresent: true, values }]]);
}

/** All parts hold: what any of them says is so. A contradiction shows as "one of no values". */
function restrictionsOfAll(parts: readonly Restrictions[]): Restrictions {
  const result = new Map<string, LabelRestriction>();
  for (const part of parts) {
    for (const [label, next] of part) {
      const known = result.get(label);
      result.set(label, known === undefined ? next : bothHold(known, next));
    }
  }
  return result;
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

function collectLabels(expression: Expression, into: Set<string>): void {
  if ("label" in expression) into.add(expression.label);
  else if (expression.kind === "not") collectLabels(expression.operand, into);
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
