/** `sedge bench`: its first word picks the benchmark. Benchmarks are loaded when asked for. */

interface Benchmark {
  readonly summary: string;
  readonly run: (argv: readonly string[]) => Promise<number>;
}

const BENCHMARKS: Readonly<Record<string, Benchmark>> = {
  fanout: {
    summary: "the fan-out server with thousands of simulated agents, beside servers that only write",
    run: async (argv) => (await import("./fanout/main.ts")).main(argv),
  },
};

/** 0: measured, and everything that must hold held. 1: something did not. 2: no such benchmark. */
export async function main(argv: readonly string[]): Promise<number> {
  const [name = "help", ...rest] = argv;
  const benchmark = BENCHMARKS[name];
  if (benchmark !== undefined) return benchmark.run(rest);
  const isHelp = name === "help" || name === "--help" || name === "-h";
  const list = Object.entries(BENCHMARKS).map(([key, { summary }]) => `  ${key.padEnd(8)}  ${summary}`);
  const usage = `usage: sedge bench <benchmark> [flags]\n\n${list.join("\n")}\n\nsedge bench <benchmark> --help lists the flags.\n`;
  (isHelp ? process.stdout : process.stderr).write(isHelp ? usage : `sedge bench: no benchmark "${name}"\n\n${usage}`);
  return isHelp ? 0 : 2;
}
