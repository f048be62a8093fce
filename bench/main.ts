/** `sedge bench`: its first word picks the benchmark. `fanout` and `tier` are loaded when asked for; the others are programs of their own, and run as such. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

interface Benchmark {
  readonly summary: string;
  readonly run: (argv: readonly string[]) => Promise<number>;
}

const BENCHMARKS: Readonly<Record<string, Benchmark>> = {
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
    run: (argv) => runProgram("./stuck/main.ts", argv, ["--expose-gc"]),
  },
  delivery: {
    summary: "carrying alone, over both deliveries and bare sockets, plain and TLS: bench delivery [clients]",
    run: (argv) => runProgram("./delivery/main.ts", argv),
  },
  page: { summary: "writes the kept results (bench/baselines) into docs/performance.md", run: async () => (await import("./performance/main.ts")).main() },
  compute: { summary: "from cluster events to records: bench compute [a b b2 c d e]", run: (argv) => runProgram("./compute/main.ts", argv) },
  plan: { summary: "what one change costs a node's planner: bench plan", run: (argv) => runProgram("./plan/main.ts", argv) },
  "kernel-sets": {
    summary: "one member more or less of a kernel set, by kind and size (needs root)",
    run: (argv) => runProgram("./kernel-sets/main.ts", argv),
  },
  cni: { summary: "ADD and DEL of the CNI executable (needs root)", run: (argv) => runProgram("./cni/main.ts", argv) },
};

/** 0: measured, and everything that must hold held. 1: something did not. 2: no such benchmark. */
export async function main(argv: readonly string[]): Promise<number> {
  const [name = "help", ...rest] = argv;
  const benchmark = BENCHMARKS[name];
  if (benchmark !== undefined) return benchmark.run(rest);
  const isHelp = name === "help" || name === "--help" || name === "-h";
  const list = Object.entries(BENCHMARKS).map(([key, { summary }]) => `  ${key.padEnd(11)}  ${summary}`);
  const usage = `usage: sedge bench <benchmark> [flags]\n\n${list.join("\n")}\n\nsedge bench fanout --help lists its flags; so does sedge bench tier --help.\n`;
  (isHelp ? process.stdout : process.stderr).write(isHelp ? usage : `sedge bench: no benchmark "${name}"\n\n${usage}`);
  return isHelp ? 0 : 2;
}

function runProgram(script: string, argv: readonly string[], nodeFlags: readonly string[] = []): Promise<number> {
  const child = spawn(process.execPath, [...nodeFlags, fileURLToPath(new URL(script, import.meta.url)), ...argv], { stdio: "inherit" });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => resolve(code ?? 1));
  });
}
