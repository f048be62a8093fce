/** The results for people. */
import type { ScenarioResult } from "./result.ts";

type Column = readonly [title: string, of: (result: ScenarioResult, all: readonly ScenarioResult[]) => string | number | undefined];

const COLUMNS: readonly Column[] = [
  ["scenario", ({ scenario }) => scenario],
  ["s", ({ seconds }) => seconds.toFixed(1)],
  ["core", ({ coreShare }) => `${(coreShare * 100).toFixed(1)}%`],
  ["changes", ({ load }) => load?.changes],
  ["deliveries", ({ deliveries }) => deliveries?.messages],
  ["/change", ({ deliveries }) => deliveries?.perChange],
  ["us/delivery", ({ cpuUsPerDelivery }) => cpuUsPerDelivery?.toFixed(1)],
  ["above idle", (result, all) => aboveIdle(result, all)?.toFixed(1)],
  ["x node", (result) => ratioTo(result, "node-sockets", "cpuPerDelivery")],
  ["x C", (result) => ratioTo(result, "c-write-loop", "cpuPerDelivery")],
  ["B/delivery", ({ bytes }) => bytes?.perDelivery.toFixed(0)],
  ["p50 ms", ({ commitToReceiptMs }) => commitToReceiptMs?.p50.toFixed(1)],
  ["p99 ms", ({ commitToReceiptMs }) => commitToReceiptMs?.p99.toFixed(1)],
  ["x node", (result) => ratioTo(result, "node-sockets", "p99")],
  ["ack p50", ({ commitToAcknowledgedMs }) => commitToAcknowledgedMs?.p50.toFixed(1)],
  ["ack p99", ({ commitToAcknowledgedMs }) => commitToAcknowledgedMs?.p99.toFixed(1)],
  ["most/agent", ({ deliveries }) => deliveries?.mostOfOneAgent],
  ["KB/client", ({ memory }) => memory?.kbPerClient?.toFixed(0)],
  ["peak MB", ({ memory }) => memory?.peakRssMb.toFixed(0)],
  ["us/agent", ({ perAgent }) => perAgent?.cpuUs.toFixed(0)],
  ["B in/agent", ({ perAgent }) => perAgent?.bytesReceived],
  ["B out/agent", ({ perAgent }) => perAgent?.bytesSent],
  ["unchanged", ({ answers }) => answers?.unchanged],
  ["Typha MB", ({ typha }) => (typha === undefined ? undefined : (typha.bytes / 1e6).toFixed(1))],
];

/** Right-aligned columns; those that no result fills are left out. */
export function table(results: readonly ScenarioResult[]): string {
  const columns = COLUMNS.map(([title, of]) => [title, ...results.map((result) => String(of(result, results) ?? ""))]).filter((cells) =>
    cells.slice(1).some((cell) => cell !== ""),
  );
  const widths = columns.map((cells) => Math.max(...cells.map((cell) => cell.length)));
  const lines = [undefined, ...results].map((_, row) =>
    columns.map((cells, i) => (i === 0 ? (cells[row] ?? "").padEnd(widths[i] ?? 0) : (cells[row] ?? "").padStart(widths[i] ?? 0))).join("  "),
  );
  return lines.join("\n");
}

/** CPU for a delivery (us) without what the agents cost while nothing changes, which goes with the time and not with the deliveries; undefined: that was not measured. */
export function aboveIdle({ cpuUsPerDelivery, deliveries, seconds }: ScenarioResult, all: readonly ScenarioResult[]): number | undefined {
  const idle = all.find(({ scenario }) => scenario === "idle");
  if (idle === undefined || cpuUsPerDelivery === undefined || deliveries === undefined) return undefined;
  return cpuUsPerDelivery - (idle.coreShare * seconds * 1e6) / deliveries.messages;
}

/** The server's figure in multiples of the baseline's; undefined when it did not run. */
export function ratioTo({ baselines }: ScenarioResult, name: "node-sockets" | "c-write-loop", what: "cpuPerDelivery" | "p99"): string | undefined {
  const baseline = baselines[name];
  return baseline === undefined || "skipped" in baseline ? undefined : baseline.ratios[what].toFixed(2);
}
