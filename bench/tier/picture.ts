/** The results of a tier as a picture: what reached the agents beside what Typha would have sent, and how long anything took. */
import { drawPanel, type Panel, page, text } from "../fanout/svg.ts";
import type { TierResult } from "./result.ts";

const OURS = "#1f6f8b";
const TYPHA = "#b05a4a";
const PANEL_GAP = 34;

export function tierPicture(results: readonly TierResult[]): string {
  const [first] = results;
  const parts = [text({ x: 20, y: 30, size: 17, weight: "bold", value: `sedge bench tier: ${first?.agents ?? 0} agents, by ${first?.delivery ?? ""}` })];
  const where = first?.machine;
  parts.push(
    text({
      x: 20,
      y: 50,
      size: 11,
      color: "#555",
      value: `${where?.cpu ?? ""}, ${where?.cores ?? 0} cores, Node ${where?.node ?? ""}, commit ${first?.commit ?? ""}; load ${where?.loadAverage ?? 0}; red: Typha by its own rules (computed)`,
    }),
  );
  let y = 84;
  for (const panel of panelsOf(results)) {
    const drawn = drawPanel(panel, y);
    parts.push(drawn.svg);
    y = drawn.end + PANEL_GAP;
  }
  for (const { scenario, what, aims, failures } of results) {
    parts.push(text({ x: 20, y, size: 12, weight: "bold", value: `${scenario}: ${what}` }));
    y += 16;
    for (const line of [...aims.map((one) => `${one.isMet ? "met" : "missed"}: ${one.what} ${one.value}, aim below ${one.limit}`), ...failures]) {
      parts.push(text({ x: 40, y, size: 11, value: line }));
      y += 15;
    }
    y += 10;
  }
  return page(parts, y);
}

function panelsOf(results: readonly TierResult[]): Panel[] {
  return [
    {
      title: "Sent to agents, MB",
      groups: results.map(({ scenario, bytesReceived, typha }) => ({
        name: scenario,
        bars: [
          { color: OURS, value: bytesReceived / 1e6 },
          { color: TYPHA, value: typha.bytes / 1e6 },
        ],
      })),
    },
    {
      title: "Until all were level, the slowest step, seconds",
      groups: results.map(({ scenario, levelAfterMs }) => ({ name: scenario, bars: [{ color: OURS, value: Math.max(...levelAfterMs) / 1_000 }] })),
    },
    {
      title: "Longest time of one agent without a server, milliseconds",
      groups: results.flatMap(({ scenario, outageMs }) => (outageMs === undefined ? [] : [{ name: scenario, bars: [{ color: OURS, value: outageMs.max }] }])),
    },
  ];
}
