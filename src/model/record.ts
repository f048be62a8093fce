/**
 * Records as values: what compute makes, what the wire encodes, what the agent plans from. `proto/sedge/sync/v1/records.proto` says what each field
 * means; the shapes here are the same with addresses as canonical text.
 */
import type { Cidr } from "../net/cidr.ts";
import type { IpAddress, IpVersion } from "../net/ip.ts";
import type { NodeName } from "./names.ts";
import type { StatedSettings } from "./stated-settings.ts";
import type { TrafficLimits } from "./traffic-limits.ts";

/** "node/n1", "policy/KubernetesNetworkPolicy/shop/allow-web", … */
export type RecordKey = string;

export interface NodeEntry {
  readonly kind: "node";
  readonly name: NodeName;
  readonly addresses: readonly IpAddress[];
  readonly blocks: readonly Cidr[];
}

/** Addresses that a node has out of others' blocks, and floating addresses of its pods. */
export interface Borrowed {
  readonly kind: "borrowed";
  readonly node: NodeName;
  readonly addresses: readonly IpAddress[];
}

/** Addresses of one of the node's blocks that others have or ask for. */
export interface Loans {
  readonly kind: "loans";
  readonly block: Cidr;
  readonly loans: readonly Loan[];
}

export interface Loan {
  readonly address: IpAddress;
  readonly id: string;
  readonly isAgreed: boolean;
}

/** Pools that do not select the node. */
export interface NodePools {
  readonly kind: "node-pools";
  readonly node: NodeName;
  /** Names, sorted. */
  readonly excluded: readonly string[];
}

export interface NodeSettings extends StatedSettings {
  readonly kind: "node-settings";
  readonly node: NodeName;
}

export interface Pool {
  readonly kind: "pool";
  readonly name: string;
  readonly cidr: Cidr;
  readonly natOutgoing: boolean;
  /** Also of a selective one: nobody takes addresses from it who does not name it. */
  readonly disabled: boolean;
  readonly blockSize: number;
  /** Addresses only for endpoints that name it. */
  readonly isSelective?: true;
  readonly reserved?: readonly Cidr[];
  readonly cooldownSeconds?: number;
}

/** What a pod may have that is not what every pod of the node may. */
export interface AddressRequest {
  /** In order of preference; empty: those for every pod. */
  readonly pools: readonly string[];
  readonly addresses: readonly IpAddress[];
  /** Empty: every family that has a pool. */
  readonly ipVersions: readonly IpVersion[];
  /** "" for none. */
  readonly mac: string;
  /** Why the pod can have no address; "" for none. */
  readonly problem: string;
}

export interface Endpoint {
  readonly kind: "endpoint";
  readonly namespace: string;
  readonly pod: string;
  readonly uid: string;
  /** Record key of the stack, "" when no policy applies. */
  readonly stack: RecordKey;
  readonly addresses: readonly IpAddress[];
  readonly addressRequest?: AddressRequest;
  readonly limits?: TrafficLimits;
  /** Addresses that lead to the pod beside its own, sorted. Absent: none. */
  readonly floating?: readonly IpAddress[];
}

export type RuleAction = "allow" | "deny" | "pass" | "log" | "reject";

export interface Stack {
  readonly kind: "stack";
  readonly id: string;
  readonly tiers: readonly StackTier[];
  readonly noMatchAction: "allow" | "deny";
  /** Record keys of policies of kind Profile, tried after the last tier. Absent: none. */
  readonly profiles?: readonly RecordKey[];
  /** Absent: false. */
  readonly logDenied?: true;
}

/** An interface of the node itself. Keys of stacks are "" where nothing applies. */
export interface HostEndpoint {
  readonly kind: "host";
  readonly name: string;
  /** "*": every interface that is not a pod's; "": the one that has one of the addresses. */
  readonly interfaceName: string;
  readonly addresses: readonly IpAddress[];
  readonly stack: RecordKey;
  readonly forwardStack: RecordKey;
  readonly preDnatStack: RecordKey;
  readonly untrackedStack: RecordKey;
}

export interface StackTier {
  readonly name: string;
  readonly defaultAction: "deny" | "pass" | "reject";
  /** Record keys of policies, and of PolicyLists in place of the policies in them: `policy/stack-lists.ts` puts those in. */
  readonly ingress: readonly RecordKey[];
  readonly egress: readonly RecordKey[];
}

/** Part of a long list of a stack's policies. */
export interface PolicyList {
  readonly kind: "policy-list";
  /** Id of the stack. */
  readonly stack: string;
  readonly part: string;
  readonly policies: readonly RecordKey[];
}

export interface Policy {
  readonly kind: "policy";
  /** "KubernetesNetworkPolicy" for networking.k8s.io/v1; Calico's kinds keep their own names. */
  readonly policyKind: string;
  readonly namespace: string;
  readonly name: string;
  readonly tier: string;
  readonly ingress: readonly Rule[];
  readonly egress: readonly Rule[];
}

export interface Rule {
  readonly action: RuleAction;
  /** IP protocol number, 0 for any. */
  readonly protocol: number;
  readonly source: RuleSide;
  readonly destination: RuleSide;
  readonly origin: number;
  /** Absent: any. */
  readonly ipVersion?: IpVersion;
  /** IP protocol number that the packet must not have. */
  readonly notProtocol?: number;
  /** With protocol 1 (ICMP) or 58 (ICMPv6) only. */
  readonly icmp?: IcmpMatch;
  readonly notIcmp?: IcmpMatch;
  /** What a person called the rule. */
  readonly name?: string;
  /** With action "log". */
  readonly logPrefix?: string;
}

/** A type, and with a code only that code of it. */
export interface IcmpMatch {
  readonly type: number;
  readonly code?: number;
}

export interface RuleSide {
  readonly nets: readonly Cidr[];
  readonly notNets: readonly Cidr[];
  readonly sets: readonly string[];
  readonly notSets: readonly string[];
  readonly ports: readonly PortRange[];
  readonly portSets: readonly string[];
  /** Absent: none. A packet without ports is in no range and in no set. */
  readonly notPorts?: readonly PortRange[];
  readonly notPortSets?: readonly string[];
}

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

export type SetType = "address" | "address-port" | "prefix";

/** A member as canonical text: "10.0.0.1", "10.0.0.1,tcp:80" (protocol tcp, udp or sctp), "10.0.0.0/8". */
export type SetMember = string;

export interface SetShard {
  readonly kind: "set";
  readonly id: string;
  /** Bits of the trie; of prefixes beside addresses "n" and the bits. */
  readonly shard: string;
  readonly type: SetType;
  /** Sorted as the wire sorts them: IPv4 first, then by bytes. */
  readonly members: readonly SetMember[];
}

export type RecordValue = NodeEntry | Pool | Endpoint | Stack | PolicyList | Policy | SetShard | HostEndpoint | Borrowed | Loans | NodePools | NodeSettings;
export type RecordKind = RecordValue["kind"];

/** A record's key, from its value. */
export function recordKey(value: RecordValue): RecordKey {
  switch (value.kind) {
    case "node":
    case "pool":
    case "host":
      return `${value.kind}/${value.name}`;
    case "borrowed":
    case "node-pools":
    case "node-settings":
      return `${value.kind}/${value.node}`;
    case "loans":
      return `loans/${blockText(value.block)}`;
    case "endpoint":
      return `endpoint/${value.namespace}/${value.pod}`;
    case "stack":
      return `stack/${value.id}`;
    case "policy-list":
      return `policies/${value.stack}/${value.part}`;
    case "policy":
      return `policy/${value.policyKind}/${value.namespace}/${value.name}`;
    case "set":
      return `set/${value.id}/${value.shard}`;
  }
}

/** A block as its IPAMBlock is named: "10.0.0.0/26" is "10-0-0-0-26". */
export function blockText(block: Cidr): string {
  return block.replaceAll(/[.:/]/g, "-");
}

/**
 * One record's part of a commit. `value` undefined: the value stays (only the audience changes) or, with `isRemoved`, the record is gone.
 * Audience changes apply to scoped records; a record is for all nodes ("node", "pool") or scoped for its whole life, by its kind.
 */
export interface RecordChange {
  readonly key: RecordKey;
  readonly value: RecordValue | undefined;
  readonly isRemoved: boolean;
  /** Nodes that enter and leave the audience with this commit. Empty for records that all nodes have. */
  readonly entered: readonly NodeName[];
  readonly left: readonly NodeName[];
}

/** Kinds whose records all nodes have. */
export const SHARED_RECORD_KINDS: readonly RecordKind[] = ["node", "pool", "borrowed"];
