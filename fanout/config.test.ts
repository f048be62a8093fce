import { describe, expect, it } from "vitest";
import { loadConfig } from "../src/runtime/config.ts";
import { type FanoutConfig, fanoutConfigSchema, listenersOf, relayOf, workerProblems } from "./config.ts";

const config = (...argv: string[]): FanoutConfig => loadConfig(fanoutConfigSchema, { argv, env: {}, program: "fanout" }).config;
const load = (...argv: string[]): ReturnType<typeof listenersOf> => listenersOf(config(...argv));
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

  it.each([
    [["--upstream", "a:1,b:2", "--upstream", "unix:/run/x.sock", ...TLS], ["a:1", "b:2", "unix:/run/x.sock"], tls, false],
    [["--upstream", "127.0.0.1:1", "--upstream-plaintext", "--upstream-nodes", "all"], ["127.0.0.1:1"], undefined, true],
  ])("%j → a relay below %j", (argv, parents, certificate, isForAll) => {
    expect(relayOf(config(...argv))).toEqual({ relay: { parents, tls: certificate, isForAll }, problems: [] });
  });

  it.each([
    [["--upstream", "a:1"], "needs --tls-cert"],
    [["--upstream", "10.0.0.1:1", "--upstream-plaintext"], "no loopback address"],
    [["--upstream-plaintext"], "without --upstream"],
    [["--workers", "2", "--delivery", "grpc-js"], "needs --delivery http2"],
    [["--workers", "2", "--listen", "unix:/x", ...TLS], "cannot be shared"],
    [["--workers", "2", "--upstream", "a:1", ...TLS], "start more relays"],
  ])("%j → %s", (argv, problem) => {
    const settings = config(...argv);
    expect([...relayOf(settings).problems, ...workerProblems(settings)].join()).toContain(problem);
  });

  it("every setting says what it is", () => {
    for (const [key, type] of Object.entries(fanoutConfigSchema.shape)) expect(type.description, key).toBeTruthy();
  });
});
