/**
 * Parser of the selector language of projectcalico.org/v3.
 *
 * Words are operators only directly after a label, and `has(`, `all(`, `global(` only with the parenthesis touching, so a label may have any of
 * these names. White space is space and tab. Strings have no escapes: they end at the next quote of the same kind.
 * A scanner over the text with one position: the grammar looks ahead by one token only, a separate token list would have to know the context.
 */
import { selectorOf } from "./compile.ts";
import { ALL, and, compare, type Expression, GLOBAL, has, MAX_LABEL_LENGTH, not, or, within } from "./expression.ts";
import type { Selector } from "./selector.ts";

/** Nesting of parentheses that is still read; deeper text is an error, not a stack overflow. */
const MAX_DEPTH = 100;

/** A text that is no selector. `position` counts UTF-16 units from 0. */
export class SelectorError extends Error {
  readonly code = "SELECTOR_SYNTAX";
  readonly text: string;
  readonly position: number;

  constructor(text: string, position: number, problem: string) {
    super(`selector ${JSON.stringify(text)}, position ${position}: ${problem}`);
    this.name = "SelectorError";
    this.text = text;
    this.position = position;
  }
}

/** Parses a selector; the empty text is all(). Throws SelectorError. */
export function parseSelector(text: string): Selector {
  return selectorOf(parseExpression(text));
}

/** Parses a selector to its tree, for conversions that go on to build with it. Throws SelectorError. */
export function parseExpression(text: string): Expression {
  const scanner = new Scanner(text);
  if (scanner.isAtEnd()) return ALL;
  const expression = parseOr(scanner, 0);
  if (!scanner.isAtEnd()) scanner.fail("expected && or || or the end");
  return expression;
}

function parseOr(scanner: Scanner, depth: number): Expression {
  const first = parseAnd(scanner, depth);
  const more: Expression[] = [];
  while (scanner.take("||")) more.push(parseAnd(scanner, depth));
  return or(first, ...more);
}

function parseAnd(scanner: Scanner, depth: number): Expression {
  const operands = [parseOperation(scanner, depth)];
  while (scanner.take("&&")) operands.push(parseOperation(scanner, depth));
  return and(...operands);
}

function parseOperation(scanner: Scanner, depth: number): Expression {
  let isNegated = false;
  while (scanner.take("!")) isNegated = !isNegated;
  const primary = parsePrimary(scanner, depth);
  return isNegated ? not(primary) : primary;
}

function parsePrimary(scanner: Scanner, depth: number): Expression {
  if (scanner.take("(")) {
    if (depth >= MAX_DEPTH) scanner.fail(`more than ${MAX_DEPTH} nested parentheses`);
    const inner = parseOr(scanner, depth + 1);
    scanner.expect(")");
    return inner;
  }
  if (scanner.take("all(")) {
    scanner.expect(")");
    return ALL;
  }
  if (scanner.take("global(")) {
    scanner.expect(")");
    return GLOBAL;
  }
  if (scanner.take("has(")) {
    const label = scanner.label("a label name");
    scanner.expect(")");
    return has(label);
  }
  const label = scanner.label("a label name, has(…), all(), ( or !");
  if (scanner.take("==")) return compare("equals", label, scanner.string());
  if (scanner.take("!=")) return compare("not-equals", label, scanner.string());
  if (scanner.word(/contains/y)) return compare("contains", label, scanner.string());
  if (scanner.word(/starts[ \t]*with/y)) return compare("starts-with", label, scanner.string());
  if (scanner.word(/ends[ \t]*with/y)) return compare("ends-with", label, scanner.string());
  if (scanner.word(/not[ \t]*in/y)) return within("not-in", label, scanner.set());
  if (scanner.word(/in/y)) return within("in", label, scanner.set());
  return scanner.fail(`expected an operator after the label ${JSON.stringify(label)}: ==, !=, in, not in, contains, starts with, ends with`);
}

class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  isAtEnd(): boolean {
    this.#skipSpace();
    return this.#at >= this.#text.length;
  }

  /** Steps over the token when it comes next. */
  take(token: string): boolean {
    this.#skipSpace();
    if (!this.#text.startsWith(token, this.#at)) return false;
    this.#at += token.length;
    return true;
  }

  expect(token: string): void {
    if (!this.take(token)) this.fail(`expected ${token}`);
  }

  /** Steps over a word operator, which must not run on into an identifier. */
  word(pattern: RegExp): boolean {
    this.#skipSpace();
    const end = this.#endOf(pattern);
    if (end === undefined || this.#endOf(/[A-Za-z0-9_./-]/y, end) !== undefined) return false;
    this.#at = end;
    return true;
  }

  label(expected: string): string {
    this.#skipSpace();
    const end = this.#endOf(/[A-Za-z0-9_./-]+/y) ?? this.fail(`expected ${expected}`);
    if (end - this.#at > MAX_LABEL_LENGTH) this.fail(`a label name has at most ${MAX_LABEL_LENGTH} characters`);
    const label = this.#text.slice(this.#at, end);
    this.#at = end;
    return label;
  }

  string(): string {
    this.#skipSpace();
    const quote = this.#text.charAt(this.#at);
    if (quote !== '"' && quote !== "'") this.fail("expected a string in quotes");
    const end = this.#text.indexOf(quote, this.#at + 1);
    if (end < 0) this.fail("this string has no end");
    const value = this.#text.slice(this.#at + 1, end);
    this.#at = end + 1;
    return value;
  }

  /** `{ "a", "b" }`, a trailing comma allowed. */
  set(): string[] {
    this.expect("{");
    const values: string[] = [];
    while (!this.take("}")) {
      values.push(this.string());
      if (this.take(",")) continue;
      this.expect("}");
      break;
    }
    return values;
  }

  fail(problem: string): never {
    const found = this.#at >= this.#text.length ? "the end" : JSON.stringify(this.#text.slice(this.#at, this.#at + 12));
    throw new SelectorError(this.#text, this.#at, `${problem}, found ${found}`);
  }

  #skipSpace(): void {
    while (this.#text[this.#at] === " " || this.#text[this.#at] === "\t") this.#at++;
  }

  #endOf(pattern: RegExp, from = this.#at): number | undefined {
    pattern.lastIndex = from;
    return pattern.test(this.#text) ? pattern.lastIndex : undefined;
  }
}
