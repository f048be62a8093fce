/**
 * `sedge policy diff`: what a change of manifests would newly allow and newly deny between the pods of a cluster, before it is applied.
 *
 * Every port is covered, not samples: the ports that pods declare and policies name cut 1-65535 into ranges within which no verdict can change, and one
 * port stands for each. Exit codes as diff's: 0 no difference, 1 differences, 2 wrong usage or something that could not be understood.
 */
import { parseArgs } from "node:util";
import { DatastoreError } from "../datastore/api-error.ts";
import type { PortRange, Stack } from "../model/record.ts";
import { type IpVersion, ipVersion } from "../net/ip.ts";
import { PROTOCOL_NUMBERS } from "../policy/convert-network-policy.ts";
import type { Direction } from "../policy/evaluate.ts";
import { readManifests, type SourcedObject, type SourcedProblem } from "./manifests.ts";
import { isNameProblem, parsePolicyName } from "./object-name.ts";
import { json, print, table } from "./output.ts";
import { applyChange, changesMembers, readWorld } from "./policy-diff-world.ts";
import { answerProbe, type DirectionResult, type ProbeResult } from "./policy-probe.ts";
import { buildWorld, type World, type WorldPod } from "./policy-world.ts";
import { type Promotion, promotionsOf } from "./staged.ts";

const USAGE = `usage: sedge policy diff -f NEW_MANIFESTS [-w WORLD_MANIFESTS | --kubeconfig FILE] [--prune] [-o json]
       sedge policy diff --staged all | [KIND/]NAME [-f NEW_MANIFESTS] ...

  -f, --filename    what would be applied: a file, a directory, or - for stdin (YAML or JSON; repeatable)
  -w, --world       the cluster as manifests (pods, namespaces, policies, ...; repeatable); without it the cluster is read from its API
      --kubeconfig  without it KUBECONFIG, ~/.kube/config or the pod's service account
      --staged      what promoting staged policies would change: all of them, or those of a name (repeatable; KIND/NAME, NAMESPACE/NAME). stagedAction Set
                    and Learn put the policy in force, Delete takes the enforced one of the name away, Ignore does nothing
      --prune       policies that the new manifests do not have are taken away
  -o, --output      table (when left out) or json

Exit codes: 0 no difference, 1 differences, 2 error.
`;

export type Verdict = "allow" | "deny";

export interface PolicyDifference {
  readonly from: string;
  readonly to: string;
  /** Absent: every family that both pods have. */
  readonly ipVersion?: IpVersion;
  readonly protocol: string;
  readonly port: PortRange;
  readonly before: Verdict;
  readonly after: Verdict;
  /** What decides after the change: each end's reason when allowed, that of the ends that deny when denied. */
  readonly decidedBy: readonly string[];
}

/** Manifests that could not be understood: all problems, each with its place. */
export class DiffError extends Error {
  readonly code = "DIFF_INPUT";

  constructor(problems: readonly SourcedProblem[]) {
    super(problems.map(({ source, message }) => `${source}: ${message}`).join("\n"));
    this.name = "DiffError";
  }
}

class UsageError extends Error {}

export interface DiffInput {
  readonly world: readonly SourcedObject[];
  readonly change: readonly SourcedObject[];
  /** Policies of the world that the change lacks are gone after it. */
  readonly prune?: boolean;
  /** Objects of the world that are gone after the change; of these only kind, namespace and name count. */
  readonly removed?: readonly SourcedObject[];
  /** Told what of the policies after the change is not enforced as written. */
  readonly onNotice?: (notice: SourcedProblem) => void;
}

/** Pairs in order of names; pods that are there before and after only. Throws DiffError. */
export function policyDiff({ world, change, removed = [], prune = false, onNotice }: DiffInput): PolicyDifference[] {
  const before = worldOf(world);
  const after = worldOf(applyChange(world, { change, removed, prune }));
  if (onNotice !== undefined) for (const notice of after.notices) onNotice(notice);
  const names = [...before.pods.keys()].filter((name) => after.pods.has(name)).sort();
  const cuts = new PortCuts([before, after], [...world, ...change]);
  const asked = changesMembers(change) ? { egress: new Set(names), ingress: new Set(names) } : changedEnds(before, after, names);
  const differences: PolicyDifference[] = [];
  for (const from of names) {
    for (const to of names) {
      if (from === to || (!asked.egress.has(from) && !asked.ingress.has(to))) continue;
      const ranges = cuts.rangesOf(from, to);
      const families = endsOf(before, from, to).map((ends) => compare(before, after, { from, to, ends, ranges }));
      differences.push(...joinFamilies(families));
    }
  }
  return differences;
}

function worldOf(objects: readonly SourcedObject[]): World {
  const built = buildWorld(objects);
  if (!built.ok) throw new DiffError(built.problems);
  return built.world;
}

interface Pair {
  readonly from: string;
  readonly to: string;
  /** As probes name them. */
  readonly ends: { readonly from: string; readonly to: string; readonly ipVersion: IpVersion | undefined };
  readonly ranges: readonly PortRange[];
}

function compare(before: World, after: World, { from, to, ends, ranges }: Pair): PolicyDifference[] {
  const found: PolicyDifference[] = [];
  for (const protocol of Object.keys(PROTOCOL_NUMBERS)) {
    for (const port of ranges) {
      const probe = { from: ends.from, to: ends.to, protocol, port: port.first };
      const was = verdictOf(before, probe);
      const is = verdictOf(after, probe);
      if (was.verdict === is.verdict) continue;
      const family = ends.ipVersion === undefined ? {} : { ipVersion: ends.ipVersion };
      const one = { from, to, ...family, protocol, port, before: was.verdict, after: is.verdict, decidedBy: decidersOf(is) };
      const last = found.at(-1);
      if (last !== undefined && isContinued(last, one)) found[found.length - 1] = { ...one, port: { first: last.port.first, last: port.last } };
      else found.push(one);
    }
  }
  return found;
}

/** A difference that both families have is told once, without a family. */
function joinFamilies([first = [], second = []]: readonly (readonly PolicyDifference[])[]): PolicyDifference[] {
  const isSame = (a: PolicyDifference, b: PolicyDifference): boolean =>
    a.protocol === b.protocol && a.port.first === b.port.first && a.port.last === b.port.last && a.after === b.after;
  const joined = first.map((one) => {
    if (!second.some((other) => isSame(one, other))) return one;
    const { ipVersion: _family, ...rest } = one;
    return rest;
  });
  return [...joined, ...second.filter((other) => !first.some((one) => isSame(one, other)))];
}

function verdictOf(world: World, probe: Readonly<Record<string, unknown>>): ProbeResult {
  const answer = answerProbe(world, probe, 0);
  if (!answer.ok) throw new DiffError(answer.problems.map(({ message }) => ({ source: JSON.stringify(probe), message })));
  return answer.result;
}

function isContinued(last: PolicyDifference, next: PolicyDifference): boolean {
  return (
    last.protocol === next.protocol && last.port.last + 1 === next.port.first && last.after === next.after && last.decidedBy.join() === next.decidedBy.join()
  );
}

function decidersOf({ verdict, egress, ingress }: ProbeResult): string[] {
  const ends: [Direction, DirectionResult][] = [
    ["egress", egress],
    ["ingress", ingress],
  ];
  return ends.filter(([, result]) => result.verdict === verdict).map(([direction, result]) => `${direction}: ${result.reason}`);
}

/** By name (the first family that both have), and by address in the other family when both have that too. */
function endsOf({ pods }: World, from: string, to: string): Pair["ends"][] {
  const source = pods.get(from);
  const destination = pods.get(to);
  const plain = { from, to, ipVersion: undefined };
  if (source === undefined || destination === undefined || isOnHost(source) || isOnHost(destination)) return [plain];
  const common = source.addresses.flatMap((a) => destination.addresses.filter((b) => ipVersion(a) === ipVersion(b)).map((b) => ({ a, b })));
  const first = common[0];
  const other = first === undefined ? undefined : common.find(({ a }) => ipVersion(a) !== ipVersion(first.a));
  if (first === undefined || other === undefined) return [plain];
  return [
    { from, to, ipVersion: ipVersion(first.a) },
    { from: other.a, to: other.b, ipVersion: ipVersion(other.a) },
  ];
}

/** Their addresses are their node's, or nobody's any more: as ends of a probe they would be someone else. */
function isOnHost({ pod }: WorldPod): boolean {
  return pod.hostNetwork || pod.isTerminated;
}

/** Pods whose rules of one direction are not the same in both worlds. Sets are named by what they select, so equal rules have equal members. */
function changedEnds(before: World, after: World, names: readonly string[]): Record<Direction, Set<string>> {
  const hosts = before.hosts.length > 0 || after.hosts.length > 0;
  const changed = (direction: Direction): Set<string> =>
    new Set(
      names.filter((name) => hosts || rulesOf(before, before.pods.get(name)?.stack, direction) !== rulesOf(after, after.pods.get(name)?.stack, direction)),
    );
  return { egress: changed("egress"), ingress: changed("ingress") };
}

function rulesOf(world: World, stack: Stack | undefined, direction: Direction): string {
  if (stack === undefined) return "";
  const rules = (keys: readonly string[]): unknown[] => keys.map((key) => world.policy(key)?.[direction]);
  return JSON.stringify([stack.tiers.map((tier) => [tier.name, tier.defaultAction, rules(tier[direction])]), rules(stack.profiles ?? []), stack.noMatchAction]);
}

/** Ports at which something begins or has just ended, by who brings them in. */
class PortCuts {
  readonly #worlds: readonly World[];
  readonly #everywhere: readonly number[];
  readonly #ofStack = new Map<Stack, readonly number[]>();

  constructor(worlds: readonly World[], objects: readonly SourcedObject[]) {
    this.#worlds = worlds;
    this.#everywhere = [
      ...servicePorts(objects).flatMap((port) => [port, port + 1]),
      ...worlds.flatMap((world) => world.hosts.flatMap(({ stack }) => this.#cutsOf(world, stack))),
    ];
  }

  /** 1-65535 cut wherever a policy of either pod in either world, or a named port of the destination, begins or ends a range. */
  rangesOf(from: string, to: string): PortRange[] {
    const starts = new Set<number>([1, ...this.#everywhere]);
    for (const world of this.#worlds) {
      for (const name of [from, to]) for (const start of this.#cutsOf(world, world.pods.get(name)?.stack)) starts.add(start);
      for (const { port } of world.pods.get(to)?.pod.namedPorts ?? []) starts.add(port).add(port + 1);
    }
    const sorted = [...starts].filter((start) => start >= 1 && start <= 65535).sort((a, b) => a - b);
    return sorted.map((first, i) => ({ first, last: (sorted[i + 1] ?? 65536) - 1 }));
  }

  #cutsOf(world: World, stack: Stack | undefined): readonly number[] {
    if (stack === undefined) return [];
    const known = this.#ofStack.get(stack);
    if (known !== undefined) return known;
    const keys = [...stack.tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress]), ...(stack.profiles ?? [])];
    const rules = keys.flatMap((key) => [...(world.policy(key)?.ingress ?? []), ...(world.policy(key)?.egress ?? [])]);
    const cuts = rules.flatMap(({ destination }) => [...destination.ports, ...(destination.notPorts ?? [])].flatMap(({ first, last }) => [first, last + 1]));
    this.#ofStack.set(stack, cuts);
    return cuts;
  }
}

/** Ports of EndpointSlices, which rules that name a Service mean. */
function servicePorts(objects: readonly SourcedObject[]): number[] {
  return objects.flatMap(({ object }) => {
    const { kind, ports } = (object ?? {}) as { readonly kind?: unknown; readonly ports?: unknown };
    if (kind !== "EndpointSlice" || !Array.isArray(ports)) return [];
    return ports.flatMap((entry: unknown) => {
      const port = typeof entry === "object" && entry !== null && "port" in entry ? entry.port : undefined;
      return typeof port === "number" ? [port] : [];
    });
  });
}

/** The command; `argv` is what follows "policy diff". */
export async function policyDiffCommand(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): Promise<number> {
  try {
    const { filename = [], world = [], staged = [], kubeconfig, prune, output, help } = readFlags(argv);
    if (help) {
      print(USAGE);
      return 0;
    }
    if (filename.length === 0 && staged.length === 0) throw new UsageError("-f or --staged is needed");
    if (output !== "json" && output !== "table") throw new UsageError(`-o ${output}: must be json or table`);
    if (world.length > 0 && kubeconfig !== undefined) throw new UsageError("-w and --kubeconfig: the cluster is read from one of them");
    if ([...filename, ...world].filter((path) => path === "-").length > 1) throw new UsageError("only one of -f and -w can be stdin");
    const change = readObjects(filename);
    const objects = world.length > 0 ? readObjects(world) : await readWorld(kubeconfig, env);
    const notice = ({ source, message }: SourcedProblem): unknown => process.stderr.write(`${source}: ${message}\n`);
    const promotions = promoted([...objects, ...change], staged);
    for (const { staged: name, action } of promotions) if (action === "Ignore") notice({ source: name, message: "stagedAction is Ignore: it is left out" });
    const differences = policyDiff({
      world: objects,
      change: [...change, ...promotions.flatMap(({ becomes }) => becomes ?? [])],
      removed: promotions.flatMap(({ removes }) => removes ?? []),
      prune,
      onNotice: notice,
    });
    print(output === "json" ? json(differences) : differenceText(differences));
    return differences.length === 0 ? 0 : 1;
  } catch (error) {
    if (error instanceof UsageError) process.stderr.write(`sedge policy diff: ${error.message}\n\n${USAGE}`);
    else if (error instanceof DiffError || error instanceof DatastoreError || (error instanceof Error && error.name === "KubeconfigError"))
      process.stderr.write(`sedge policy diff: ${error.message}\n`);
    else throw error;
    return 2;
  }
}

/** The promotions that are asked for; one that is named and not there is an error. Of one in the world and in the change the latter counts. */
function promoted(objects: readonly SourcedObject[], wanted: readonly string[]): readonly Promotion[] {
  if (wanted.length === 0) return [];
  const newest = [...new Map(promotionsOf(objects).map((promotion) => [promotion.staged, promotion])).values()];
  if (wanted.includes("all")) return newest;
  const names = wanted.map((text) => {
    const name = parsePolicyName(text);
    if (isNameProblem(name)) throw new UsageError(`--staged: ${name.problem}`);
    const found = new Set(promotionsOf(objects, [name]).map(({ staged }) => staged));
    if (found.size === 0)
      throw new DiffError([
        { source: `--staged ${text}`, message: `no staged policy has that name; there are: ${newest.map(({ staged }) => staged).join(", ") || "none"}` },
      ]);
    return found;
  });
  return newest.filter(({ staged }) => names.some((found) => found.has(staged)));
}

function readObjects(paths: readonly string[]): readonly SourcedObject[] {
  const { objects, problems } = readManifests(paths);
  if (problems.length > 0) throw new DiffError(problems);
  return objects;
}

function readFlags(argv: readonly string[]): {
  filename?: string[];
  world?: string[];
  staged?: string[];
  kubeconfig?: string;
  prune: boolean;
  output: string;
  help: boolean;
} {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        filename: { type: "string", short: "f", multiple: true },
        world: { type: "string", short: "w", multiple: true },
        staged: { type: "string", multiple: true },
        kubeconfig: { type: "string" },
        prune: { type: "boolean", default: false },
        output: { type: "string", short: "o", default: "table" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    return values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

/** What is newly allowed, then what is newly denied. */
function differenceText(differences: readonly PolicyDifference[]): string {
  if (differences.length === 0) return "no difference between the pods\n";
  const parts = (["allow", "deny"] as const).flatMap((after) => {
    const own = differences.filter((difference) => difference.after === after);
    if (own.length === 0) return [];
    const rows = own.map(({ from, to, ipVersion: family, port, protocol, before, decidedBy }) => [
      from,
      family === undefined ? to : `${to} (IPv${family})`,
      portText(port),
      protocol,
      `${before} -> ${after}`,
      decidedBy.join("; "),
    ]);
    return [`newly ${after === "allow" ? "allowed" : "denied"}:\n${table([["FROM", "TO", "PORT", "PROTOCOL", "CHANGE", "DECIDED BY"], ...rows])}`];
  });
  return parts.join("\n");
}

function portText({ first, last }: PortRange): string {
  return first === last ? `${first}` : `${first}-${last}`;
}
