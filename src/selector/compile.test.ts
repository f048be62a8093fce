import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { assertNever } from "../model/event.ts";
import { selectorOf } from "./compile.ts";
import { ALL, and, canonicalText, compare, type Expression, equals, GLOBAL, has, not, or, within } from "./expression.ts";
import { fromLabelSelector, NAMESPACE_PREFIX } from "./from-label-selector.ts";
import { parseExpression, parseSelector } from "./parse-selector.ts";

const label = fc.constantFrom("a", "b", "in", "pcns.x/y");
const value = fc.constantFrom("", "x", "xy", "yx", 'q"q', "z");
const leaf: fc.Arbitrary<Expression> = fc.oneof(
  fc.constant(ALL),
  fc.constant(GLOBAL),
  label.map(has),
  fc.tuple(fc.constantFrom("equals", "not-equals", "contains", "starts-with", "ends-with"), label, value).map(([kind, l, v]) => compare(kind, l, v)),
  fc.tuple(fc.constantFrom("in", "not-in"), label, fc.array(value, { maxLength: 3 })).map(([kind, l, v]) => within(kind, l, v)),
);
const expression: fc.Arbitrary<Expression> = fc.letrec<{ tree: Expression }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    leaf,
    tie("tree").map(not),
    fc.array(tie("tree"), { maxLength: 3 }).map((operands) => and(...operands)),
    fc.tuple(tie("tree"), fc.array(tie("tree"), { maxLength: 2 })).map(([first, more]) => or(first, ...more)),
  ),
})).tree;
const labels = fc.dictionary(label, value, { maxKeys: 4 });

/** The language's table of operators, written down a second time. */
function holds(e: Expression, has: Readonly<Record<string, string>>): boolean {
  const found = "label" in e && Object.hasOwn(has, e.label) ? has[e.label] : undefined;
  switch (e.kind) {
    case "all":
    case "global":
      return true;
    case "has":
      return found !== undefined;
    case "not":
      return !holds(e.operand, has);
    case "and":
      return !e.operands.some((operand) => !holds(operand, has));
    case "or":
      return e.operands.some((operand) => holds(operand, has));
    case "equals":
      return found === e.value;
    case "not-equals":
      return found !== e.value;
    case "contains":
      return found !== undefined && found.indexOf(e.value) >= 0;
    case "starts-with":
      return found !== undefined && found.slice(0, e.value.length) === e.value;
    case "ends-with":
      return found !== undefined && (e.value === "" || found.slice(-e.value.length) === e.value);
    case "in":
      return found !== undefined && e.values.indexOf(found) >= 0;
    case "not-in":
      return found === undefined || e.values.indexOf(found) < 0;
    default:
      return assertNever(e);
  }
}

const lookupIn = (has: Readonly<Record<string, string>>) => (key: string) => (Object.hasOwn(has, key) ? has[key] : undefined);

describe("selectorOf", () => {
  it("matches as the table of operators says", () => {
    fc.assert(
      fc.property(expression, labels, (e, has) => {
        expect(selectorOf(e).matches(lookupIn(has))).toBe(holds(e, has));
      }),
      { numRuns: 1000 },
    );
  });

  it("restrictions never exclude labels that the selector matches", () => {
    fc.assert(
      fc.property(expression, labels, (e, has) => {
        const selector = selectorOf(e);
        fc.pre(selector.matches(lookupIn(has)));
        for (const [name, restriction] of selector.restrictions) {
          const found = lookupIn(has)(name);
          if (restriction.mustBePresent !== undefined) expect(found !== undefined).toBe(restriction.mustBePresent);
          if (restriction.values !== undefined) expect(restriction.values).toContain(found);
        }
      }),
    );
  });

  it("finds the restrictions that an index needs", () => {
    const restrictions = (text: string) => Object.fromEntries(parseSelector(text).restrictions);
    expect(restrictions("a == 'x' && has(b) && !has(c) && d != 'x'")).toEqual({
      a: { mustBePresent: true, values: ["x"] },
      b: { mustBePresent: true, values: undefined },
      c: { mustBePresent: false, values: undefined },
    });
    expect(restrictions("a == 'x' || a in {'y'}")).toEqual({ a: { mustBePresent: true, values: ["x", "y"] } });
    expect(restrictions("a == 'x' || b == 'y'")).toEqual({});
    expect(restrictions("!(a != 'x' || b not in {'y'})")).toEqual({ a: { mustBePresent: true, values: ["x"] }, b: { mustBePresent: true, values: ["y"] } });
    expect(restrictions("a in {'x','y'} && a in {'y','z'}")).toEqual({ a: { mustBePresent: true, values: ["y"] } });
    expect(restrictions("has(a) && !has(a)")).toEqual({ a: { mustBePresent: true, values: [] } });
  });

  it("the canonical text parses back to the same tree", () => {
    fc.assert(
      fc.property(expression, (e) => {
        expect(parseExpression(canonicalText(e))).toEqual(e);
      }),
    );
  });

  it("knows every label that it looks at", () => {
    expect([...parseSelector("a == 'x' || !(has(b) && c not in {})").labels].sort()).toEqual(["a", "b", "c"]);
  });
});

describe("constructors", () => {
  it("refuse what the language cannot say", () => {
    expect(() => equals("a b", "x")).toThrow(RangeError);
    expect(() => equals("", "x")).toThrow(RangeError);
    expect(() => equals("a", `'"`)).toThrow(RangeError);
  });
});

describe("fromLabelSelector", () => {
  const text = (selector: Parameters<typeof fromLabelSelector>[0], prefix?: string) =>
    canonicalText(fromLabelSelector(selector, prefix === undefined ? {} : { prefix }));

  it("empty is all()", () => {
    expect(text({ matchLabels: {}, matchExpressions: [] })).toBe("all()");
  });

  it("converts every operator, and prefixes every label", () => {
    const selector = {
      matchLabels: { tier: "web", app: "shop" },
      matchExpressions: [
        { key: "a", operator: "In", values: ["y", "x"] },
        { key: "b", operator: "NotIn", values: ["z"] },
        { key: "c", operator: "Exists", values: [] },
        { key: "d", operator: "DoesNotExist", values: [] },
      ],
    } as const;
    expect(text(selector)).toBe('app == "shop" && tier == "web" && a in {"x", "y"} && b not in {"z"} && has(c) && !has(d)');
    expect(text(selector, NAMESPACE_PREFIX)).toBe(
      'pcns.app == "shop" && pcns.tier == "web" && pcns.a in {"x", "y"} && pcns.b not in {"z"} && has(pcns.c) && !has(pcns.d)',
    );
  });
});
