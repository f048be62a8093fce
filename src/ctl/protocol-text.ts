/** IP protocols by the names that people have for them. */

const PROTOCOL_TEXTS: ReadonlyMap<number, string> = new Map([
  [0, "any"],
  [1, "icmp"],
  [6, "tcp"],
  [17, "udp"],
  [58, "icmpv6"],
  [132, "sctp"],
]);

export function protocolText(protocol: number): string {
  return PROTOCOL_TEXTS.get(protocol) ?? `protocol ${protocol}`;
}
