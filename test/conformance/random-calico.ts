/** Calico policies, tiers and network sets for the cases' world, made from a seed. */
import { NAMESPACE_LABELS, OUTSIDE, PODS } from "./cases/world.ts";
import type { CalicoSet, CalicoWorld, Condition, Entity, IcmpType, Policy, Rule, Tier } from "./naive-calico.ts";
import { Dice } from "./random-policies.ts";

const NAMESPACES = Object.keys(NAMESPACE_LABELS);
const LABELS: Readonly<Record<string, readonly string[]>> = { pod: ["a", "b", "c"], tier: ["front", "back"], role: ["s", "t"] };
const NETS4 = ["10.65.0.0/16", "10.65.1.0/24", "10.65.2.0/31", "10.65.3.2/32", "172.31.0.0/16", "0.0.0.0/0"];
const NETS6 = ["fd00:65::/64", "fd00:65::2:0/112", "fd00:31::1/128", "::/0"];
const PROTOCOLS = ["TCP", "UDP", "SCTP"];

export function randomCalicoWorld(seed: number): CalicoWorld {
  const dice = new Dice(seed + 101);
  const sets = new Map(dice.several(0, 3, () => setOf(dice)).map((set) => [`${set.namespace}/${set.name}`, set]));
  const policies = new Map(dice.several(1, 6, () => policyOf(dice)).map((policy) => [`${policy.namespace}/${policy.name}`, policy]));
  const tiers = dice.chance(70) ? [tierOf(dice, "first"), ...(dice.chance(50) ? [tierOf(dice, "last")] : [])] : [];
  return {
    namespaces: NAMESPACE_LABELS,
    pods: PODS.map(({ v4, v6, node: _node, ...pod }) => ({ ...pod, account: "default", addresses: [v4, v6] })),
    sets: [...sets.values()],
    tiers,
    policies: [...policies.values()],
  };
}

function tierOf(dice: Dice, name: string): Tier {
  return { name, order: dice.pick([10, 5_000_000]), defaultAction: dice.pick(["Deny", "Pass"]) };
}

function setOf(dice: Dice): CalicoSet {
  const nets = [...NETS4, ...NETS6, `${OUTSIDE.v4}/32`].filter(() => dice.chance(25));
  return { namespace: dice.pick(["", "", ...NAMESPACES]), name: dice.pick(["s", "t"]), labels: { role: dice.pick(["s", "t"]) }, nets };
}

function policyOf(dice: Dice): Policy {
  const namespace = dice.pick(["", "", ...NAMESPACES]);
  const ingress = dice.chance(70) ? dice.several(0, 4, () => ruleOf(dice)) : undefined;
  const egress = ingress === undefined || dice.chance(50) ? dice.several(0, 4, () => ruleOf(dice)) : undefined;
  return {
    namespace,
    name: dice.pick(["p", "q", "r", "s"]),
    tier: dice.pick(["default", "default", "first", "last"]),
    ...(dice.chance(80) ? { order: dice.pick([1, 2, 2_000]) } : {}),
    selector: dice.chance(40) ? { operator: "all", label: "", value: "" } : conditionOf(dice),
    ...(namespace === "" && dice.chance(30) ? { namespaceSelector: namespaceCondition(dice) } : {}),
    ingress,
    egress,
  };
}

function ruleOf(dice: Dice): Rule {
  const version = dice.pick([4, 4, 6] as const);
  const action = dice.pick(["Allow", "Allow", "Allow", "Deny", "Pass", "Log"] as const);
  const [source, destination] = [dice.chance(60) ? entityOf(dice, version) : {}, dice.chance(40) ? entityOf(dice, version) : {}];
  const family = dice.chance(15) ? { ipVersion: version } : {};
  switch (dice.below(5)) {
    case 4: {
      // A family that cannot be is refused; that of the prefixes may be another one, and the rule then matches nothing.
      const protocol = dice.pick(["ICMP", "ICMPv6"] as const);
      const types: readonly IcmpType[] =
        protocol === "ICMP" ? [{ type: 8 }, { type: 8, code: 0 }, { type: 0 }, { type: 8, code: 3 }] : [{ type: 128 }, { type: 128, code: 0 }, { type: 129 }];
      const icmp = dice.pick([{}, { icmp: dice.pick(types) }, { notICMP: dice.pick(types) }]);
      return { action, protocol, ...icmp, source, destination };
    }
    case 0:
      return { action, ...family, protocol: dice.pick(PROTOCOLS), source, destination: { ...destination, ...portsOf(dice) } };
    case 1:
      return { action, ...family, notProtocol: dice.pick([...PROTOCOLS, "ICMP", "ICMPv6"]), source, destination };
    case 2:
      return { action, ...family, source, destination: { ...destination, ports: [dice.pick(["web", "alt", "web-udp"])] } };
    default:
      return { action, ...family, source, destination };
  }
}

function portsOf(dice: Dice): Entity {
  const port = (): number | string => dice.pick([80, 81, 82, "web", "alt", "web-udp", "web-sctp"]);
  return { ...(dice.chance(70) ? { ports: dice.several(1, 3, port) } : {}), ...(dice.chance(30) ? { notPorts: [port()] } : {}) };
}

/** One or two of its parts. */
function entityOf(dice: Dice, version: 4 | 6): Entity {
  const nets = version === 4 ? NETS4 : NETS6;
  const part = (): Entity => {
    switch (dice.below(7)) {
      case 0:
        return { nets: dice.several(1, 2, () => dice.pick(nets)) };
      case 1:
        return { notNets: [dice.pick(nets.filter((net) => !net.endsWith("/0")))] };
      case 2:
        return { notSelector: conditionOf(dice) };
      case 3:
        return { namespaceSelector: namespaceCondition(dice) };
      case 4:
        return { accounts: dice.pick([["default"], ["other"]]) };
      default:
        return { selector: conditionOf(dice) };
    }
  };
  return { ...part(), ...(dice.chance(40) ? part() : {}) };
}

function conditionOf(dice: Dice): Condition {
  const label = dice.pick(Object.keys(LABELS));
  return { operator: dice.pick(["==", "==", "==", "!=", "has", "!has"]), label, value: dice.pick(LABELS[label] ?? [""]) };
}

function namespaceCondition(dice: Dice): Condition {
  return dice.pick<Condition>([
    { operator: "==", label: "team", value: dice.pick(["red", "blue"]) },
    { operator: "!=", label: "stage", value: "test" },
    { operator: dice.pick(["has", "!has"]), label: "team", value: "" },
    { operator: dice.pick(["all", "global"]), label: "", value: "" },
  ]);
}
