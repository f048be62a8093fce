/**
 * Why a rule does not match a packet, for people. Each condition of the rule is asked alone, by the evaluator that decides: the ones that fail are the
 * reason, so that what is told is what was decided.
 */
import type { Rule, RuleSide } from "../model/record.ts";
import { type Direction, type Packet, ruleMatches, type SetLookup } from "../policy/evaluate.ts";
import { protocolText } from "./protocol-text.ts";

/** A rule that does not match, and what of it does not. */
export interface TraceMiss {
  /** "spec.ingress[0]" */
  readonly rule: string;
  /** "wants source in endpoints with app == \"client\", and 10.65.0.3 is not" */
  readonly because: string;
}

const ANY: RuleSide = { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };

interface Asked {
  readonly direction: Direction;
  readonly packet: Packet;
  readonly sets: SetLookup;
  /** What sets are made of, by id. */
  readonly about: ReadonlyMap<string, string>;
}

/** undefined: nothing is amiss (a Log rule that matches goes on). */
export function missOf(rule: Rule, { direction, packet, sets, about }: Asked): TraceMiss | undefined {
  const { sourceAddress, destinationAddress, destinationPort, protocol } = packet;
  const bare: Rule = { action: rule.action, origin: rule.origin, protocol: 0, source: ANY, destination: ANY };
  const fails = (condition: Partial<Rule>): boolean => !ruleMatches({ ...bare, ...condition }, packet, sets);
  const nameOf = (id: string): string => about.get(id) ?? `set ${id}`;
  const problems: string[] = [];
  const { ipVersion, icmp, notIcmp, notProtocol } = rule;
  if (fails({ protocol: rule.protocol })) problems.push(`wants ${protocolText(rule.protocol)}, and this is ${protocolText(protocol)}`);
  if (notProtocol !== undefined && fails({ notProtocol })) problems.push(`is not for ${protocolText(notProtocol)}`);
  if (ipVersion !== undefined && fails({ ipVersion })) problems.push(`is for IPv${ipVersion} only`);
  if (icmp !== undefined && fails({ icmp })) problems.push(`wants ICMP type ${icmp.type}${icmp.code === undefined ? "" : ` code ${icmp.code}`}`);
  if (notIcmp !== undefined && fails({ notIcmp })) problems.push(`is not for ICMP type ${notIcmp.type}`);
  for (const end of ["source", "destination"] as const) {
    const side = rule[end];
    const address = end === "source" ? sourceAddress : destinationAddress;
    const isWrong = (part: Partial<RuleSide>): boolean => fails({ [end]: { ...ANY, ...part } });
    if (isWrong({ nets: side.nets })) problems.push(`wants its ${end} in ${side.nets.join(", ")}, and ${address} is not`);
    if (isWrong({ notNets: side.notNets })) problems.push(`leaves out ${end}s in ${side.notNets.join(", ")}, and ${address} is one`);
    for (const id of side.sets) if (isWrong({ sets: [id] })) problems.push(`wants its ${end} among the ${nameOf(id)}, and ${address} is not`);
    for (const id of side.notSets) if (isWrong({ notSets: [id] })) problems.push(`leaves out the ${nameOf(id)}, and its ${end} ${address} is one`);
    const port = end === "source" ? packet.sourcePort : destinationPort;
    const stated = { ports: side.ports, portSets: side.portSets };
    const portText = port === undefined ? "it is not known" : `this is ${port}`;
    if (isWrong(stated)) problems.push(`wants ${end} port ${portsText(stated, nameOf)}, and ${portText}`);
    const { notPorts = [], notPortSets = [] } = side;
    if (isWrong({ notPorts, notPortSets }))
      problems.push(`leaves out ${end} port ${portsText({ ports: notPorts, portSets: notPortSets }, nameOf)}, and ${portText}`);
  }
  return problems.length === 0 ? undefined : { rule: `spec.${direction}[${rule.origin}]`, because: problems.join("; ") };
}

function portsText({ ports, portSets }: Pick<RuleSide, "ports" | "portSets">, nameOf: (id: string) => string): string {
  return [...ports.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)), ...portSets.map((id) => nameOf(id))].join(" or ");
}
