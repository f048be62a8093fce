/** Settings of agents that the cluster can state: in FelixConfiguration objects, and in the record that a node is told them by. */
import type { Cidr } from "../net/cidr.ts";

/** Settings that the cluster states for a node; what is absent is as the agent was started. */
export interface StatedSettings {
  readonly failsafeInbound?: readonly FailsafePort[];
  readonly failsafeOutbound?: readonly FailsafePort[];
  readonly endpointToHostAction?: EndpointToHostAction;
  readonly logPrefix?: string;
  readonly denyAction?: "drop" | "reject";
}

/** A port of hosts that no host endpoint closes. */
export interface FailsafePort {
  readonly protocol: "tcp" | "udp" | "sctp";
  readonly port: number;
  /** The other end has to be in it; absent: anywhere. */
  readonly net?: Cidr;
}

/** What becomes of a pod's packet to its own host that its policy allows. */
export type EndpointToHostAction = "accept" | "return" | "drop";
