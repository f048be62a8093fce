/**
 * `sedge policy evaluate`: what policies in manifests would let pass, without a cluster. Offline, and through the same code as the server.
 *
 * Exit codes: 0 every probe was answered, 2 wrong usage, manifests or probes. Nothing is answered when something could not be understood: a verdict
 * from half of the policies would be wrong and look right.
 */

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { parseDocuments, readManifests, type SourcedObject, type SourcedProblem } from "./manifests.ts";
import { json, print, table } from "./output.ts";
import { answerProbe, type DirectionResult, type ProbeResult } from "./policy-probe.ts";
import { buildWorld, type World } from "./policy-world.ts";

export type { DirectionResult, ProbeResult } from "./policy-probe.ts";

const USAGE = `usage: sedge policy evaluate -f MANIFESTS [-f MORE] --probes FILE [-o json]

  -f, --filename   manifests: a file, a directory, or - for stdin (YAML or JSON; repeatable)
      --probes     a list of {from, to, port, protocol}: from and to are "namespace/pod" or addresses, port a number or the name of a port,
                   protocol TCP (when left out), UDP, SCTP, ICMP or a number; sourcePort, icmpType and icmpCode where rules look at them;
                   a file (YAML or JSON), or - for stdin
  -o, --output     table (when left out) or json
`;

/** Manifests or probes that could not be understood: all problems, each with its place. */
export class EvaluationError extends Error {
  readonly code = "EVALUATION_INPUT";
  readonly problems: readonly SourcedProblem[];

  constructor(problems: readonly SourcedProblem[]) {
    super(problems.map(({ source, message }) => `${source}: ${message}`).join("\n"));
    this.name = "EvaluationError";
    this.problems = problems;
  }
}

/** Answers each probe, in order. Throws EvaluationError with every problem of manifests and probes. */
export function evaluate({ manifests, probes }: { readonly manifests: readonly unknown[]; readonly probes: readonly unknown[] }): ProbeResult[] {
  return answer(worldOf(manifests.map((object, i) => ({ source: `manifest ${i}`, object }))), probes);
}

/** The command; `argv` is what follows "policy evaluate". */
export function policyEvaluateCommand(argv: readonly string[]): Promise<number> {
  try {
    const { filename = [], probes, output, help } = readFlags(argv);
    if (help) {
      print(USAGE);
      return Promise.resolve(0);
    }
    if (filename.length === 0 || probes === undefined) throw new UsageError("-f and --probes are needed");
    if (output !== "json" && output !== "table") throw new UsageError(`-o ${output}: must be json or table`);
    if ([...filename, probes].filter((path) => path === "-").length > 1) throw new UsageError("only one of -f and --probes can be stdin");
    const read = readManifests(filename);
    if (read.problems.length > 0) throw new EvaluationError(read.problems);
    const world = worldOf(read.objects);
    for (const [kind, count] of world.ignored) process.stderr.write(`sedge policy evaluate: ${count} of kind ${kind} left out: it has no part in policy\n`);
    for (const { source, message } of world.notices) process.stderr.write(`sedge policy evaluate: ${source}: ${message}\n`);
    const results = answer(world, readProbes(probes));
    print(output === "json" ? json(results) : resultTable(results));
    return Promise.resolve(0);
  } catch (error) {
    if (!(error instanceof EvaluationError) && !(error instanceof UsageError)) return Promise.reject(error);
    process.stderr.write(error instanceof UsageError ? `sedge policy evaluate: ${error.message}\n\n${USAGE}` : `${error.message}\n`);
    return Promise.resolve(2);
  }
}

class UsageError extends Error {}

function readFlags(argv: readonly string[]): { filename?: string[]; probes?: string; output: string; help: boolean } {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        filename: { type: "string", short: "f", multiple: true },
        probes: { type: "string" },
        output: { type: "string", short: "o", default: "table" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    return values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

function worldOf(objects: readonly SourcedObject[]): World {
  const built = buildWorld(objects);
  if (!built.ok) throw new EvaluationError(built.problems);
  return built.world;
}

function answer(world: World, probes: readonly unknown[]): ProbeResult[] {
  const answers = probes.map((probe, i) => answerProbe(world, probe, i));
  const problems = answers.flatMap((one) => (one.ok ? [] : one.problems));
  if (problems.length > 0) throw new EvaluationError(problems);
  return answers.flatMap((one) => (one.ok ? [one.result] : []));
}

/** A list, or an object with the list in `probes`. */
function readProbes(path: string): readonly unknown[] {
  const source = path === "-" ? "stdin" : path;
  let text: string;
  try {
    text = readFileSync(path === "-" ? 0 : path, "utf8");
  } catch (error) {
    throw new EvaluationError([{ source, message: `cannot be read: ${error instanceof Error ? error.message : String(error)}` }]);
  }
  const { values, problems } = parseDocuments(text, source);
  if (problems.length > 0) throw new EvaluationError(problems);
  const value = values[0]?.object;
  const list: unknown = typeof value === "object" && value !== null && "probes" in value ? value.probes : value;
  if (!Array.isArray(list)) throw new EvaluationError([{ source, message: "must be a list of probes: [{from, to, port, protocol}, …]" }]);
  return list;
}

function resultTable(results: readonly ProbeResult[]): string {
  const rows = results.map((result) => {
    const { from, to, port, protocol, verdict, egress, ingress } = result as ProbeResult & Readonly<Record<"from" | "to" | "port" | "protocol", unknown>>;
    return [text(from), text(to), text(port ?? "-"), text(protocol ?? "TCP"), verdict, shortReason("egress", egress), shortReason("ingress", ingress)];
  });
  return table([["FROM", "TO", "PORT", "PROTOCOL", "VERDICT", "EGRESS", "INGRESS"], ...rows]);
}

function shortReason(direction: string, { verdict, policy, rule, policies, reason }: DirectionResult): string {
  if (rule !== null) return `${verdict}: ${policy ?? ""} ${direction}[${rule}]`;
  return `${verdict}: ${policies.length > 0 ? `no rule in ${policies.join(", ")}` : reason}`;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
