/**
 * What selectors match: pods, network sets and host endpoints, each with labels of its own and those that it inherits.
 *
 * A pod has its own labels and inherits projectcalico.org/namespace, /orchestrator and /serviceaccount, its namespace's labels each under `pcns.` and its
 * service account's under `pcsa.`; a network set inherits those of its namespace; the others inherit nothing. What is inherited cannot be set: a label of
 * an object's own that begins with `pcns.` or `pcsa.` does not count, or its author could pass for one of another team's namespace. (Calico lets the
 * object's own label win.)
 */
import type { NamespaceName, NodeName, PodKey } from "../model/names.ts";
import type { Endpoint, SetMember } from "../model/record.ts";
import type { HostEndpoint, Labels, NamedPort, Pod } from "../model/resource.ts";
import { type Cidr, cidrAddress, cidrLength, cidrVersion } from "../net/cidr.ts";
import type { IpAddress } from "../net/ip.ts";
import { NAMESPACE_LABEL, SERVICE_ACCOUNT_LABEL } from "../policy/scope.ts";
import { NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX } from "../selector/from-label-selector.ts";
import type { IndexedSelector, LabelItem, LabelParent, LabelValue } from "./label-index.ts";
import type { LabelPair } from "./selector-index.ts";
import { SmallMap, SmallSet } from "./small-collections.ts";

const ORCHESTRATOR_LABEL = "projectcalico.org/orchestrator";
const COMPUTED_LABELS: readonly string[] = [NAMESPACE_LABEL, ORCHESTRATOR_LABEL, SERVICE_ACCOUNT_LABEL];
const INHERITED_PREFIXES: readonly string[] = [NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX];
/** Longer names are no label values. Names of exactly 63 characters would be, and are left out as Calico leaves them out. */
const SERVICE_ACCOUNT_LENGTH_LIMIT = 63;

export type PolicyItem = EndpointState | NetworkSetState | HostEndpointState;

/** What all pods of one service account in a namespace inherit; account "": what its network sets do. */
export class AccountState implements LabelParent<PolicyItem> {
  readonly namespace: NamespaceState;
  readonly account: string;
  labels: readonly LabelValue<PolicyItem>[] = [];
  readonly items = new SmallSet<PolicyItem>();

  constructor(namespace: NamespaceState, account: string) {
    this.namespace = namespace;
    this.account = account;
  }
}

/** A namespace that exists, or that something is in. */
export class NamespaceState {
  readonly name: NamespaceName;
  /** undefined: its object has not been seen. */
  labels: Labels | undefined;
  /** What is denied to and from its pods is logged. */
  logsDenied = false;
  readonly accounts = new SmallMap<string, AccountState>();

  constructor(name: NamespaceName) {
    this.name = name;
  }
}

/** Of what is in no namespace. */
export class RootState implements LabelParent<PolicyItem> {
  labels: readonly LabelValue<PolicyItem>[] = [];
  readonly items = new SmallSet<PolicyItem>();
}

export interface CommittedEndpoint {
  readonly record: Endpoint;
  readonly node: NodeName;
}

/** A pod that policy applies to. */
export class EndpointState implements LabelItem<PolicyItem> {
  readonly kind = "pod";
  readonly key: PodKey;
  readonly namespace: string;
  readonly pod: string;
  readonly node: NodeName;
  readonly parent: AccountState;
  labels: readonly LabelValue<PolicyItem>[] = [];
  readonly matched = new SmallSet<IndexedSelector<PolicyItem>>();
  /** Kept by Stacks; undefined: no policy applies. */
  membership: object | undefined = undefined;
  /** What the last commit said of it; undefined: nothing. */
  committed: CommittedEndpoint | undefined = undefined;
  uid: string;
  /** As policy and records have them: of the blocks, else of the pod's status. Sorted. */
  addresses: readonly IpAddress[] = [];
  /** status.podIPs. */
  reported: readonly IpAddress[];
  namedPorts: readonly NamedPort[];

  constructor(options: { readonly key: PodKey; readonly pod: Pod; readonly node: NodeName; readonly parent: AccountState }) {
    this.key = options.key;
    this.namespace = options.pod.namespace;
    this.pod = options.pod.name;
    this.node = options.node;
    this.parent = options.parent;
    this.uid = options.pod.uid;
    this.reported = options.pod.addresses;
    this.namedPorts = options.pod.namedPorts;
  }
}

/** A GlobalNetworkSet, or a NetworkSet. */
export class NetworkSetState implements LabelItem<PolicyItem> {
  readonly kind = "network-set";
  readonly parent: AccountState | RootState;
  labels: readonly LabelValue<PolicyItem>[] = [];
  readonly matched = new SmallSet<IndexedSelector<PolicyItem>>();
  nets: readonly Cidr[];
  /**
   * Its nets as members of sets. A prefix of one address is that address: most lists of networks are of these, and addresses are a hash table in the kernel,
   * where one more costs the same among a hundred thousand; prefixes are a tree that is gone through whole at each change.
   */
  members: readonly SetMember[];

  constructor(options: { readonly parent: AccountState | RootState; readonly nets: readonly Cidr[] }) {
    this.parent = options.parent;
    this.nets = options.nets;
    this.members = netMembers(options.nets);
  }
}

export class HostEndpointState implements LabelItem<PolicyItem> {
  readonly kind = "host";
  readonly name: string;
  readonly node: NodeName;
  readonly parent: RootState;
  labels: readonly LabelValue<PolicyItem>[] = [];
  readonly matched = new SmallSet<IndexedSelector<PolicyItem>>();
  /** Kept by Stacks. */
  membership: object | undefined = undefined;
  /** metadata.labels. */
  ownLabels: Labels;
  interfaceName: string;
  /** spec.expectedIPs, sorted. */
  addresses: readonly IpAddress[];
  profiles: readonly string[];
  namedPorts: readonly NamedPort[];

  constructor(options: { readonly host: HostEndpoint; readonly addresses: readonly IpAddress[]; readonly parent: RootState }) {
    const { name, node, interfaceName, profiles, ports } = options.host;
    this.name = name;
    this.node = node;
    this.parent = options.parent;
    this.ownLabels = options.host.labels;
    this.interfaceName = interfaceName;
    this.addresses = options.addresses;
    this.profiles = profiles;
    this.namedPorts = ports;
  }
}

export function netMembers(nets: readonly Cidr[]): readonly SetMember[] {
  return nets.map((net) => (cidrLength(net) === (cidrVersion(net) === 4 ? 32 : 128) ? cidrAddress(net) : net));
}

/** The node of a pod that policy applies to; undefined for one not scheduled, on the host's network, or over. */
export function endpointNode(pod: Pod): NodeName | undefined {
  return pod.hostNetwork || pod.isTerminated ? undefined : pod.node;
}

/** The labels of an object of its own that selectors see. */
export function ownLabels(labels: Labels): readonly LabelPair[] {
  const pairs = Object.entries(labels);
  for (const [label] of pairs) if (!isOwn(label)) return pairs.filter(([other]) => isOwn(other));
  return pairs;
}

function isOwn(label: string): boolean {
  // Nearly all are told apart by this alone.
  if (!label.startsWith("p")) return true;
  return !COMPUTED_LABELS.includes(label) && !INHERITED_PREFIXES.some((prefix) => label.startsWith(prefix));
}

/**
 * Labels that a namespace and a service account ("": none, the item is no pod) hand down. Labels that are undefined: the object has not been seen, so
 * nothing is known that a selector over namespaces or accounts could match, not even one that only excludes (conversion asks for the name's label
 * beside each exclusion).
 */
export function inheritedLabels({ namespace, account }: AccountState, accountLabels: Labels | undefined): readonly LabelPair[] {
  const pairs: LabelPair[] = [[NAMESPACE_LABEL, namespace.name]];
  if (account !== "") {
    pairs.push([ORCHESTRATOR_LABEL, "k8s"]);
    if (account.length < SERVICE_ACCOUNT_LENGTH_LIMIT) pairs.push([SERVICE_ACCOUNT_LABEL, account]);
  }
  if (namespace.labels !== undefined) {
    const handedDown = { ...namespace.labels, "kubernetes.io/metadata.name": namespace.name, "projectcalico.org/name": namespace.name };
    for (const [label, value] of Object.entries(handedDown)) pairs.push([`${NAMESPACE_PREFIX}${label}`, value]);
  }
  if (accountLabels !== undefined) {
    const handedDown = { ...accountLabels, "projectcalico.org/name": account };
    for (const [label, value] of Object.entries(handedDown)) pairs.push([`${SERVICE_ACCOUNT_PREFIX}${label}`, value]);
  }
  return pairs;
}
