/** The operator's verbs. Exit codes: 0 done, 1 the call failed, 2 wrong usage. */
import { ConfigError, describeFlags, loadConfig } from "../runtime/config.ts";
import { AgentCallError } from "./agent-socket.ts";
import { clientsCommand } from "./clients.ts";
import { type CtlConfig, ctlSchema, expandShortFlags } from "./config.ts";
import { CallError, Connection } from "./connection.ts";
import { diffCommand } from "./diff.ts";
import { ipamCommand } from "./ipam.ts";
import { logLevelCommand } from "./log-level.ts";
import { print } from "./output.ts";
import { policyDiffCommand } from "./policy-diff.ts";
import { policyEvaluateCommand } from "./policy-evaluate.ts";
import { policyStatusCommand } from "./policy-status.ts";
import { getCommand, watchCommand } from "./records.ts";
import { statusCommand } from "./status.ts";
import { traceCommand } from "./trace-command.ts";
import { waitCommand } from "./wait.ts";
import { whyCommand } from "./why.ts";

type Verb = (connection: Connection, config: CtlConfig, positional: readonly string[]) => Promise<number>;

/** Usage of verbs that take more than flags. */
const USAGES: Readonly<Record<string, string>> = {
  get: "sedge get <kind> [name] [flags]",
  policy: "sedge policy evaluate -f MANIFESTS --probes FILE | sedge policy diff -f MANIFESTS | sedge policy status [[KIND/]NAME] [-n NAMESPACE] [flags]",
  wait: "sedge wait policy/[NAMESPACE/]NAME [-n NAMESPACE] [--timeout 30s] | sedge wait KIND/[NAMESPACE/]NAME | sedge wait --revision R [flags]",
};

/** How many words a verb takes beside its flags, at most; none unless it stands here. */
const WORDS: Readonly<Record<string, number>> = { get: 2, watch: 2, why: 2, diff: 1, wait: 1, "log-level": 1, policy: 2 };

const VERBS: Readonly<Record<string, Verb>> = {
  status: statusCommand,
  clients: clientsCommand,
  get: getCommand,
  watch: watchCommand,
  why: whyCommand,
  diff: diffCommand,
  wait: waitCommand,
  "log-level": logLevelCommand,
  policy: (connection, config, [what, ...rest]) => {
    if (what === "status") return policyStatusCommand(connection, config, rest);
    process.stderr.write(`usage: ${USAGES["policy"] ?? ""}\n`);
    return Promise.resolve(2);
  },
};

export async function main(argv: readonly string[]): Promise<number> {
  const [verb = "", ...rest] = argv;
  if (verb === "policy" && rest[0] === "evaluate") return policyEvaluateCommand(rest.slice(1));
  if (verb === "policy" && rest[0] === "diff") return policyDiffCommand(rest.slice(1), process.env);
  if (verb === "trace") return traceCommand(rest, process.env);
  if (verb === "ipam") return ipamCommand(rest, process.env);
  const run = VERBS[verb];
  if (run === undefined) throw new Error(`no verb ${verb}`);
  const { config, positional } = loadConfig(ctlSchema, { argv: expandShortFlags(rest), env: process.env, program: "ctl" });
  if (config.help) {
    print(`usage: ${USAGES[verb] ?? `sedge ${verb} [flags]`}\n${describeFlags(ctlSchema)}`);
    return 0;
  }
  const surplus = positional.slice(WORDS[verb] ?? 0);
  if (surplus.length > 0) throw new ConfigError(surplus.map((word) => `unexpected argument ${word}`));
  const connection = new Connection(config);
  process.once("SIGINT", () => process.exit(130));
  try {
    return await run(connection, config, positional);
  } catch (error) {
    if (!(error instanceof CallError) && !(error instanceof AgentCallError)) throw error;
    process.stderr.write(`sedge ${verb}: ${error.message}\n`);
    return 1;
  } finally {
    connection.close();
  }
}
