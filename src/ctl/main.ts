/** The operator's verbs. Exit codes: 0 done, 1 the call failed, 2 wrong usage. Each is loaded when asked for: reading all of them takes longer than most answers. */
import { ConfigError, describeFlags, loadConfig } from "../runtime/config.ts";
import { AgentCallError } from "./agent-socket.ts";
import { type CtlConfig, ctlSchema, expandShortFlags } from "./config.ts";
import { CallError, Connection } from "./connection.ts";
import { print } from "./output.ts";

type Verb = (connection: Connection, config: CtlConfig, positional: readonly string[]) => Promise<number>;

/** Usage of verbs that take more than flags. */
const USAGES: Readonly<Record<string, string>> = {
  get: "sedge get <kind> [name] [flags]",
  policy: "sedge policy evaluate -f MANIFESTS --probes FILE | sedge policy diff -f MANIFESTS | sedge policy status [[KIND/]NAME] [-n NAMESPACE] [flags]",
  wait: "sedge wait policy/[NAMESPACE/]NAME [-n NAMESPACE] [--timeout 30s] | sedge wait KIND/[NAMESPACE/]NAME | sedge wait --revision R [flags]",
};

/** How many words a verb takes beside its flags, at most; none unless it stands here. */
const WORDS: Readonly<Record<string, number>> = { get: 2, watch: 2, why: 2, diff: 1, wait: 1, "log-level": 1, policy: 2 };

/** Verbs that ask every server that `--server` gives. */
const TIER_VERBS: Readonly<Record<string, (config: CtlConfig) => Promise<number>>> = {
  status: async (config) => (await import("./status.ts")).statusCommand(config),
  clients: async (config) => (await import("./clients.ts")).clientsCommand(config),
  rebalance: async (config) => (await import("./rebalance.ts")).rebalanceCommand(config),
};

const VERBS: Readonly<Record<string, Verb>> = {
  get: async (...call) => (await import("./records.ts")).getCommand(...call),
  watch: async (...call) => (await import("./records.ts")).watchCommand(...call),
  why: async (...call) => (await import("./why.ts")).whyCommand(...call),
  diff: async (...call) => (await import("./diff.ts")).diffCommand(...call),
  wait: async (...call) => (await import("./wait.ts")).waitCommand(...call),
  "log-level": async (...call) => (await import("./log-level.ts")).logLevelCommand(...call),
  policy: async (connection, config, [what, ...rest]) => {
    if (what === "status") return (await import("./policy-status.ts")).policyStatusCommand(connection, config, rest);
    process.stderr.write(`${what === undefined ? "" : `sedge policy: there is no ${JSON.stringify(what)}\n`}usage: ${USAGES["policy"] ?? ""}\n`);
    return 2;
  },
};

export async function main(argv: readonly string[]): Promise<number> {
  const [verb = "", ...rest] = argv;
  if (verb === "policy" && rest[0] === "evaluate") return (await import("./policy-evaluate.ts")).policyEvaluateCommand(rest.slice(1));
  if (verb === "policy" && rest[0] === "diff") return (await import("./policy-diff.ts")).policyDiffCommand(rest.slice(1), process.env);
  if (verb === "trace") return (await import("./trace-command.ts")).traceCommand(rest, process.env);
  if (verb === "ipam") return (await import("./ipam.ts")).ipamCommand(rest, process.env);
  const run = VERBS[verb];
  const ofTier = TIER_VERBS[verb];
  if (run === undefined && ofTier === undefined) throw new Error(`no verb ${verb}`);
  const { config, positional } = loadConfig(ctlSchema, { argv: expandShortFlags(rest), env: process.env, program: "ctl" });
  if (config.help) {
    print(`usage: ${USAGES[verb] ?? `sedge ${verb} [flags]`}\n${describeFlags(ctlSchema)}`);
    return 0;
  }
  // Before any server is asked: what is wrong with the question is no matter of whether one answers.
  const surplus = positional.slice(WORDS[verb] ?? 0);
  if (surplus.length > 0) throw new ConfigError(surplus.map((word) => `unexpected argument ${word}`));
  const interrupt = (): never => process.exit(130);
  process.once("SIGINT", interrupt);
  const [server = config.server] = config.server.split(",");
  const connection = new Connection({ ...config, server });
  try {
    return run === undefined ? ((await ofTier?.(config)) ?? 2) : await run(connection, config, positional);
  } catch (error) {
    if (!(error instanceof CallError) && !(error instanceof AgentCallError)) throw error;
    process.stderr.write(`sedge ${[verb, ...(verb === "policy" ? positional.slice(0, 1) : [])].join(" ")}: ${error.message}\n`);
    return 1;
  } finally {
    process.off("SIGINT", interrupt);
    connection.close();
  }
}
