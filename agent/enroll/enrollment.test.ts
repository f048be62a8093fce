/** The node's certificate over its life, with an issuer that the test plays and a clock that it moves. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { parseCertificateRequest } from "../../src/runtime/certificate-request.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { createCertificateAuthority } from "../../src/runtime/tls.ts";
import { readCertificateFile, writeCertificateFile } from "./certificate-file.ts";
import { Enrollment } from "./enrollment.ts";
import type { EnrollAnswer, EnrollCall } from "./est-client.ts";

const DAY_MS = 86_400_000;
const authority = await createCertificateAuthority();
const other = await createCertificateAuthority();

let directory = "";
let clock = new ManualClock();
const paths = () => ({ file: join(directory, "tls", "node.pem"), authorityFile: join(directory, "ca.crt"), tokenFile: join(directory, "token") });

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sedge-enroll-"));
  clock = new ManualClock();
  await writeFile(paths().authorityFile, authority.cert);
  await writeFile(paths().tokenFile, "token-1\n");
});
afterEach(() => rm(directory, { recursive: true, force: true }));

async function issued(
  call: EnrollCall,
  options: { readonly node?: string; readonly by?: typeof authority; readonly days?: number } = {},
): Promise<EnrollAnswer> {
  const { publicKey } = await parseCertificateRequest(call.request);
  const node = options.node ?? "n1";
  const certificates = await (options.by ?? authority).certify(publicKey, {
    commonName: node,
    uris: [`spiffe://sedge/node/${node}`],
    notBefore: new Date(clock.wallTime()),
    validForMs: (options.days ?? 30) * DAY_MS,
  });
  return { kind: "issued", certificates };
}

/** Runs an enrollment against `answer`; what was asked comes in order. */
function start(answer: (call: EnrollCall, n: number) => Promise<EnrollAnswer>, servers: readonly string[] = ["a:1"]) {
  const calls: EnrollCall[] = [];
  const outcomes: string[] = [];
  const stop = new AbortController();
  const enrollment = new Enrollment({
    node: "n1",
    servers,
    ...paths(),
    clock,
    log: silentLogger(),
    onOutcome: (outcome) => outcomes.push(outcome),
    call: (call) => {
      calls.push(call);
      return answer(call, calls.length);
    },
  });
  const running = enrollment.run(stop.signal);
  return {
    calls,
    outcomes,
    enrollment,
    /** Moves time until so many outcomes are there. */
    async until(count: number, stepMs = 60_000) {
      await vi.waitFor(
        async () => {
          if (outcomes.length < count) await clock.advance(stepMs);
          expect(outcomes.length).toBeGreaterThanOrEqual(count);
        },
        { timeout: 20_000, interval: 1 },
      );
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
    },
  };
}

describe("Enrollment", () => {
  it("the first certificate for the token, the next for the certificate, after two thirds of its time", async () => {
    await using run = start((call) => issued(call));
    await run.until(1, 0);
    await run.enrollment.untilUsable(new AbortController().signal);
    expect(run.calls[0]?.credential).toEqual({ kind: "token", token: "token-1" });
    const first = await readCertificateFile(paths().file, "n1");
    const began = clock.now();
    await run.until(2, 3_600_000);
    const waitedDays = (clock.now() - began) / DAY_MS;
    expect(waitedDays).toBeGreaterThan(18);
    expect(waitedDays).toBeLessThan(22.5);
    expect(run.calls[1]?.credential).toMatchObject({ kind: "certificate", certificates: first?.certificates });
    const second = await readCertificateFile(paths().file, "n1");
    expect(second?.key).not.toBe(first?.key);
  });

  it("the wall clock is set forward while it waits → renewed within an hour, not when the wait would have been over", async () => {
    let setBy = 0;
    const wallTime = clock.wallTime.bind(clock);
    clock.wallTime = () => wallTime() + setBy;
    const askedAt: number[] = [];
    await using run = start((call) => {
      askedAt.push(clock.now());
      return issued(call);
    });
    await run.until(1, 0);
    await clock.advance(1_000);
    setBy = 25 * DAY_MS;
    const began = clock.now();
    await run.until(2);
    // Time goes on while the request is made; the wait would have been 20 days.
    expect((askedAt[1] ?? Number.POSITIVE_INFINITY) - began).toBeLessThan(DAY_MS);
  });

  it("a stored certificate is used at once, and nobody is asked", async () => {
    {
      await using run = start((call) => issued(call));
      await run.until(1, 0);
    }
    await using again = start(() => Promise.reject(new Error("nobody there")));
    await again.enrollment.untilUsable(new AbortController().signal);
    await clock.advance(DAY_MS);
    expect(again.calls).toEqual([]);
  });

  it("when the certificate is refused, the token is tried with the same request", async () => {
    await using run = start(async (call) => (call.credential.kind === "certificate" ? { kind: "refused", reason: "another authority" } : issued(call)));
    await run.until(1, 0);
    await run.until(2, 3_600_000);
    expect(run.calls.map(({ credential }) => credential.kind)).toEqual(["token", "certificate", "token"]);
    expect(run.calls[2]?.request).toBe(run.calls[1]?.request);
  });

  it("an expired certificate is not shown, and not connected with", async () => {
    {
      await using run = start((call) => issued(call, { days: 1 }));
      await run.until(1, 0);
    }
    await clock.advance(2 * DAY_MS);
    let isUsable = false;
    await using again = start(() => Promise.reject(new Error("nobody there")));
    void again.enrollment.untilUsable(new AbortController().signal).then(() => {
      isUsable = true;
    });
    await again.until(3);
    expect(new Set(again.calls.map(({ credential }) => credential.kind))).toEqual(new Set(["token"]));
    expect(isUsable).toBe(false);
  });

  it("while an approval is awaited the same request is asked for, no sooner than told", async () => {
    await using run = start(async (call, n) => (n < 3 ? { kind: "pending", retryAfterMs: 30_000 } : issued(call)));
    await run.until(1, 0);
    await clock.advance(29_000);
    expect(run.calls).toHaveLength(1);
    await run.until(3);
    expect(new Set(run.calls.map(({ request }) => request)).size).toBe(1);
    expect(run.outcomes).toEqual(["pending", "pending", "issued"]);
  });

  it("an issuer that does not answer is followed by the next", async () => {
    await using run = start((call) => (call.server === "a:1" ? Promise.reject(new Error("refused")) : issued(call)), ["a:1", "b:1"]);
    await run.until(2);
    expect(run.calls.map(({ server }) => server)).toEqual(["a:1", "b:1"]);
    expect(run.outcomes).toEqual(["failed", "issued"]);
  });

  it.each([
    ["of another node", { node: "n2" }],
    ["of another authority", { by: other }],
  ] as const)("a certificate %s is not taken: what is stored stays", async (_what, options) => {
    await using run = start((call, n) => issued(call, n === 1 ? {} : options));
    await run.until(1, 0);
    const before = await readFile(paths().file, "utf8");
    await run.until(3, 3_600_000);
    expect(run.outcomes.slice(1)).toContain("failed");
    expect(await readFile(paths().file, "utf8")).toBe(before);
  });

  it("the token is read anew each time: the kubelet replaces it", async () => {
    await using run = start((call, n) => (n === 1 ? Promise.resolve({ kind: "refused", reason: "expired" }) : issued(call)));
    await run.until(1, 0);
    await writeFile(paths().tokenFile, "token-2");
    await run.until(2);
    expect(run.calls.map(({ credential }) => credential.kind === "token" && credential.token)).toEqual(["token-1", "token-2"]);
  });

  it("a stored file that is damaged is asked for anew", async () => {
    {
      await using run = start((call) => issued(call));
      await run.until(1, 0);
    }
    const stored = await readCertificateFile(paths().file, "n1");
    const foreign = await other.issue({ commonName: "n1", uris: ["spiffe://sedge/node/n1"] });
    if (stored === undefined) throw new Error("not stored");
    await writeCertificateFile(paths().file, { ...stored, key: foreign.key });
    await using again = start((call) => issued(call));
    await again.until(1, 0);
    expect(again.calls[0]?.credential.kind).toBe("token");
    expect((await readCertificateFile(paths().file, "n1"))?.key).not.toBe(foreign.key);
  });
});
