/**
 * Kubernetes' LabelSelector as an expression. Both languages agree on missing labels (NotIn and DoesNotExist hold), so the conversion is literal.
 */
import type { LabelRequirement, LabelSelector } from "../model/resource.ts";
import { and, type Expression, equals, has, not, prefixLabels, within } from "./expression.ts";

/** Prefix of a namespace's labels on its endpoints. */
export const NAMESPACE_PREFIX = "pcns.";
/** Prefix of a service account's labels on its endpoints. */
export const SERVICE_ACCOUNT_PREFIX = "pcsa.";

/**
 * matchLabels (sorted by key) and matchExpressions (as written), all of which must hold; an empty selector is all().
 * `prefix` is put before every label (NAMESPACE_PREFIX for a namespaceSelector). Throws RangeError for labels that no object can have.
 */
export function fromLabelSelector(selector: LabelSelector, options: { readonly prefix?: string } = {}): Expression {
  const { matchLabels, matchExpressions } = selector;
  const labels = Object.keys(matchLabels);
  if (labels.length > 1) labels.sort();
  const conditions = labels.map((label) => equals(label, matchLabels[label] ?? ""));
  const expression = matchExpressions.length === 0 ? and(...conditions) : and(...conditions, ...matchExpressions.map(fromRequirement));
  return options.prefix === undefined ? expression : prefixLabels(expression, options.prefix);
}

function fromRequirement(requirement: LabelRequirement): Expression {
  switch (requirement.operator) {
    case "In":
      return within("in", requirement.key, requirement.values);
    case "NotIn":
      return within("not-in", requirement.key, requirement.values);
    case "Exists":
      return has(requirement.key);
    case "DoesNotExist":
      return not(has(requirement.key));
  }
}
