/**
 * Policy of the node's own interfaces: chains on the hooks, and which stack judges which interface.
 *
 *   prerouting raw -300     untracked stacks, ingress; what they allow is not tracked
 *   prerouting mangle -150  stacks before destination NAT
 *   forward filter-15       forward stacks, ingress: of the interface that a packet came in by
 *   forward filter-2        forward stacks, egress: of the interface that it leaves by
 *   input filter-10         the host's own stacks, ingress
 *   output raw -300         untracked stacks, egress
 *   output filter-10        the host's own stacks, egress; never towards a pod of this node
 *
 * Each hook has a verdict map by interface; behind it comes the host endpoint "*", for every interface that has no own one and is neither a pod's nor
 * the loopback. Failsafe ports come before policy everywhere except in forwarding. There are no such chains without a host endpoint.
 * Invariant: an interface whose host endpoint is known and whose stack is not drops, except for failsafe ports.
 * Rejected: an accept by an untracked or pre-DNAT stack that ends all judgement: without marks only "not tracked" can be seen later, and that is what
 * lets untracked packets pass; what was allowed before NAT is judged again by the stacks behind it.
 */
import type { HostEndpoint, RecordKey } from "../../src/model/record.ts";
import type { IpAddress } from "../../src/net/ip.ts";
import type { PlannedSet } from "./address-sets.ts";
import { type FailsafePorts, type FailsafeSide, failsafeRules } from "./failsafe.ts";
import { commentText, type Direction } from "./names.ts";
import type { NftBaseChain, NftElement, NftMatch, NftRule, NftStatement, NftVerdict } from "./nft/ruleset.ts";
import type { PlannedChain } from "./policy-chains.ts";

type StackField = "stack" | "forwardStack" | "preDnatStack" | "untrackedStack";

export interface HostHook {
  /** Of the base chain that dispatches; undefined: an existing base chain jumps there. */
  readonly base: Omit<NftBaseChain, "policy"> | undefined;
  readonly name: string;
  readonly field: StackField;
  readonly direction: Direction;
  readonly failsafes: readonly FailsafeSide[];
  /** Before connection tracking there is no state to look at; before NAT "invalid" is left to those behind. */
  readonly state: "none" | "passes" | "judges";
}

export const HOST_INPUT_CHAIN = "host-input";
export const HOST_OUTPUT_CHAIN = "host-output";

const HOOKS: readonly HostHook[] = [
  {
    name: "host-untracked-ingress",
    base: { type: "filter", hook: "prerouting", priority: -299 },
    field: "untrackedStack",
    direction: "ingress",
    failsafes: ["inbound", "answers-outbound"],
    state: "none",
  },
  {
    name: "host-untracked-egress",
    base: { type: "filter", hook: "output", priority: -299 },
    field: "untrackedStack",
    direction: "egress",
    failsafes: ["outbound", "answers-inbound"],
    state: "none",
  },
  {
    name: "host-pre-dnat",
    base: { type: "filter", hook: "prerouting", priority: -150 },
    field: "preDnatStack",
    direction: "ingress",
    failsafes: ["inbound"],
    state: "passes",
  },
  {
    name: "host-forward-ingress",
    base: { type: "filter", hook: "forward", priority: -15 },
    field: "forwardStack",
    direction: "ingress",
    failsafes: [],
    state: "judges",
  },
  {
    name: "host-forward-egress",
    base: { type: "filter", hook: "forward", priority: -2 },
    field: "forwardStack",
    direction: "egress",
    failsafes: [],
    state: "judges",
  },
  { name: HOST_INPUT_CHAIN, base: undefined, field: "stack", direction: "ingress", failsafes: ["inbound"], state: "judges" },
  { name: HOST_OUTPUT_CHAIN, base: undefined, field: "stack", direction: "egress", failsafes: ["outbound"], state: "judges" },
];

export interface HostPlanInput {
  readonly hosts: readonly HostEndpoint[];
  readonly interfacePrefix: string;
  readonly failsafePorts: FailsafePorts;
  /** Interface that has the address; for host endpoints without a name of one. */
  readonly interfaceOf: ReadonlyMap<IpAddress, string>;
  /** Plans a stack's chains; the verdict that goes there, or undefined when the stack is not known. */
  readonly stackVerdict: (stack: RecordKey, direction: Direction, isUntracked: boolean) => NftVerdict | undefined;
  readonly fail: (key: RecordKey, reason: string) => void;
}

export interface HostPlan {
  readonly chains: readonly PlannedChain[];
  readonly sets: readonly PlannedSet[];
}

const ACCEPT: NftVerdict = { kind: "accept" };
const DROP: NftVerdict = { kind: "drop" };
const ALL_INTERFACES = "*";
const LOOPBACK = "lo";
const INTERFACE_NAME = /^[!-.0-~]{1,15}$/;

const ESTABLISHED: NftRule = { statements: [{ kind: "match", field: "ct state", value: "established,related" }, ACCEPT] };
/** Neighbour discovery is among what the kernel does not track. */
const UNTRACKED: NftRule = { statements: [{ kind: "match", field: "ct state", value: "untracked" }, ACCEPT] };
const INVALID: readonly NftStatement[] = [
  { kind: "match", field: "meta l4proto", op: "!=", value: "sctp" },
  { kind: "match", field: "ct state", value: "invalid" },
  { kind: "counter" },
  DROP,
];

/** Nothing at all without host endpoints. */
export function planHosts(input: HostPlanInput): HostPlan {
  if (input.hosts.length === 0) return { chains: [], sets: [] };
  const byInterface = assign(input);
  const chains: PlannedChain[] = [];
  const sets: PlannedSet[] = [];
  for (const hook of HOOKS) {
    const { chain, map } = planHook(hook, byInterface, input);
    sets.push(map);
    chains.push(...chain);
  }
  return { chains, sets };
}

/** The host endpoint of each interface: of several the one whose name sorts first. */
function assign({ hosts, interfaceOf, fail }: HostPlanInput): ReadonlyMap<string, HostEndpoint> {
  const byInterface = new Map<string, HostEndpoint>();
  for (const host of hosts.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const names = host.interfaceName === "" ? new Set(host.addresses.flatMap((address) => interfaceOf.get(address) ?? [])) : [host.interfaceName];
    if (host.interfaceName === "" && [...names].length === 0)
      fail(`host/${host.name}`, "no interface of this node has one of its expectedIPs: it is not in force");
    for (const name of names) {
      if (!INTERFACE_NAME.test(name)) {
        fail(`host/${host.name}`, `interface name ${JSON.stringify(name)} cannot be one: it is not in force`);
        continue;
      }
      const other = byInterface.get(name);
      if (other === undefined) byInterface.set(name, host);
      else if (other !== host) fail(`host/${host.name}`, `interface ${name} has host/${other.name} already: this one is not in force there`);
    }
  }
  return byInterface;
}

function planHook(
  hook: HostHook,
  byInterface: ReadonlyMap<string, HostEndpoint>,
  input: HostPlanInput,
): { readonly chain: readonly PlannedChain[]; readonly map: PlannedSet } {
  const field = hook.direction === "ingress" ? "iifname" : "oifname";
  const verdictOf = (host: HostEndpoint): NftVerdict => {
    const stack = host[hook.field];
    if (stack === "") return ACCEPT;
    const verdict = input.stackVerdict(stack, hook.direction, hook.field === "untrackedStack");
    if (verdict === undefined) input.fail(stack, `named by host/${host.name} and not in the view: ${hook.name} drops`);
    return verdict ?? DROP;
  };
  const elements: NftElement[] = [];
  for (const [name, host] of byInterface) if (name !== ALL_INTERFACES) elements.push({ key: name, data: verdictOf(host) });
  const all = byInterface.get(ALL_INTERFACES);
  const isNot = (name: string): NftMatch => ({ kind: "match", field, op: "!=", value: name });
  const isOther: readonly NftMatch[] = [isNot(LOOPBACK), isNot(`${input.interfacePrefix}*`)];
  const allRules: readonly NftRule[] =
    all === undefined ? [] : [{ statements: [...isOther, verdictOf(all)], comment: commentText(`host endpoint ${all.name}`) }];
  const names = elements.map(({ key }) => key);
  const isJudged: readonly NftMatch[] = all === undefined ? [{ kind: "match-any", field, values: names }] : isOther;
  // Of interfaces without a host endpoint nothing may be dropped here.
  const invalid: readonly NftRule[] = hook.state === "judges" && (all !== undefined || names.length > 0) ? [{ statements: [...isJudged, ...INVALID] }] : [];
  const map: PlannedSet = { set: { name: hook.name, key: ["ifname"], data: "verdict" }, elements };
  const judge: PlannedChain = {
    chain: { name: `${hook.name}/judge` },
    rules: [
      ...(hook.state === "none" ? [] : [ESTABLISHED, UNTRACKED, ...invalid]),
      ...failsafeRules(input.failsafePorts, hook.failsafes),
      { statements: [{ kind: "vmap", fields: [field], map: hook.name }] },
      ...allRules,
    ],
  };
  if (hook.base === undefined) return { chain: [{ ...judge, chain: { name: hook.name } }], map };
  const isPod: NftMatch = { kind: "match", field, value: `${input.interfacePrefix}*` };
  const dispatch: PlannedChain = {
    chain: { name: hook.name, base: { ...hook.base, policy: "accept" } },
    rules: [{ statements: [isPod, ACCEPT] }, { statements: [{ kind: "goto", chain: judge.chain.name }] }],
  };
  return { chain: [judge, dispatch], map };
}
