/** All pairs of pods, TCP and UDP, and the table of what got through. */
import type { RunningPod } from "./pods.ts";

export interface Probe {
  readonly from: string;
  readonly to: string;
  readonly protocol: "tcp" | "udp";
  readonly port: number;
}

export interface ProbeOutcome extends Probe {
  readonly isAllowed: boolean;
  /** Set when the network answered with a refusal: policy is silent, so this is never expected. */
  readonly error: string | undefined;
}

export function podName(pod: { readonly namespace: string; readonly name: string }): string {
  return `${pod.namespace}/${pod.name}`;
}

/** Every ordered pair of different pods, on each port, over TCP and UDP. */
export function allProbes(pods: readonly RunningPod[]): Probe[] {
  const probes: Probe[] = [];
  for (const from of pods)
    for (const to of pods)
      if (from !== to)
        for (const { port } of to.pod.ports)
          for (const protocol of ["tcp", "udp"] as const) probes.push({ from: podName(from.pod), to: podName(to.pod), protocol, port });
  return probes;
}

/** Sends all of them, each pod at its own pace; silence for `timeoutMs` is a denial. */
export async function runProbes(pods: readonly RunningPod[], probes: readonly Probe[], timeoutMs: number): Promise<ProbeOutcome[]> {
  const byName = new Map(pods.map((pod) => [podName(pod.pod), pod]));
  return Promise.all(
    probes.map(async (probe) => {
      const from = byName.get(probe.from);
      const to = byName.get(probe.to);
      const address = to?.addresses[0];
      if (from === undefined || address === undefined) throw new Error(`no pod ${probe.from} or no address of ${probe.to}`);
      const { answer, error } = await from.probe({ protocol: probe.protocol, address, port: probe.port, timeoutMs });
      return { ...probe, isAllowed: answer === probe.to, error: answer !== null && answer !== probe.to ? `answered by ${answer}` : error };
    }),
  );
}

/** Rows are sources, columns destinations; each cell has a mark for each (port, protocol): T or U passes, a dot does not. */
export function renderTable(pods: readonly RunningPod[], outcomes: readonly ProbeOutcome[]): string {
  const names = pods.map(({ pod }) => podName(pod));
  const cells = new Map<string, string>();
  for (const outcome of outcomes) {
    const key = `${outcome.from} ${outcome.to}`;
    cells.set(key, (cells.get(key) ?? "") + (outcome.isAllowed ? (outcome.protocol === "tcp" ? "T" : "U") : "."));
  }
  const width = Math.max(...names.map((name) => name.length));
  const header = `${"from \\ to".padEnd(width)}  ${names.map((name) => name.split("/")[1]?.padEnd(8).slice(0, 8)).join(" ")}\n`;
  const rows = names.map(
    (from) => `${from.padEnd(width)}  ${names.map((to) => (from === to ? "-" : (cells.get(`${from} ${to}`) ?? "?")).padEnd(8)).join(" ")}\n`,
  );
  return header + rows.join("");
}
