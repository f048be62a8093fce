import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { rankServers } from "../../src/wire/rendezvous.ts";
import { KnownServersFile, loadKnownServers } from "./known-servers.ts";
import { type Failure, hostOf, ServerBook } from "./server-book.ts";

const REFUSED: Failure = { retryAfterMs: 0, isLasting: false, isRefused: true };
const FAILED: Failure = { ...REFUSED, isRefused: false };
const book = (given: readonly string[], order: "spread" | "listed" = "spread"): ServerBook => new ServerBook({ node: "n1", given, order, random: () => 0.5 });
const server = (address: string, isNear = false) => ({ addresses: [address], name: address, isNear });
const addresses = (one: ServerBook): readonly string[] => one.candidates.map(({ address }) => address);
const GIVEN = ["10.0.0.1:5473", "10.0.0.2:5473", "10.0.0.3:5473"];

describe("ServerBook", () => {
  it("given servers are ranked for the node, or kept in their order", () => {
    expect(addresses(book(GIVEN))).toEqual(
      rankServers(
        "n1",
        GIVEN.map((identity) => ({ identity, isNear: false })),
      ).map(({ identity }) => identity),
    );
    expect(addresses(book(GIVEN, "listed"))).toEqual(GIVEN);
  });

  it("what a server tells comes first, near ones before others; the given ones stand behind it, each address once", () => {
    const one = book(["10.9.9.9:5473", "10.0.0.2:5473"]);
    one.tell([server("10.0.0.1:5473"), server("10.0.0.2:5473", true), { addresses: ["10.0.0.3:5473", "[fd00::3]:5473"], name: "c", isNear: false }]);
    expect(addresses(one)[0]).toBe("10.0.0.2:5473");
    expect(addresses(one).at(-1)).toBe("10.9.9.9:5473");
    expect(addresses(one).toSorted()).toEqual(["10.0.0.1:5473", "10.0.0.2:5473", "10.0.0.3:5473", "10.9.9.9:5473", "[fd00::3]:5473"]);
    one.tell([]);
    expect(addresses(one).toSorted()).toEqual(["10.0.0.2:5473", "10.9.9.9:5473"]);
  });

  it("what is no address, and too many of them, are left out", () => {
    const one = book(["10.0.0.1:5473"]);
    one.tell([
      server("unix:/etc/passwd"),
      server("x y:1"),
      server("10.0.0.2"),
      ...Array.from({ length: 300 }, (_, i) => server(`10.1.${i >> 8}.${i & 255}:5473`)),
    ]);
    expect(one.told.length).toBe(253);
    expect(addresses(one)).not.toContain("unix:/etc/passwd");
  });

  it("a name stands for its addresses; until they are known it is tried itself, and the certificate is judged by it", () => {
    const one = book(["fanout.example:5473", "10.0.0.1:5473"]);
    expect(one.names).toEqual(["fanout.example:5473"]);
    expect(addresses(one)).toContain("fanout.example:5473");
    one.resolve("fanout.example:5473", ["10.0.0.7:5473", "10.0.0.8:5473"]);
    expect(
      one.candidates
        .filter(({ given }) => given === "fanout.example:5473")
        .map(({ address }) => address)
        .toSorted(),
    ).toEqual(["10.0.0.7:5473", "10.0.0.8:5473"]);
    expect([hostOf("a.b:1"), hostOf("1.2.3.4:1"), hostOf("[::1]:1"), hostOf("unix:/x")]).toEqual(["a.b", undefined, undefined, undefined]);
  });

  it("one that failed delays only itself; there is a wait only when all have failed", () => {
    const one = book(GIVEN, "listed");
    one.failed("10.0.0.1:5473", 0, REFUSED);
    expect([one.next(0)?.address, one.waitMs(0)]).toEqual(["10.0.0.2:5473", 0]);
    one.failed("10.0.0.2:5473", 0, { ...FAILED, retryAfterMs: 5_000 });
    one.failed("10.0.0.3:5473", 0, { ...FAILED, isLasting: true });
    expect([one.next(0), one.waitMs(0)]).toEqual([undefined, 150]);
    expect(one.next(150)?.address).toBe("10.0.0.1:5473");
    expect(one.next(4_999, new Set(["10.0.0.1:5473"]))).toBeUndefined();
    expect(one.next(5_060, new Set(["10.0.0.1:5473"]))?.address).toBe("10.0.0.2:5473");
    expect(one.waitMs(6_000, new Set(["10.0.0.1:5473", "10.0.0.2:5473"]))).toBeGreaterThan(24_000);
  });

  it.each([
    ["refused: its server may be there any moment", REFUSED, 1_125],
    ["silent or failing: it is not asked so often", FAILED, 11_250],
  ])("%s", (_, failure, capMs) => {
    const one = book(["10.0.0.1:5473"]);
    for (let i = 0; i < 30; i++) one.failed("10.0.0.1:5473", 0, failure);
    expect(one.waitMs(0)).toBe(capMs);
    one.worked("10.0.0.1:5473");
    expect(one.waitMs(0)).toBe(0);
  });

  it("better: the first choice, when it has been healthy for a while", () => {
    const one = book(GIVEN, "listed");
    const at = { now: 100_000, healthyMs: 30_000 };
    expect(one.better("10.0.0.1:5473", at)).toBeUndefined();
    expect(one.better("10.0.0.2:5473", at)?.address).toBe("10.0.0.1:5473");
    one.failed("10.0.0.1:5473", 80_000, REFUSED);
    expect(one.better("10.0.0.2:5473", at)).toBeUndefined();
    expect(one.better("10.0.0.2:5473", { ...at, now: 110_001 })?.address).toBe("10.0.0.1:5473");
  });
});

describe("the list on disk", () => {
  it("is what was saved last, however often; a damaged file is none; what cannot be written is told", async () => {
    const directory = await mkdtemp(join(tmpdir(), "sedge-servers-"));
    onTestFinished(() => rm(directory, { recursive: true }));
    const problems: unknown[] = [];
    expect(await loadKnownServers(directory)).toEqual({ servers: [] });
    const file = new KnownServersFile({ directory, onProblem: (error) => problems.push(error) });
    await Promise.all(GIVEN.map((address) => file.save([server(address)])));
    expect(await loadKnownServers(directory)).toEqual({ servers: [server("10.0.0.3:5473")] });
    expect(await readdir(directory)).toEqual(["servers.json"]);
    await writeFile(join(directory, "servers.json"), '{"servers":[{"addresses":[]}]}');
    expect(await loadKnownServers(directory)).toMatchObject({ servers: [], problem: expect.stringContaining("addresses") });
    const lost = new KnownServersFile({ directory: join(directory, "none"), onProblem: (error) => problems.push(error) });
    await lost.save([server("10.0.0.1:5473")]);
    expect(problems).toMatchObject([{ code: "ENOENT" }]);
  });
});
