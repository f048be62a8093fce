import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseSelector, SelectorError } from "./parse-selector.ts";

const CANONICAL: readonly (readonly [text: string, canonical: string])[] = [
  ["", "all()"],
  [" \t", "all()"],
  ["all()", "all()"],
  ["all( )", "all()"],
  ["global()", "global()"],
  ["has(a)", "has(a)"],
  ["has( a\t)", "has(a)"],
  ["a=='b'", 'a == "b"'],
  ["a == 'say \"x\"'", "a == 'say \"x\"'"],
  ["a == ''", 'a == ""'],
  ['a!="b"', 'a != "b"'],
  ["a contains 'b'", 'a contains "b"'],
  ["a starts with 'b'", 'a starts with "b"'],
  ["a startswith'b'", 'a starts with "b"'],
  ["a ends\t with 'b'", 'a ends with "b"'],
  ["a in {'c','b' , 'c',}", 'a in {"b", "c"}'],
  ["a in {}", "a in {}"],
  ["a notin {'x'}", 'a not in {"x"}'],
  ["a not in{'x'}", 'a not in {"x"}'],
  // Operators are words only after a label, so labels may have their names.
  ["in in {'in'}", 'in in {"in"}'],
  ["contains contains 'contains'", 'contains contains "contains"'],
  ["has == 'x' && not == 'y'", 'has == "x" && not == "y"'],
  ["projectcalico.org/name-1_x == 'y'", 'projectcalico.org/name-1_x == "y"'],
  ["!has(a)", "!has(a)"],
  ["!!has(a)", "has(a)"],
  ["! ! !has(a)", "!has(a)"],
  ["!(!has(a))", "has(a)"],
  ["!a == 'b'", '!(a == "b")'],
  ["((has(a)))", "has(a)"],
  ["has(a)&&has(b)||has(c)", "(has(a) && has(b)) || has(c)"],
  ["has(a) && (has(b) || has(c))", "has(a) && (has(b) || has(c))"],
  ["(has(a) && has(b)) && has(c)", "has(a) && has(b) && has(c)"],
  ["!(has(a) || has(b))", "!(has(a) || has(b))"],
  ["all() && has(a)", "has(a)"],
];

const ERRORS: readonly (readonly [text: string, position: number, part: string])[] = [
  ["\n", 0, "label"],
  ["a", 1, "operator"],
  ["a = 'b'", 2, "operator"],
  ["a == b", 5, "string"],
  ["a == 'b", 5, "no end"],
  ["a == 'b' has(c)", 9, "&&"],
  ["has (x)", 4, "operator"],
  ["has(x", 5, ")"],
  ["has()", 4, "label"],
  ["(has(a)", 7, ")"],
  ["has(a) &&", 9, "label"],
  ["has(a) & has(b)", 7, "&&"],
  ["a inx {'b'}", 2, "operator"],
  ["a in {'b' 'c'}", 10, "}"],
  ["a in {,}", 6, "string"],
  ["a in 'b'", 5, "{"],
  ["a ~ 'b'", 2, "operator"],
  ["é == 'b'", 0, "label"],
  [`${"x".repeat(513)} == 'b'`, 0, "512"],
  [`${"(".repeat(5000)}has(a)`, 101, "nested"],
];

describe("parseSelector", () => {
  it.each(CANONICAL)("%j is %s", (text, canonical) => {
    expect(parseSelector(text).canonical).toBe(canonical);
    expect(parseSelector(canonical).canonical).toBe(canonical);
  });

  it.each(ERRORS)("%j fails at %d", (text, position, part) => {
    let error: unknown;
    try {
      parseSelector(text);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(SelectorError);
    if (!(error instanceof SelectorError)) return;
    expect({ text: error.text, position: error.position }).toEqual({ text, position });
    expect(error.message).toContain(part);
  });

  it("two spellings of one selector have one identity, which follows from the text alone", () => {
    expect(parseSelector("a in {'y','x'}").id).toBe(parseSelector('a   in {"x","y","x"}').id);
    expect(parseSelector("has(a)").id).not.toBe(parseSelector("has(b)").id);
    // printf 's:all()' | openssl dgst -sha224 -binary | basenc --base64url
    expect(parseSelector("").id).toBe("s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug");
  });

  it("any text is a selector or a SelectorError that points into it", () => {
    const word = fc.constantFrom(
      "a",
      "in",
      "not",
      "has(",
      "all()",
      "(",
      ")",
      "!",
      "&&",
      "||",
      "==",
      "!=",
      "{",
      "}",
      ",",
      "'x'",
      '"',
      "'",
      " ",
      "starts with",
      "contains",
      "\n",
      "é",
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 12 }), (words) => {
        const text = words.join("");
        try {
          const { canonical } = parseSelector(text);
          expect(parseSelector(canonical).canonical).toBe(canonical);
        } catch (error) {
          expect(error).toBeInstanceOf(SelectorError);
          if (error instanceof SelectorError) expect(error.position).toBeLessThanOrEqual(text.length);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
