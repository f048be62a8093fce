/** A converted policy as text, one line for its head and one for each rule: what conversion tables compare. */
import type { Converted, IntentRule, IntentSide } from "../../src/policy/intent.ts";

export function convertedText({ intent, problems, isUnderstood }: Converted): readonly string[] {
  const notes = problems.map(({ field }) => `${isUnderstood ? "not enforced" : "not understood"}: ${field}`);
  if (intent === undefined) return ["in force nowhere", ...notes];
  const { policyKind, tier, order, subject, stage = "normal", appliesOnForward } = intent;
  const marks = [stage === "normal" ? "" : ` ${stage}`, appliesOnForward === true ? " forward" : ""].join("");
  const rules = (["ingress", "egress"] as const).flatMap((direction) => {
    const list = intent[direction];
    return list === undefined ? [] : list.length === 0 ? [`${direction}: none`] : list.map((rule) => `${direction} ${rule.origin}: ${ruleText(rule)}`);
  });
  return [`${policyKind} in ${tier} at ${order ?? "the end"}${marks}: ${subject.canonical}`, ...rules, ...notes];
}

function ruleText({ action, protocol, notProtocol, ipVersion, icmp, notIcmp, name, source, destination }: IntentRule): string {
  const parts = [
    ipVersion === undefined ? "" : `v${ipVersion}`,
    protocol === 0 ? "" : `protocol ${protocol}`,
    notProtocol === undefined ? "" : `not protocol ${notProtocol}`,
    icmp === undefined ? "" : `icmp ${icmp.type}${icmp.code === undefined ? "" : `/${icmp.code}`}`,
    notIcmp === undefined ? "" : `not icmp ${notIcmp.type}${notIcmp.code === undefined ? "" : `/${notIcmp.code}`}`,
    sideText("from", source),
    sideText("to", destination),
    name === undefined ? "" : `"${name}"`,
  ];
  return [action, ...parts.filter((part) => part !== "")].join(" ");
}

function sideText(word: string, side: IntentSide): string {
  const { nets, notNets, selector, notSelector, nodes, service, ports, namedPorts, notPorts = [], notNamedPorts = [] } = side;
  const portText = (ranges: IntentSide["ports"], names: readonly string[]): string =>
    [...ranges.map(({ first, last }) => (first === last ? first : `${first}-${last}`)), ...names].join(",");
  const parts = [
    nets.length === 0 ? "" : `nets ${nets.join(",")}`,
    notNets.length === 0 ? "" : `not nets ${notNets.join(",")}`,
    selector === undefined ? "" : `[${selector.canonical}]`,
    notSelector === undefined ? "" : `not [${notSelector.canonical}]`,
    nodes === undefined ? "" : `nodes [${nodes.canonical}]`,
    service === undefined ? "" : `service ${service.namespace}/${service.name}${service.hasPorts ? " with its ports" : ""}`,
    ports.length + namedPorts.length === 0 ? "" : `ports ${portText(ports, namedPorts)}`,
    notPorts.length + notNamedPorts.length === 0 ? "" : `not ports ${portText(notPorts, notNamedPorts)}`,
  ].filter((part) => part !== "");
  return parts.length === 0 ? "" : `${word} ${parts.join(" ")}`;
}
