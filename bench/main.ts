/** `sedge bench`: its first word picks the benchmark, which is loaded when asked for. */

interface Benchmark {
  readonly summary: string;
  readonly run: (argv: readonly string[]) => Promise<number>;
}

export const BENCHMARKS: Readonly<Record<string, Benchmark>> = {
  fanout: {
    summary: "the fan-out server with thousands of simulated agents, beside servers that only write",
    run: async (argv) => (await import("./fanout/main.ts")).main(argv),
  },
  tier: {
    summary: "several servers and a storm of handshakes: rolling restart, rebalancing, beside what Typha would have sent",
    run: async (argv) => (await import("./tier/main.ts")).main(argv),
  },
  stuck: {
    summary: "memory of one server while a tenth of its agents read nothing: bench stuck [--minutes 60]",
    run: async (argv) => (await import("./stuck/main.ts")).main(argv),
  },
  delivery: {
    summary: "carrying alone, over both deliveries and bare sockets, plain and TLS: bench delivery [clients]",
    run: async (argv) => (await import("./delivery/main.ts")).main(argv),
  },
  page: {
    summary: "writes the kept results (bench/baselines) into docs/performance.md",
    run: async (argv) => (await import("./performance/main.ts")).main(argv),
  },
  compute: { summary: "from cluster events to records: bench compute [a b b2 c d e]", run: async (argv) => (await import("./compute/main.ts")).main(argv) },
  "policy-status": {
    summary: "what one look of the leader at all policies costs: bench policy-status [--policies 10000] [--nodes 5000]",
    run: async (argv) => (await import("./policy-status/main.ts")).main(argv),
  },
  plan: { summary: "what one change costs a node's planner: bench plan", run: async (argv) => (await import("./plan/main.ts")).main(argv) },
  "kernel-sets": {
    summary: "one member more or less of a kernel set, by kind and size (needs root)",
    run: async (argv) => (await import("./kernel-sets/main.ts")).main(argv),
  },
  addresses: {
    summary: "addresses given and freed a second inside an agent, its journal on a disk",
    run: async (argv) => (await import("./cni/addresses.ts")).main(argv),
  },
  "set-change": {
    summary: "one member more or less of a network set, from the API to a kernel, by kind and size (needs root)",
    run: async (argv) => (await import("./set-change/main.ts")).main(argv),
  },
  cni: { summary: "ADD and DEL of the CNI executable (needs root)", run: async (argv) => (await import("./cni/main.ts")).main(argv) },
};

/** 0: measured, and everything that must hold held. 1: something did not. 2: no such benchmark. */
export async function main(argv: readonly string[]): Promise<number> {
  const [name = "help", ...rest] = argv;
  const benchmark = Object.hasOwn(BENCHMARKS, name) ? BENCHMARKS[name] : undefined;
  if (benchmark !== undefined) return benchmark.run(rest);
  const isHelp = name === "help" || name === "--help" || name === "-h";
  const width = Math.max(...Object.keys(BENCHMARKS).map((key) => key.length));
  const list = Object.entries(BENCHMARKS).map(([key, { summary }]) => `  ${key.padEnd(width)}  ${summary}`);
  const usage = `usage: sedge bench <benchmark> [flags]\n\n${list.join("\n")}\n\nsedge bench <benchmark> --help lists its flags.\n`;
  (isHelp ? process.stdout : process.stderr).write(isHelp ? usage : `sedge bench: no benchmark "${name}"\n\n${usage}`);
  return isHelp ? 0 : 2;
}
