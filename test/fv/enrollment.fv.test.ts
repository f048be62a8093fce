/** From a token to a view: issuer, fan-out server with mutual TLS and agent, each as it runs; over both deliveries. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Registry } from "prom-client";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { agentConfigSchema, configProblems } from "../../agent/config.ts";
import { runAgent } from "../../agent/run-agent.ts";
import type { AgentStatus } from "../../agent/status/status.ts";
import { DELIVERY_KINDS } from "../../fanout/delivery/delivery.ts";
import { issuerConfigSchema } from "../../src/issuer/config.ts";
import { Issuer } from "../../src/issuer/issuer.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { certificates, namespace, node, pool, startFanout, upsert } from "../fakes/fanout-fixture.ts";

describe.each(DELIVERY_KINDS)("an agent without a certificate, over %s", (delivery) => {
  it("waits for the issuer, gets one, and then its node's view", async () => {
    await using pki = await certificates();
    await using f = await startFanout({ delivery, events: upsert(node("n1", 1), namespace("shop"), pool()), tls: pki.tls });
    const directory = await mkdtemp(join(tmpdir(), "sedge-enrollment-"));
    onTestFinished(() => rm(directory, { recursive: true, force: true }));
    await writeFile(join(directory, "ca.key"), pki.authority.key);
    await writeFile(join(directory, "tokens"), "a-token-for-node-one n1\n");
    await writeFile(join(directory, "token"), "a-token-for-node-one\n");

    const stop = new AbortController();
    const issuer = await Issuer.create({
      config: issuerConfigSchema.parse({
        listen: "127.0.0.1:0",
        authority: "files",
        caCert: pki.tls.ca,
        caKey: join(directory, "ca.key"),
        tokenFile: join(directory, "tokens"),
        tokenReview: false,
        signRequests: false,
      }),
      client: undefined,
      clock: systemClock,
      log: silentLogger(),
      registry: new Registry(),
      signal: stop.signal,
    });
    const port = await issuer.listen();

    const config = agentConfigSchema.parse({
      nodeName: "n1",
      server: [f.secureAddress],
      tlsCa: pki.tls.ca,
      enrollServer: [`127.0.0.1:${port}`],
      enrollTokenFile: join(directory, "token"),
      dataplane: false,
      stateDir: join(directory, "state"),
      socket: join(directory, "agent.sock"),
      metricsListen: "127.0.0.1:0",
      healthListen: "127.0.0.1:0",
      logLevel: "silent",
    });
    expect(configProblems(config)).toEqual([]);
    let status: (() => AgentStatus) | undefined;
    const running = [
      issuer.run(stop.signal),
      runAgent({ config, log: silentLogger(), signal: stop.signal, onStarted: (started) => (status = started.status) }),
    ];
    onTestFinished(async () => {
      stop.abort();
      await Promise.all(running);
    });
    await vi.waitFor(() => expect(status?.().view.isComplete).toBe(true), { timeout: 20_000, interval: 10 });
  });
});
