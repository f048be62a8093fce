import { describe, expect, it } from "vitest";
import { createLogger, type Logger, setLogLevel } from "./log.ts";

function logged(level: "info" | "debug", write: (log: Logger) => void): readonly Record<string, unknown>[] {
  const lines: Record<string, unknown>[] = [];
  write(createLogger({ level, program: "test", destination: { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) } }));
  return lines;
}

const refused = Object.assign(new Error("LIST /api/v1/pods", { cause: new Error("connect ECONNREFUSED") }), { code: "CONNECTION" });

describe("errors in log lines", () => {
  it("warn: type, message with its causes and code, in children too; other facts stay", () => {
    const [line] = logged("info", (log) => log.child({ component: "source" }).warn({ err: refused, tries: 2 }, "trying again"));
    expect(line).toMatchObject({ component: "source", tries: 2, msg: "trying again" });
    expect(line?.["err"]).toEqual({ type: "Error", message: "LIST /api/v1/pods: connect ECONNREFUSED", code: "CONNECTION" });
  });

  it("warn while debug is logged, also from later on: with the stack", () => {
    const lines = logged("info", (log) => {
      const child = log.child({ component: "source" });
      setLogLevel(log, "debug");
      child.warn({ err: refused }, "trying again");
    });
    expect(lines).toMatchObject([{ err: { stack: expect.stringContaining("log.test.ts") } }]);
  });

  it("error: with the stack", () => {
    expect(logged("info", (log) => log.error({ err: refused }, "failed"))).toMatchObject([{ err: { stack: expect.stringContaining("log.test.ts") } }]);
  });

  it("warn without an error, or with words alone", () => {
    const lines = logged("info", (log) => {
      log.warn({ err: "text", file: "a" }, "odd");
      log.warn("words");
    });
    expect(lines).toMatchObject([{ err: "text", file: "a", msg: "odd" }, { msg: "words" }]);
  });
});
