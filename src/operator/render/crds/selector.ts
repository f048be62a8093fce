/**
 * A selector as a pattern, so that the API server refuses a text that does not parse. Parentheses are counted by a rule, where no quoted text has any: a
 * pattern cannot count. What gets by fails closed (src/policy/scope.ts).
 */
import { type Rule, rule, type Schema } from "./schema.ts";

const LABEL = "[A-Za-z0-9_./-]+";
const TEXT = `("[^"]*"|'[^']*')`;
const SPACE = "[ \\t]*";
const SET = `\\{${SPACE}(${TEXT}${SPACE}(,${SPACE}${TEXT}${SPACE})*,?${SPACE})?\\}`;
/** A label, an operator and its argument. */
const COMPARISON = `${LABEL}${SPACE}((==|!=|contains|starts${SPACE}with|ends${SPACE}with)${SPACE}${TEXT}|(in|not${SPACE}in)${SPACE}${SET})`;
const OPERAND = `(has\\(${SPACE}${LABEL}${SPACE}\\)|all\\(${SPACE}\\)|global\\(${SPACE}\\)|${COMPARISON})`;
const SELECTOR = `^${SPACE}$|^[ \\t(!]*${OPERAND}[ \\t)]*((&&|\\|\\|)[ \\t(!]*${OPERAND}[ \\t)]*)*$`;

const BALANCED = rule(
  "!self.matches('^([^\"\\']|\"[^\"()]*\"|\\'[^\\'()]*\\')*$') || self.split('(').size() == self.split(')').size()",
  "the parentheses do not match",
);

export const GLOBAL_ALONE = rule("!self.contains('global(') || self.matches('^[ \\t]*global\\\\([ \\t]*\\\\)[ \\t]*$')", "global() can only stand alone");

export function selector(description: string, rules: readonly Rule[] = []): Schema {
  return { description, type: "string", maxLength: 1024, pattern: SELECTOR, "x-kubernetes-validations": [BALANCED, ...rules] };
}
