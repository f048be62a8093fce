/**
 * Label selectors of list and watch requests: equality ("a=b", "a==b", "a!=b") and set-based ("a in (b,c)", "a notin (b)", "a", "!a"),
 * with Kubernetes' grammar and meaning (k8s.io/apimachinery/pkg/labels): "!=" and "notin" hold when the label is missing.
 */

import { labelKeyProblems, labelValueProblems } from "./names.ts";
import { badRequest } from "./status.ts";

export type Labels = Readonly<Record<string, string>>;

export interface LabelRequirement {
  readonly key: string;
  readonly operator: "in" | "notin" | "exists" | "!" | "gt" | "lt";
  readonly values: readonly string[];
}

const TOKEN = /\s*(!=|==|=|!|,|\(|\)|>|<|[^\s!=,()<>]+)\s*/y;

function tokensOf(text: string): string[] {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const match = TOKEN.exec(text);
    if (match?.[1] === undefined) break;
    tokens.push(match[1]);
  }
  return tokens;
}

function isWord(token: string | undefined): token is string {
  return token !== undefined && !/^(!=|==|=|!|,|\(|\)|>|<)$/.test(token);
}

/** Reads a selector. Throws a 400 that says where it is wrong. The empty selector has no requirements and matches everything. */
export function parseLabelSelector(text: string): readonly LabelRequirement[] {
  const tokens = tokensOf(text);
  let at = 0;
  const fail = (why: string): never => {
    throw badRequest(`unable to parse requirement: ${why} in labelSelector "${text}"`);
  };
  const requirements: LabelRequirement[] = [];

  function valueList(): string[] {
    if (tokens[at] !== "(") fail(`found '${tokens[at] ?? ""}', expected: '('`);
    at++;
    const values: string[] = [];
    let wantsValue = true;
    for (;;) {
      const token = tokens[at++];
      if (token === ")") {
        if (wantsValue) values.push("");
        return [...new Set(values)];
      }
      if (token === ",") {
        if (wantsValue) values.push("");
        wantsValue = true;
      } else if (isWord(token) && wantsValue) {
        values.push(token);
        wantsValue = false;
      } else fail(`found '${token ?? ""}', expected: ',', ')' or identifier`);
    }
  }
  function singleValue(): string {
    const token = tokens[at];
    if (!isWord(token)) return "";
    at++;
    return token;
  }
  function requirement(): LabelRequirement {
    const isNegated = tokens[at] === "!";
    if (isNegated) at++;
    const key = tokens[at++];
    if (!isWord(key)) return fail(`found '${key ?? ""}', expected: identifier`);
    const keyProblem = labelKeyProblems(key)[0];
    if (keyProblem !== undefined) fail(`<nil>: Invalid value: "${key}": ${keyProblem}`);
    if (isNegated) return { key, operator: "!", values: [] };
    const operator = tokens[at];
    if (operator === undefined || operator === ",") return { key, operator: "exists", values: [] };
    at++;
    switch (operator) {
      case "=":
      case "==":
        return { key, operator: "in", values: [singleValue()] };
      case "!=":
        return { key, operator: "notin", values: [singleValue()] };
      case ">":
      case "<": {
        const value = singleValue();
        if (!/^-?\d+$/.test(value)) fail(`values[0][${key}]: Invalid value: "${value}": for 'Gt', 'Lt' operators, the value must be an integer`);
        return { key, operator: operator === ">" ? "gt" : "lt", values: [value] };
      }
      case "in":
      case "notin":
        return { key, operator, values: valueList() };
      default:
        return fail(`found '${operator}', expected: in, notin, =, ==, !=, gt, lt`);
    }
  }

  while (at < tokens.length) {
    const parsed = requirement();
    for (const value of parsed.values) {
      const problem = labelValueProblems(value)[0];
      if (problem !== undefined) fail(`values[0][${parsed.key}]: Invalid value: "${value}": ${problem}`);
    }
    requirements.push(parsed);
    if (at === tokens.length) break;
    if (tokens[at] !== ",") fail(`found '${tokens[at] ?? ""}', expected: ',' or 'end of string'`);
    at++;
    if (at === tokens.length) fail("found '', expected: identifier after ','");
  }
  return requirements;
}

export function matchesLabels(requirements: readonly LabelRequirement[], labels: Labels): boolean {
  return requirements.every(({ key, operator, values }) => {
    const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
    switch (operator) {
      case "exists":
        return value !== undefined;
      case "!":
        return value === undefined;
      case "in":
        return value !== undefined && values.includes(value);
      case "notin":
        return value === undefined || !values.includes(value);
      case "gt":
        return value !== undefined && /^-?\d+$/.test(value) && BigInt(value) > BigInt(values[0] ?? "0");
      case "lt":
        return value !== undefined && /^-?\d+$/.test(value) && BigInt(value) < BigInt(values[0] ?? "0");
      default:
        return operator satisfies never;
    }
  });
}
