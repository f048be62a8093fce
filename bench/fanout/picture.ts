/** The results as a picture: CPU per delivery and p99 of each scenario beside the baselines. */
import type { ScenarioResult } from "./result.ts";
import { type Bar, drawPanel, LEFT, type Panel, page, rect, text } from "./svg.ts";

type Series = "sedge" | "node-sockets" | "c-write-loop";

const COLORS: Readonly<Record<Series, string>> = { sedge: "#1f6f8b", "node-sockets": "#d9a441", "c-write-loop": "#8a8a8a" };
const LABELS: Readonly<Record<Series, string>> = { sedge: "sedge fanout", "node-sockets": "bare sockets, Node", "c-write-loop": "write() loop, C" };
const PANEL_GAP = 34;

export function picture(results: readonly ScenarioResult[]): string {
  const first = results[0];
  const parts: string[] = [];
  let y = 30;
  parts.push(
    text({
      x: 20,
      y,
      size: 17,
      weight: "bold",
      value: `sedge bench fanout: ${first?.cluster.agents ?? 0} agents, ${first?.cluster.records ?? 0} records, by ${first?.delivery ?? ""}${first?.isTls === true ? ", mutual TLS" : ""}`,
    }),
  );
  y += 20;
  parts.push(
    text({
      x: 20,
      y,
      size: 11,
      color: "#555",
      value: `${first?.machine.cpu ?? ""}, ${first?.machine.cores ?? 0} cores, Node ${first?.machine.node ?? ""}, commit ${first?.commit ?? ""}, seed ${first?.cluster.seed ?? 0}; load ${first?.machine.loadAverage ?? 0}; both ends on one machine: read the ratios`,
    }),
  );
  y += 24;
  for (const [i, series] of (["sedge", "node-sockets", "c-write-loop"] as const).entries()) {
    parts.push(
      rect({ x: 20 + i * 180, y: y - 10, width: 12, height: 12, color: COLORS[series] }),
      text({ x: 37 + i * 180, y, size: 12, value: LABELS[series] }),
    );
  }
  y += PANEL_GAP;
  for (const panel of panelsOf(results)) {
    const drawn = drawPanel(panel, y);
    parts.push(drawn.svg);
    y = drawn.end + PANEL_GAP;
  }
  for (const { title, facts } of notesOf(results)) {
    parts.push(text({ x: 20, y, size: 12, weight: "bold", value: title }), text({ x: LEFT, y: y + 15, size: 11, value: facts }));
    y += 36;
  }
  return page(parts, y);
}

function panelsOf(results: readonly ScenarioResult[]): Panel[] {
  const loads = results.filter(({ load }) => load !== undefined);
  const panel = (
    title: string,
    own: (result: ScenarioResult) => number | undefined,
    other: (baseline: { cpuUsPerDelivery: number; receiptMs: { p99: number } }) => number,
  ): Panel => ({
    title,
    groups: loads.map((result) => {
      const bars: Bar[] = [{ color: COLORS.sedge, value: own(result) ?? 0 }];
      for (const series of ["node-sockets", "c-write-loop"] as const) {
        const baseline = result.baselines[series];
        if (baseline !== undefined && !("skipped" in baseline)) bars.push({ color: COLORS[series], value: other(baseline) });
      }
      return { name: result.scenario, bars };
    }),
  });
  return [
    panel(
      "Server CPU per delivery, microseconds",
      ({ cpuUsPerDelivery }) => cpuUsPerDelivery,
      ({ cpuUsPerDelivery }) => cpuUsPerDelivery,
    ),
    panel(
      "99th percentile from commit to receipt, milliseconds (the server's includes its flush window of at least 10 ms)",
      ({ commitToReceiptMs }) => commitToReceiptMs?.p99,
      ({ receiptMs }) => receiptMs.p99,
    ),
  ];
}

/** Two lines a scenario: what it is, and what a bar does not show. */
function notesOf(results: readonly ScenarioResult[]): { readonly title: string; readonly facts: string }[] {
  return results.map(({ scenario, what, coreShare, load, deliveries, memory, perAgent, seconds, levelAfterMs, failures }) => {
    const facts = [`${seconds.toFixed(1)} s, ${(coreShare * 100).toFixed(1)} % of a core`];
    if (load !== undefined && deliveries !== undefined)
      facts.push(
        `${load.changes} changes, ${deliveries.messages} deliveries (${deliveries.perChange} a change)`,
        `all level ${Math.round(levelAfterMs ?? 0)} ms after the last`,
      );
    if (memory?.kbPerClient !== undefined) facts.push(`${memory.kbPerClient.toFixed(0)} KB of memory a client`);
    if (memory !== undefined) facts.push(`at most ${memory.peakRssMb.toFixed(0)} MB`);
    if (perAgent !== undefined && scenario !== "idle")
      facts.push(`${perAgent.cpuUs.toFixed(0)} us of CPU, ${perAgent.bytesReceived} bytes down and ${perAgent.bytesSent} up an agent`);
    if (failures.length > 0) facts.push(`FAILED: ${failures.join("; ")}`);
    return { title: `${scenario}: ${what}`, facts: facts.join("; ") };
  });
}
