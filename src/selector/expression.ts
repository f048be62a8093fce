/**
 * The expression tree of a selector, its constructors, and its canonical text.
 *
 * Invariant: trees made by the constructors are normal: nested operators of one kind are flattened, double negation is gone, sets are sorted and
 * unique, `all()` is no operand. So `canonicalText` parses back to an equal tree, and equal texts mean equal trees.
 * Rejected: sorting the operands of && and ||. It would make more spellings share a set, but identities would no longer be the ones that users
 * of the language see in their own order.
 */

/** One comparison of a label with a text. A missing label fails it. */
export type TextOperator = "equals" | "contains" | "starts-with" | "ends-with";

export type Expression =
  | { readonly kind: "all" }
  /** The same as all(); means "no namespace" where a policy's namespaceSelector is converted. */
  | { readonly kind: "global" }
  | { readonly kind: "has"; readonly label: string }
  | { readonly kind: TextOperator; readonly label: string; readonly value: string }
  /** True for a missing label too. */
  | { readonly kind: "not-equals"; readonly label: string; readonly value: string }
  | { readonly kind: "in"; readonly label: string; readonly values: readonly string[] }
  /** True for a missing label too. */
  | { readonly kind: "not-in"; readonly label: string; readonly values: readonly string[] }
  | { readonly kind: "not"; readonly operand: Expression }
  | { readonly kind: "and" | "or"; readonly operands: readonly Expression[] };

/** Longest label name that the language takes. */
export const MAX_LABEL_LENGTH = 512;

export const ALL: Expression = { kind: "all" };
export const GLOBAL: Expression = { kind: "global" };

export function has(label: string): Expression {
  return { kind: "has", label: checkedLabel(label) };
}

/** `label == "value"`. Throws RangeError for what the language cannot say: an odd label, or a value with both kinds of quotes. */
export function equals(label: string, value: string): Expression {
  return compare("equals", label, value);
}

/** Any comparison with one text. Throws RangeError as `equals` does. */
export function compare(kind: TextOperator | "not-equals", label: string, value: string): Expression {
  return { kind, label: checkedLabel(label), value: checkedValue(value) };
}

/** `label in {…}` or `label not in {…}`. Throws RangeError as `equals` does. */
export function within(kind: "in" | "not-in", label: string, values: Iterable<string>): Expression {
  return { kind, label: checkedLabel(label), values: [...new Set(values)].map(checkedValue).sort(compareCodeUnits) };
}

export function not(operand: Expression): Expression {
  return operand.kind === "not" ? operand.operand : { kind: "not", operand };
}

/** All of them must hold; none: all(). */
export function and(...operands: readonly Expression[]): Expression {
  if (operands.length > 1 && operands.every(({ kind }) => kind !== "and" && kind !== "all")) return { kind: "and", operands };
  const flat: Expression[] = [];
  for (const operand of operands) {
    if (operand.kind === "and") flat.push(...operand.operands);
    else if (operand.kind !== "all") flat.push(operand);
  }
  return flat.length > 1 ? { kind: "and", operands: flat.slice() } : (flat[0] ?? ALL);
}

/** One of them must hold. At least one operand. */
export function or(first: Expression, ...more: readonly Expression[]): Expression {
  const flat = [first, ...more].flatMap((operand) => (operand.kind === "or" ? operand.operands : [operand]));
  return flat.length > 1 ? { kind: "or", operands: flat } : first;
}

/** The same condition on labels with a prefix: how a namespace selector ("pcns.") becomes one over endpoints. */
export function prefixLabels(expression: Expression, prefix: string): Expression {
  switch (expression.kind) {
    case "all":
    case "global":
      return expression;
    case "not":
      return not(prefixLabels(expression.operand, prefix));
    case "and":
    case "or":
      return { kind: expression.kind, operands: expression.operands.map((operand) => prefixLabels(operand, prefix)) };
    default:
      return { ...expression, label: checkedLabel(prefix + expression.label) };
  }
}

/** Canonical text: sorted unique sets, double quotes where possible, single spaces, parentheses around nested && and ||. */
export function canonicalText(expression: Expression): string {
  switch (expression.kind) {
    case "all":
      return "all()";
    case "global":
      return "global()";
    case "has":
      return `has(${expression.label})`;
    case "equals":
      return `${expression.label} == ${quoted(expression.value)}`;
    case "not-equals":
      return `${expression.label} != ${quoted(expression.value)}`;
    case "contains":
      return `${expression.label} contains ${quoted(expression.value)}`;
    case "starts-with":
      return `${expression.label} starts with ${quoted(expression.value)}`;
    case "ends-with":
      return `${expression.label} ends with ${quoted(expression.value)}`;
    case "in":
      return `${expression.label} in {${expression.values.map(quoted).join(", ")}}`;
    case "not-in":
      return `${expression.label} not in {${expression.values.map(quoted).join(", ")}}`;
    case "not":
      return `!${isOperator(expression.operand) || isComparison(expression.operand) ? `(${canonicalText(expression.operand)})` : canonicalText(expression.operand)}`;
    case "and":
      return expression.operands.map(nestedText).join(" && ");
    case "or":
      return expression.operands.map(nestedText).join(" || ");
  }
}

/** Order of strings that does not depend on a locale. */
function compareCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function nestedText(operand: Expression): string {
  return isOperator(operand) ? `(${canonicalText(operand)})` : canonicalText(operand);
}

function isOperator(expression: Expression): boolean {
  return expression.kind === "and" || expression.kind === "or";
}

function isComparison(expression: Expression): boolean {
  return "label" in expression && expression.kind !== "has";
}

function quoted(value: string): string {
  return value.includes('"') ? `'${value}'` : `"${value}"`;
}

function checkedLabel(label: string): string {
  if (label.length > MAX_LABEL_LENGTH || !/^[A-Za-z0-9_./-]+$/.test(label)) {
    throw new RangeError(`not a label name for a selector: ${JSON.stringify(label.slice(0, 80))} (want 1 to ${MAX_LABEL_LENGTH} of A-Z a-z 0-9 _ . / -)`);
  }
  return label;
}

function checkedValue(value: string): string {
  if (value.includes('"') && value.includes("'")) throw new RangeError(`a selector cannot state a value with both kinds of quotes: ${JSON.stringify(value)}`);
  return value;
}
