/**
 * The programs of the one executable, picked by its first word and loaded when asked for, so that `sedge status` does not pay for a server.
 *
 * What a person can mend is told by its message alone; any other error is a defect, and comes with its stack.
 */

import { useCompileCache } from "../src/runtime/compile-cache.ts";

interface Program {
  readonly summary: string;
  readonly load: () => Promise<{ main(argv: readonly string[]): Promise<number> }>;
}

/** The verbs are run again and again by a person who waits, so their code is kept compiled. */
const ctl = (): Promise<{ main(argv: readonly string[]): Promise<number> }> => {
  useCompileCache({ env: process.env, uid: process.getuid?.() });
  return import("../src/ctl/main.ts");
};

/** Exit codes of every program: 0 done, 1 failed, 2 wrong usage or configuration, 130 ended by a second signal. */
export const PROGRAMS: Readonly<Record<string, Program>> = {
  fanout: { summary: "the fan-out server: watches the API, streams to agents", load: () => import("../fanout/main.ts") },
  agent: { summary: "the node agent: programs the kernel, serves the CNI executable", load: () => import("../agent/main.ts") },
  controllers: { summary: "frees addresses and blocks that nobody has any more; one of several leads", load: () => import("../src/controllers/main.ts") },
  "cni-install": { summary: "puts the CNI executable and its configuration on a host, or takes them away", load: () => import("../src/installer/main.ts") },
  issuer: { summary: "gives nodes their certificates, by a token or the certificate that they have (EST)", load: () => import("../src/issuer/main.ts") },
  manifests: { summary: "what installs Sedge in a cluster: sedge manifests | kubectl apply -f -", load: () => import("../src/operator/main.ts") },
  api: { summary: "the embedded Kubernetes API, for trials and tests", load: () => import("../src/datastore/embedded/main.ts") },
  demo: {
    summary: "a cluster of three nodes on this machine, with pods, policies and probes (what npm start runs)",
    load: () => import("../src/demo/main.ts"),
  },
  bench: { summary: "benchmarks: sedge bench lists them", load: () => import("../bench/main.ts") },
  status: { summary: "the server, and with --node an agent, at a glance", load: ctl },
  clients: { summary: "connected agents: revision, lag, what is in force", load: ctl },
  get: { summary: "records: sedge get <kind> [--node N]", load: ctl },
  watch: { summary: "records as they change, with revision: sedge watch [--node N]", load: ctl },
  why: { summary: "why a record is in a node's view: sedge why NODE OBJECT", load: ctl },
  trace: { summary: "which tier, policy and rule decides on a connection, at each end: sedge trace SRC DST PORT", load: ctl },
  diff: { summary: "a node's view at the server, at the agent and in the kernel: sedge diff NODE", load: ctl },
  wait: { summary: "until it is in force: sedge wait policy/[NAMESPACE/]NAME | --revision R", load: ctl },
  "log-level": { summary: "what the server (with --socket, the agent) logs from now on: sedge log-level debug", load: ctl },
  ipam: { summary: "the cluster's addresses: sedge ipam show | check | doctor [--fix] | release | migrate | split", load: ctl },
  rebalance: { summary: "agents go to the server that is their first choice, at a pace (--dry-run: how many)", load: ctl },
  policy: { summary: "sedge policy evaluate -f MANIFESTS --probes FILE | sedge policy diff -f MANIFESTS | sedge policy status [[KIND/]NAME]", load: ctl },
};

/** Codes of errors that a person can mend, and whose message says how: a stack would only hide it. */
const MESSAGE_CODES: ReadonlySet<string> = new Set(["CONFIG", "KUBECONFIG", "START"]);

/** Runs the program that the first word names; resolves to the exit code. Never rejects. */
export async function runSedge([name = "help", ...rest]: readonly string[]): Promise<number> {
  const program = Object.hasOwn(PROGRAMS, name) ? PROGRAMS[name] : undefined;
  if (program === undefined) return usage(name);
  const flags = rest.map((word) => (word === "-h" ? "--help" : word));
  // get, watch, … are verbs of one program, which is told which; the servers get their flags alone.
  const { main } = await program.load();
  try {
    return await main(program.load === ctl ? [name, ...flags] : flags);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    const isForPeople = typeof code === "string" && MESSAGE_CODES.has(code);
    process.stderr.write(`sedge ${name}: ${error instanceof Error ? (isForPeople ? error.message : (error.stack ?? error.message)) : String(error)}\n`);
    return code === "CONFIG" ? 2 : 1;
  }
}

function usage(name: string): number {
  const isHelp = name === "help" || name === "--help" || name === "-h";
  const width = Math.max(...Object.keys(PROGRAMS).map((key) => key.length));
  const text = `usage: sedge <program> [flags]\n\n${Object.entries(PROGRAMS)
    .map(([key, { summary }]) => `  ${key.padEnd(width)}  ${summary}`)
    .join("\n")}\n\nsedge <program> --help lists the flags.\n`;
  (isHelp ? process.stdout : process.stderr).write(isHelp ? text : `sedge: no program "${name}"\n\n${text}`);
  return isHelp ? 0 : 2;
}
