/**
 * Selectors of Calico's language with the scope that their place gives them (Calico's "scoping rewrites").
 *
 * A text that does not parse is a ScopeProblem, which conversion turns into a rule that lets nothing more through; it is never an empty selector.
 */
import type { Problem } from "../model/event.ts";
import { selectorOf } from "../selector/compile.ts";
import { and, type Expression, equals, has, not, prefixLabels, within } from "../selector/expression.ts";
import { NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX } from "../selector/from-label-selector.ts";
import { parseExpression, SelectorError } from "../selector/parse-selector.ts";

/** Labels that every pod has. */
export const NAMESPACE_LABEL = "projectcalico.org/namespace";
export const SERVICE_ACCOUNT_LABEL = "projectcalico.org/serviceaccount";
/** A label that every namespace and service account has, once its object is known: its name. */
const NAME_LABEL = "projectcalico.org/name";

/** A selector that cannot be understood; `field` is where it stands. */
export class ScopeProblem extends Error {
  readonly problem: Problem;

  constructor(field: string, cause: Error) {
    super(cause.message, { cause });
    this.name = "ScopeProblem";
    this.problem = { field, message: cause.message };
  }
}

/** The expression of a text. Throws ScopeProblem. */
export function expressionAt(text: string, field: string): Expression {
  try {
    return parseExpression(text);
  } catch (error) {
    if (error instanceof SelectorError || error instanceof RangeError) throw new ScopeProblem(field, error);
    throw error;
  }
}

/** A selector over namespaces as a condition on what is in them. all(): what is in any namespace; global(): what is in none. */
export function namespaceCondition(text: string, field: string): Expression {
  const expression = expressionAt(text, field);
  if (expression.kind === "all") return has(NAMESPACE_LABEL);
  if (expression.kind === "global") return not(has(NAMESPACE_LABEL));
  if (mentionsGlobal(expression)) throw new ScopeProblem(field, new Error(`selector ${JSON.stringify(text)}: global() can only stand alone`));
  return inherited(expression, NAMESPACE_PREFIX);
}

/** A selector over service accounts as a condition on their pods. */
export function serviceAccountCondition(text: string, field: string): Expression {
  const expression = expressionAt(text, field);
  if (expression.kind === "all") return has(SERVICE_ACCOUNT_LABEL);
  return inherited(expression, SERVICE_ACCOUNT_PREFIX);
}

/** By name (one of them) and by labels; both must hold when both are stated. */
export function serviceAccounts({ names, selector }: { readonly names: readonly string[]; readonly selector: string }, field: string): Expression {
  return and(
    names.length === 0 ? and() : within("in", SERVICE_ACCOUNT_LABEL, names),
    selector === "" ? and() : serviceAccountCondition(selector, `${field}.selector`),
  );
}

export function inNamespace(namespace: string): Expression {
  return equals(NAMESPACE_LABEL, namespace);
}

/**
 * Conditions that only exclude (a != "b") would hold for what has no namespace, or one whose object is not known yet: such an expression asks for the
 * label that each one has besides.
 */
function inherited(expression: Expression, prefix: string): Expression {
  const condition = prefixLabels(expression, prefix);
  const needsLabel = [...selectorOf(condition).restrictions.values()].some((restriction) => restriction.mustBePresent === true);
  return needsLabel ? condition : and(has(prefix + NAME_LABEL), condition);
}

function mentionsGlobal(expression: Expression): boolean {
  if (expression.kind === "global") return true;
  if (expression.kind === "not") return mentionsGlobal(expression.operand);
  return "operands" in expression && expression.operands.some(mentionsGlobal);
}
