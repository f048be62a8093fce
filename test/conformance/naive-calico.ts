/**
 * Calico's policies decided straight from the text of its documentation, over plain objects: tiers, orders, rules, scoping, sets, named ports.
 *
 * Shares nothing with the program but the arithmetic of addresses. Selectors are single conditions here, with a text for the program: the language itself
 * has tests of its own.
 */
import { cidrContains, parseCidr } from "../../src/net/cidr.ts";
import { ipVersion, parseIp } from "../../src/net/ip.ts";

export interface Condition {
  readonly operator: "==" | "!=" | "has" | "!has" | "all" | "global";
  readonly label: string;
  readonly value: string;
}

export interface CalicoPod {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly account: string;
  readonly addresses: readonly string[];
  readonly ports: readonly { readonly name: string; readonly protocol: string; readonly port: number }[];
}

export interface CalicoSet {
  /** "" for a global one. */
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly nets: readonly string[];
}

export interface Entity {
  readonly nets?: readonly string[];
  readonly notNets?: readonly string[];
  readonly selector?: Condition;
  readonly notSelector?: Condition;
  readonly namespaceSelector?: Condition;
  readonly accounts?: readonly string[];
  readonly ports?: readonly (number | string)[];
  readonly notPorts?: readonly (number | string)[];
}

export interface IcmpType {
  readonly type: number;
  readonly code?: number;
}

export interface Rule {
  readonly action: "Allow" | "Deny" | "Pass" | "Log";
  readonly ipVersion?: 4 | 6;
  readonly protocol?: string;
  readonly notProtocol?: string;
  readonly icmp?: IcmpType;
  readonly notICMP?: IcmpType;
  readonly source: Entity;
  readonly destination: Entity;
}

export interface Policy {
  /** "" for a global one. */
  readonly namespace: string;
  readonly name: string;
  readonly tier: string;
  readonly order?: number;
  readonly selector: Condition;
  /** Of a global one. */
  readonly namespaceSelector?: Condition;
  readonly ingress: readonly Rule[] | undefined;
  readonly egress: readonly Rule[] | undefined;
}

export interface Tier {
  readonly name: string;
  readonly order: number;
  readonly defaultAction: "Deny" | "Pass";
}

export interface CalicoWorld {
  readonly namespaces: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly pods: readonly CalicoPod[];
  readonly sets: readonly CalicoSet[];
  readonly tiers: readonly Tier[];
  readonly policies: readonly Policy[];
}

export interface Connection {
  readonly source: string;
  readonly destination: string;
  readonly protocol: string;
  readonly port: number | undefined;
}

export function conditionText({ operator, label, value }: Condition): string {
  if (operator === "all" || operator === "global") return `${operator}()`;
  if (operator === "has") return `has(${label})`;
  return operator === "!has" ? `!has(${label})` : `${label} ${operator} '${value}'`;
}

/** Both ends let it pass; an address that is no pod's has no policy. */
export function passes(world: CalicoWorld, connection: Connection): boolean {
  const podAt = (address: string): CalicoPod | undefined => world.pods.find(({ addresses }) => addresses.includes(address));
  const from = podAt(connection.source);
  const to = podAt(connection.destination);
  if (from !== undefined && from === to) return true;
  return decides(world, from, "egress", connection) && decides(world, to, "ingress", connection);
}

function decides(world: CalicoWorld, pod: CalicoPod | undefined, direction: "ingress" | "egress", connection: Connection): boolean {
  if (pod === undefined) return true;
  const mine = world.policies.filter((policy) => policy[direction] !== undefined && appliesTo(world, policy, pod));
  const known = new Map(world.tiers.map((tier) => [tier.name, tier]));
  const orderOf = (name: string): number => (name === "default" ? 1_000_000 : (known.get(name)?.order ?? Number.POSITIVE_INFINITY));
  const names = [...new Set(mine.map(({ tier }) => tier))].sort((a, b) => orderOf(a) - orderOf(b) || (a < b ? -1 : 1));
  for (const name of names) {
    const verdict = tierVerdict(world, mine.filter(({ tier }) => tier === name).sort(byOrder), direction, connection);
    if (verdict === "Allow") return true;
    if (verdict === "Deny" || (verdict === undefined && known.get(name)?.defaultAction !== "Pass")) return false;
  }
  return true;
}

function byOrder(a: Policy, b: Policy): number {
  const [first, second] = [a.order ?? Number.POSITIVE_INFINITY, b.order ?? Number.POSITIVE_INFINITY];
  if (first !== second) return first < second ? -1 : 1;
  const key = ({ namespace, name }: Policy): string => `${namespace === "" ? "GlobalNetworkPolicy" : "NetworkPolicy"}/${namespace}/${name}`;
  return key(a) < key(b) ? -1 : 1;
}

function tierVerdict(
  world: CalicoWorld,
  policies: readonly Policy[],
  direction: "ingress" | "egress",
  connection: Connection,
): "Allow" | "Deny" | "Pass" | undefined {
  for (const policy of policies) {
    for (const rule of policy[direction] ?? []) {
      if (rule.action !== "Log" && ruleMatches(world, policy.namespace, rule, connection)) return rule.action;
    }
  }
  return undefined;
}

function appliesTo(world: CalicoWorld, policy: Policy, pod: CalicoPod): boolean {
  if (policy.namespace !== "" && policy.namespace !== pod.namespace) return false;
  if (policy.namespaceSelector !== undefined && !namespaceHolds(world, policy.namespaceSelector, pod.namespace)) return false;
  return holds(policy.selector, pod.labels);
}

function holds({ operator, label, value }: Condition, labels: Readonly<Record<string, string>>): boolean {
  switch (operator) {
    case "all":
    case "global":
      return true;
    case "has":
      return labels[label] !== undefined;
    case "!has":
      return labels[label] === undefined;
    case "==":
      return labels[label] === value;
    case "!=":
      return labels[label] !== value;
  }
}

/** `namespace` "": of what is in none. */
function namespaceHolds(world: CalicoWorld, condition: Condition, namespace: string): boolean {
  if (condition.operator === "global") return namespace === "";
  return namespace !== "" && holds(condition, world.namespaces[namespace] ?? {});
}

function ruleMatches(world: CalicoWorld, namespace: string, rule: Rule, connection: Connection): boolean {
  const { source, destination, port } = connection;
  const version = ipVersion(parseIp(source));
  const protocol = connection.protocol === "ICMP" && version === 6 ? "ICMPv6" : connection.protocol;
  if (rule.ipVersion !== undefined && rule.ipVersion !== version) return false;
  if (rule.protocol !== undefined && rule.protocol !== protocol) return false;
  if (rule.notProtocol !== undefined && rule.notProtocol === protocol) return false;
  // All that is sent of ICMP is an echo request.
  const isEcho = ({ type, code = 0 }: IcmpType): boolean => type === (version === 4 ? 8 : 128) && code === 0;
  const isIcmp = protocol === "ICMP" || protocol === "ICMPv6";
  if (rule.icmp !== undefined && !(isIcmp && isEcho(rule.icmp))) return false;
  if (rule.notICMP !== undefined && !(isIcmp && !isEcho(rule.notICMP))) return false;
  return (
    entityMatches(world, namespace, rule, rule.source, { address: source, protocol, port: port === undefined ? undefined : 40_000 }) &&
    entityMatches(world, namespace, rule, rule.destination, { address: destination, protocol, port })
  );
}

interface End {
  readonly address: string;
  readonly protocol: string;
  readonly port: number | undefined;
}

function entityMatches(world: CalicoWorld, namespace: string, rule: Rule, entity: Entity, end: End): boolean {
  const inNet = (net: string): boolean => cidrContains(parseCidr(net), parseIp(end.address));
  if ((entity.nets ?? []).length > 0 && entity.nets?.some(inNet) !== true) return false;
  if (entity.notNets?.some(inNet) === true) return false;
  const things = [...world.pods, ...world.sets].filter((thing) => ("nets" in thing ? thing.nets.some(inNet) : thing.addresses.includes(end.address)));
  const isLimited = namespace !== "" && [entity.selector, entity.notSelector, entity.namespaceSelector, entity.accounts].some((part) => part !== undefined);
  const isStated = isLimited || [entity.selector, entity.namespaceSelector, entity.accounts].some((part) => part !== undefined);
  const isPeer = (thing: CalicoPod | CalicoSet): boolean => {
    if (entity.namespaceSelector !== undefined) {
      if (!namespaceHolds(world, entity.namespaceSelector, thing.namespace)) return false;
    } else if (isLimited && thing.namespace !== namespace) return false;
    if (entity.accounts !== undefined && (!("account" in thing) || !entity.accounts.includes(thing.account))) return false;
    return entity.selector === undefined || holds(entity.selector, thing.labels);
  };
  if (isStated && !things.some(isPeer)) return false;
  const { notSelector } = entity;
  if (notSelector !== undefined && things.some((thing) => holds(notSelector, thing.labels))) return false;
  const isPort = (port: number | string): boolean => {
    if (typeof port === "number") return end.port === port;
    return things.some(
      (thing) =>
        "ports" in thing &&
        (!isStated || isPeer(thing)) &&
        thing.ports.some(
          (named) => named.name === port && named.protocol === end.protocol && named.port === end.port && (rule.protocol ?? end.protocol) === end.protocol,
        ),
    );
  };
  if ((entity.ports ?? []).length > 0 && entity.ports?.some(isPort) !== true) return false;
  return entity.notPorts?.some(isPort) !== true;
}
