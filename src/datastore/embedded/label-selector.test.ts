import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { LabelRequirement } from "./label-selector.ts";
import { matchesLabels, parseLabelSelector } from "./label-selector.ts";

const key = fc.constantFrom<string>("app", "env", "example.com/tier", "in", "notin");
const value = fc.constantFrom<string>("web", "db", "prod", "x.y_z-1", "");

const requirement: fc.Arbitrary<{ readonly text: string; readonly meaning: (labels: Readonly<Record<string, string>>) => boolean }> = fc.oneof(
  fc
    .tuple(key, fc.constantFrom("=", "==", " = "), value)
    .map(([k, operator, v]) => ({ text: `${k}${operator}${v}`, meaning: (labels: Readonly<Record<string, string>>) => labels[k] === v })),
  fc.tuple(key, value).map(([k, v]) => ({ text: `${k}!=${v}`, meaning: (labels: Readonly<Record<string, string>>) => labels[k] !== v })),
  fc.tuple(key, fc.array(value, { minLength: 1, maxLength: 3 })).map(([k, values]) => ({
    text: `${k} in (${values.join(", ")})`,
    meaning: (labels: Readonly<Record<string, string>>) => labels[k] !== undefined && values.includes(labels[k] ?? ""),
  })),
  fc.tuple(key, fc.array(value, { minLength: 1, maxLength: 3 })).map(([k, values]) => ({
    text: `${k} notin (${values.join(",")})`,
    meaning: (labels: Readonly<Record<string, string>>) => labels[k] === undefined || !values.includes(labels[k] ?? ""),
  })),
  key.map((k) => ({ text: k, meaning: (labels: Readonly<Record<string, string>>) => labels[k] !== undefined })),
  key.map((k) => ({ text: `!${k}`, meaning: (labels: Readonly<Record<string, string>>) => labels[k] === undefined })),
);

describe("parseLabelSelector", () => {
  it("means what it says: all of its requirements, for any labels", () => {
    fc.assert(
      fc.property(fc.array(requirement, { maxLength: 3 }), fc.dictionary(key, value, { noNullPrototype: true }), (requirements, labels) => {
        const selector = parseLabelSelector(requirements.map(({ text }) => text).join(","));
        expect(matchesLabels(selector, labels)).toBe(requirements.every(({ meaning }) => meaning(labels)));
      }),
    );
  });

  it.each<[string, readonly LabelRequirement[]]>([
    [
      "a>1,b<2",
      [
        { key: "a", operator: "gt", values: ["1"] },
        { key: "b", operator: "lt", values: ["2"] },
      ],
    ],
    ["a in (,)", [{ key: "a", operator: "in", values: [""] }]],
    ["a=", [{ key: "a", operator: "in", values: [""] }]],
  ])("%s", (text, expected) => {
    expect(parseLabelSelector(text)).toEqual(expected);
  });

  it.each(["a in", "a in (b", "a b", "a=b,", ",a", "a>b", "a=b=c", "-a", "a=b c", "(a)", "!", "a in b"])("%s is refused", (text) => {
    expect(() => parseLabelSelector(text)).toThrow(/unable to parse requirement/);
  });
});
