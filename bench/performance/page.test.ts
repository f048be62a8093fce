import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { ScenarioResult } from "../fanout/result.ts";
import { fixed, thousands } from "./blocks.ts";
import { type Line, readBaselines } from "./lines.ts";
import { measuresOf, needOf } from "./needs.ts";
import { rendered } from "./page.ts";

const PAGE = readFileSync(join(import.meta.dirname, "../../docs/performance.md"), "utf8");

/** As much of a result as the arithmetic reads. */
function line(scenario: string, fields: Partial<ScenarioResult>): Line {
  const cluster = { agents: 5_000, nodes: 5_000, podsPerNode: 10, policies: 200, seed: 1, pods: 50_000, records: 55_000 };
  return {
    bench: "fanout",
    scenario,
    what: "",
    commit: "",
    delivery: "http2",
    acks: "paced",
    isTls: false,
    machine: { node: "", cpu: "", cores: 2, loadAverage: 0 },
    cluster,
    warmUpChanges: 0,
    seconds: 10,
    coreShare: 0,
    baselines: {},
    failures: [],
    ...fields,
  };
}

const LINES: readonly Line[] = [
  line("idle", { coreShare: 0.02, memory: { rssMb: 500, peakRssMb: 500, kbPerClient: 20 } }),
  line("churn", {
    coreShare: 0.12,
    load: { changes: 1_000, ratePerSecond: 100, commits: 1_000 },
    bytes: { perDelivery: 180, total: 1, wireReceived: 1, wireSent: 1 },
  }),
  line("broadcast", { cpuUsPerDelivery: 10, bytes: { perDelivery: 100, total: 1, wireReceived: 1, wireSent: 1 } }),
  line("start", { perAgent: { cpuUs: 1_000, bytesReceived: 100_000, bytesSent: 300 } }),
  line("reconnect", { perAgent: { cpuUs: 200, bytesReceived: 250, bytesSent: 2_300 } }),
];

describe("the page", () => {
  it("has the figures of the kept results (sedge bench page writes them)", () => {
    expect(rendered(PAGE, readBaselines)).toBe(PAGE);
  });

  it("names a command for each file of results", () => {
    const names = [...PAGE.matchAll(/<!-- figures: ([a-z0-9-]+) -->/g)].map(([, name]) => name ?? "");
    expect(names.length).toBeGreaterThan(5);
    for (const name of names.filter((one) => !one.startsWith("needs-"))) {
      const section = PAGE.slice(0, PAGE.indexOf(`<!-- figures: ${name} -->`));
      expect(section.slice(section.lastIndexOf("\n### ")), name).toContain("npx sedge bench ");
    }
  });

  it("what was not measured is said to be so", () => {
    const page = "<!-- figures: fanout-7 -->\nold\n<!-- end -->\n<!-- figures: needs-fanout-7 -->\n<!-- end -->";
    const text = rendered(page, () => []);
    expect(text).not.toContain("old");
    expect(text.match(/Not measured yet/g)).toHaveLength(2);
    expect(rendered(text, () => [])).toBe(text);
  });
});

describe("what a cluster needs", () => {
  const measures = measuresOf(LINES);

  it("is made of the five scenarios, and of nothing when one is missing", () => {
    expect(measures).toMatchObject({ idleUsPerClient: 4, kbPerClient: 20, mbWithoutClients: 400, churnUsPerChange: 1_000, reconnectBytes: 2_550 });
    for (const missing of LINES) expect(measuresOf(LINES.filter((one) => one !== missing))).toBeUndefined();
  });

  it("grows with the cluster, and one server may always be away", () => {
    if (measures === undefined) throw new Error("no measures");
    const needs = [1_000, 5_000, 20_000].map((nodes) => needOf(measures, nodes));
    expect(needs.map(({ servers }) => servers)).toEqual([2, 2, expect.any(Number)]);
    for (const [i, need] of needs.entries()) {
      expect(need.servers * need.agentsPerServer).toBeGreaterThanOrEqual(need.nodes);
      if (i > 0) expect(need.mb).toBeGreaterThan(needs[i - 1]?.mb ?? 0);
    }
    // 5,000 idle clients of 4 us, 100 pod events of 1 ms, and 5,000 deliveries of 10 us for 1.4 changes a second.
    expect(needs[1]?.coreShare).toBeCloseTo(0.02 + 0.1 + (5_000 / 3_600) * 5_000 * 1e-5, 3);
  });
});

it("figures have three digits", () => {
  expect([0.123_4, 1.26, 12.6, 123.4, 12_345.6].map(fixed)).toEqual(["0.12", "1.3", "13", "123", "12,346"]);
  expect(thousands(1_234_567)).toBe("1,234,567");
  expect(fixed(undefined)).toBe("–");
});
