import { describe, expect, it } from "vitest";
import { loadConfig } from "../src/runtime/config.ts";
import { type AgentConfig, agentConfigSchema } from "./config.ts";

const load = (...argv: string[]): AgentConfig => loadConfig(agentConfigSchema, { argv, env: {}, program: "agent" }).config;

describe("agent settings", () => {
  it("nothing given: what is needed, with its meaning", () => {
    expect(() => load()).toThrow(/--node-name is required: Name of the Node object.*\n.*--server is required: Fan-out server as HOST:PORT/);
  });

  it.each(["10.0.0.1:5473", "[fd00::1]:65535", "unix:/run/x.sock", "unix:/run/x:99999"])("--server %s", (server) => {
    expect(load("--node-name", "n1", "--server", server).server).toEqual([server]);
  });

  it.each([
    ["nope:99999", "the port must be 65535 or lower"],
    ["[fd00::1]:65536", "the port must be 65535 or lower"],
    ["nope", "want HOST:PORT"],
  ])("--server %s → %s", (server, problem) => {
    expect(() => load("--node-name", "n1", "--server", server)).toThrow(`--server: ${problem}`);
  });
});
