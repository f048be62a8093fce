import { describe, expect, it } from "vitest";
import { loadConfig } from "../src/runtime/config.ts";
import { fanoutConfigSchema, listenersOf } from "./config.ts";

const load = (...argv: string[]): ReturnType<typeof listenersOf> => listenersOf(loadConfig(fanoutConfigSchema, { argv, env: {}, program: "fanout" }).config);
const TLS = ["--tls-cert", "c", "--tls-key", "k", "--tls-ca", "a"];
const tls = { cert: "c", key: "k", ca: "a" };

describe("fanout settings", () => {
  it.each([
    [TLS, [{ host: "0.0.0.0", port: 5473, tls }]],
    [
      ["--listen", "[::]:1", ...TLS, "--insecure-listen", "127.0.0.1:2"],
      [
        { host: "::", port: 1, tls },
        { host: "127.0.0.1", port: 2, tls: undefined },
      ],
    ],
    [["--listen", "unix:/run/x.sock", ...TLS], [{ host: "unix:/run/x.sock", port: 0, tls }]],
    [["--insecure-listen", "[::1]:0"], [{ host: "::1", port: 0, tls: undefined }]],
  ])("%j", (argv, listeners) => {
    expect(load(...argv)).toEqual({ listeners, problems: [] });
  });

  it.each([
    [[], "no listener"],
    [["--tls-cert", "c"], "all three"],
    [["--insecure-listen", "0.0.0.0:5473"], "no loopback address"],
    [["--insecure-listen", "10.0.0.1:5473", ...TLS], "no loopback address"],
  ])("%j → %s", (argv, problem) => {
    expect(load(...argv).problems.join()).toContain(problem);
  });

  it.each([
    ["--listen", "0.0.0.0:65536"],
    ["--insecure-listen", "127.0.0.1:99999"],
    ["--metrics-listen", "[::1]:70000"],
    ["--peer", "10.0.0.2:99999"],
  ])("%s %s → no such port", (flag, address) => {
    expect(() => load(flag, address)).toThrow(`${flag}: the port must be 65535 or lower`);
  });

  it("every setting says what it is", () => {
    for (const [key, type] of Object.entries(fanoutConfigSchema.shape)) expect(type.description, key).toBeTruthy();
  });
});
