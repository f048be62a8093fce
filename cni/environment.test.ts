import { describe, expect, it } from "vitest";
import { COMMANDS, parseArgs, parseEnvironment, REQUIRED } from "./environment.ts";

describe("parseEnvironment", () => {
  it("every variable that is missing or wrong is named", () => {
    for (const command of COMMANDS) {
      const missing = REQUIRED[command];
      if (missing.length > 0) expect(() => parseEnvironment({ CNI_COMMAND: command })).toThrow(new RegExp(missing.join(", ")));
      else expect(parseEnvironment({ CNI_COMMAND: command })).toMatchObject({ command, args: {} });
    }
    const wrong = { CNI_COMMAND: "ADD", CNI_CONTAINERID: "-a", CNI_NETNS: "/n", CNI_IFNAME: "a/b" };
    expect(() => parseEnvironment(wrong)).toThrow(/CNI_CONTAINERID "-a" must.*; CNI_IFNAME "a\/b" must/);
    expect(() => parseEnvironment({ CNI_COMMAND: "GET" })).toThrow('CNI_COMMAND "GET" is not known');
  });

  it.each([".", "..", "a b", "a:b", "sixteen-letters-"])("CNI_IFNAME %j is refused", (ifname) => {
    expect(() => parseEnvironment({ CNI_COMMAND: "DEL", CNI_CONTAINERID: "a", CNI_IFNAME: ifname })).toThrow("CNI_IFNAME");
  });
});

describe("parseArgs", () => {
  it.each([
    ["", {}],
    ["A=1;B=2", { A: "1", B: "2" }],
    // A value may hold what separates; a last semicolon says nothing.
    ["A=b=c;", { A: "b=c" }],
    ["A=", { A: "" }],
  ])("%j", (text, args) => {
    expect(parseArgs(text)).toEqual(args);
  });

  it.each(["A", "=b", "A=1;B"])("%j is no list of pairs", (text) => {
    expect(() => parseArgs(text)).toThrow("CNI_ARGS");
  });
});
