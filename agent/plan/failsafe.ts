/**
 * Ports of the host that policy cannot close, so that a wrong policy does not lock its author out. They do not exist for pods.
 *
 * Invariant: both lists hold for the host's own traffic alone; in the raw hooks, where nothing is tracked, the answers pass as well.
 */
import type { FailsafePort } from "../../src/model/stated-settings.ts";
import { cidrVersion, tryParseCidr } from "../../src/net/cidr.ts";
import type { NftField, NftMatch, NftRule } from "./nft/ruleset.ts";

export interface FailsafePorts {
  readonly inbound: readonly FailsafePort[];
  readonly outbound: readonly FailsafePort[];
}

/** "answers-…": packets the other way, of connections that the list allows. */
export type FailsafeSide = "inbound" | "outbound" | "answers-inbound" | "answers-outbound";

const CONTROL_PLANE: readonly string[] = ["tcp:179", "tcp:2379", "tcp:2380", "tcp:5473", "tcp:6443", "tcp:6666", "tcp:6667"];
export const DEFAULT_FAILSAFE_INBOUND: readonly string[] = ["tcp:22", "udp:68", ...CONTROL_PLANE];
export const DEFAULT_FAILSAFE_OUTBOUND: readonly string[] = ["udp:53", "udp:67", ...CONTROL_PLANE];

/** "tcp:22", "tcp:10.0.0.0/8:22", "tcp:[fd00::/8]:22". Undefined when it is none of these. */
export function parseFailsafePort(text: string): FailsafePort | undefined {
  const match = /^(tcp|udp|sctp):(?:\[?([0-9a-fA-F.:/]+?)\]?:)?(\d{1,5})$/.exec(text);
  if (match === null) return undefined;
  const port = Number(match[3]);
  const net = match[2] === undefined ? undefined : tryParseCidr(match[2]);
  if (port > 65_535 || (match[2] !== undefined && net === undefined)) return undefined;
  return { protocol: match[1] as FailsafePort["protocol"], port, ...(net === undefined ? {} : { net }) };
}

/** Throws RangeError naming the entry. */
export function failsafePorts(inbound: readonly string[] = DEFAULT_FAILSAFE_INBOUND, outbound: readonly string[] = DEFAULT_FAILSAFE_OUTBOUND): FailsafePorts {
  const parse = (text: string): FailsafePort => {
    const port = parseFailsafePort(text);
    if (port === undefined) throw new RangeError(`failsafe port ${JSON.stringify(text)}: want PROTOCOL:PORT or PROTOCOL:PREFIX:PORT, for example tcp:22`);
    return port;
  };
  return { inbound: inbound.map(parse), outbound: outbound.map(parse) };
}

/** One rule for each protocol and net. */
export function failsafeRules(ports: FailsafePorts, sides: readonly FailsafeSide[]): readonly NftRule[] {
  return sides.flatMap((side) => {
    const isAnswer = side.startsWith("answers-");
    const list = side.endsWith("inbound") ? ports.inbound : ports.outbound;
    // The other end is the source of what comes in; an answer goes the other way, from the port.
    const comesIn = side === "inbound" || side === "answers-outbound";
    const groups = new Map<string, Pick<FailsafePort, "protocol" | "net"> & { readonly ports: number[] }>();
    for (const { protocol, net, port } of list) {
      const name = `${protocol} ${net ?? ""}`;
      const group = groups.get(name) ?? { protocol, ...(net === undefined ? {} : { net }), ports: [] };
      group.ports.push(port);
      groups.set(name, group);
    }
    return [...groups.values()].map(({ protocol, net, ports: values }): NftRule => {
      const other = comesIn ? "saddr" : "daddr";
      const address: readonly NftMatch[] =
        net === undefined ? [] : [{ kind: "match", field: (cidrVersion(net) === 4 ? `ip ${other}` : `ip6 ${other}`) as NftField, value: net }];
      const field: NftField = `${protocol} ${isAnswer ? "sport" : "dport"}`;
      return { statements: [...address, { kind: "match-any", field, values }, { kind: "accept" }], comment: `failsafe ${side}` };
    });
  });
}
