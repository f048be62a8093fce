/** The results as a picture: CPU per delivery and p99 of each scenario beside the baselines. SVG text, made here: a chart library would be the largest dependency. */
import type { ScenarioResult } from "./result.ts";

interface Bar {
  readonly series: Series;
  readonly value: number;
}

interface Panel {
  readonly title: string;
  readonly groups: readonly { readonly name: string; readonly bars: readonly Bar[] }[];
}

type Series = "sedge" | "node-sockets" | "c-write-loop";

const COLORS: Readonly<Record<Series, string>> = { sedge: "#1f6f8b", "node-sockets": "#d9a441", "c-write-loop": "#8a8a8a" };
const LABELS: Readonly<Record<Series, string>> = { sedge: "sedge fanout", "node-sockets": "bare sockets, Node", "c-write-loop": "write() loop, C" };
const WIDTH = 900;
const LEFT = 110;
const BAR_WIDTH = 620;
const BAR_HEIGHT = 15;
const GROUP_GAP = 12;
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
      value: `sedge bench fanout: ${first?.cluster.agents ?? 0} agents, ${first?.cluster.records ?? 0} records, by ${first?.delivery ?? ""}`,
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
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" font-family="sans-serif">\n<rect width="100%" height="100%" fill="white"/>\n${parts.join("\n")}\n</svg>\n`;
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
      const bars: Bar[] = [{ series: "sedge", value: own(result) ?? 0 }];
      for (const series of ["node-sockets", "c-write-loop"] as const) {
        const baseline = result.baselines[series];
        if (baseline !== undefined && !("skipped" in baseline)) bars.push({ series, value: other(baseline) });
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

/** One scale a panel; the longest bar is as wide as the panel. */
function drawPanel({ title, groups }: Panel, top: number): { readonly svg: string; readonly end: number } {
  const largest = Math.max(1e-9, ...groups.flatMap(({ bars }) => bars.map(({ value }) => value)));
  const parts = [text({ x: 20, y: top, size: 14, weight: "bold", value: title })];
  let y = top + 14;
  for (const { name, bars } of groups) {
    parts.push(text({ x: LEFT - 8, y: y + (bars.length * BAR_HEIGHT) / 2 + 4, size: 12, anchor: "end", value: name }));
    for (const { series, value } of bars) {
      const width = Math.max(1, (value / largest) * BAR_WIDTH);
      parts.push(
        rect({ x: LEFT, y, width, height: BAR_HEIGHT - 2, color: COLORS[series] }),
        text({ x: LEFT + width + 6, y: y + BAR_HEIGHT - 4, size: 11, value: value < 10 ? value.toFixed(2) : value.toFixed(1) }),
      );
      y += BAR_HEIGHT;
    }
    y += GROUP_GAP;
  }
  return { svg: parts.join("\n"), end: y };
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
    if (memory !== undefined) facts.push(`${memory.kbPerClient.toFixed(0)} KB of memory a client`);
    if (perAgent !== undefined && scenario !== "idle")
      facts.push(`${perAgent.cpuUs.toFixed(0)} us of CPU, ${perAgent.bytesReceived} bytes down and ${perAgent.bytesSent} up an agent`);
    if (failures.length > 0) facts.push(`FAILED: ${failures.join("; ")}`);
    return { title: `${scenario}: ${what}`, facts: facts.join("; ") };
  });
}

function rect({
  x,
  y,
  width,
  height,
  color,
}: {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly color: string;
}): string {
  return `<rect x="${x}" y="${y}" width="${width.toFixed(1)}" height="${height}" fill="${color}"/>`;
}

function text(options: {
  readonly x: number;
  readonly y: number;
  readonly size: number;
  readonly value: string;
  readonly weight?: string;
  readonly color?: string;
  readonly anchor?: string;
}): string {
  const { x, y, size, value, weight = "normal", color = "#222", anchor = "start" } = options;
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" font-size="${size}" font-weight="${weight}" fill="${color}" text-anchor="${anchor}">${value.replaceAll("&", "&amp;").replaceAll("<", "&lt;")}</text>`;
}
