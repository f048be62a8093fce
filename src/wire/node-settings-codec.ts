/** NodeSettings of records.proto, to and from its value. */

import type { NodeName } from "../model/names.ts";
import type { NodeSettings } from "../model/record.ts";
import type { FailsafePort } from "../model/stated-settings.ts";
import type * as gen from "./gen/sedge/sync/v1/records.ts";
import { prefixFromWire, prefixToWire } from "./prefix-codec.ts";

const PROTOCOLS = { tcp: 6, udp: 17, sctp: 132 } as const;
const ACTIONS = ["accept", "return", "drop"] as const;
const DENY_ACTIONS = ["drop", "reject"] as const;

export function settingsToWire(value: NodeSettings): gen.NodeSettings {
  return {
    node: value.node,
    failsafeInbound: value.failsafeInbound && failsafeToWire(value.failsafeInbound),
    failsafeOutbound: value.failsafeOutbound && failsafeToWire(value.failsafeOutbound),
    endpointToHostAction: value.endpointToHostAction ?? "",
    logPrefix: value.logPrefix ?? "",
    denyAction: value.denyAction ?? "",
  };
}

/** undefined: it says something that is not known here. */
export function settingsFromWire({
  node,
  failsafeInbound,
  failsafeOutbound,
  endpointToHostAction,
  logPrefix,
  denyAction,
}: gen.NodeSettings): NodeSettings | undefined {
  const inbound = failsafeInbound === undefined ? undefined : failsafeFromWire(failsafeInbound);
  const outbound = failsafeOutbound === undefined ? undefined : failsafeFromWire(failsafeOutbound);
  const toHost = ACTIONS.find((action) => action === endpointToHostAction);
  const deny = DENY_ACTIONS.find((action) => action === denyAction);
  const isKnown =
    (failsafeInbound === undefined) === (inbound === undefined) &&
    (failsafeOutbound === undefined) === (outbound === undefined) &&
    (endpointToHostAction === "") === (toHost === undefined) &&
    (denyAction === "") === (deny === undefined);
  if (!isKnown) return undefined;
  return {
    kind: "node-settings",
    node: node as NodeName,
    ...(inbound === undefined ? {} : { failsafeInbound: inbound }),
    ...(outbound === undefined ? {} : { failsafeOutbound: outbound }),
    ...(toHost === undefined ? {} : { endpointToHostAction: toHost }),
    ...(logPrefix === "" ? {} : { logPrefix }),
    ...(deny === undefined ? {} : { denyAction: deny }),
  };
}

function failsafeToWire(ports: readonly FailsafePort[]): gen.FailsafePorts {
  return { ports: ports.map(({ protocol, port, net }) => ({ protocol: PROTOCOLS[protocol], port, net: net && prefixToWire(net) })) };
}

/** undefined: a port is of a protocol that is not known here. */
function failsafeFromWire({ ports }: gen.FailsafePorts): readonly FailsafePort[] | undefined {
  const names = Object.keys(PROTOCOLS) as FailsafePort["protocol"][];
  const read = ports.flatMap(({ protocol, port, net }): FailsafePort[] => {
    const name = names.find((candidate) => PROTOCOLS[candidate] === protocol);
    return name === undefined ? [] : [{ protocol: name, port, ...(net === undefined ? {} : { net: prefixFromWire(net) }) }];
  });
  return read.length === ports.length ? read : undefined;
}
