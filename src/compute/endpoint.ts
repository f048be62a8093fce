/**
 * A pod as policy sees it, and the namespace of which it inherits labels.
 *
 * Effective labels: the pod's own; projectcalico.org/namespace, /orchestrator and /serviceaccount; and the namespace's, each under `pcns.`. What a pod
 * inherits it cannot set itself: a label of its own that begins with `pcns.` or `pcsa.` does not count, or its author could pass for one of another
 * team's namespace. (Calico lets the pod's own label win.)
 */
import type { NamespaceName, NodeName, PodKey } from "../model/names.ts";
import type { Labels, NamedPort, Pod } from "../model/resource.ts";
import type { IpAddress } from "../net/ip.ts";
import { NAMESPACE_PREFIX } from "../selector/from-label-selector.ts";
import type { IndexedSelector, LabelItem, LabelParent, LabelValue } from "./label-index.ts";
import type { LabelPair } from "./selector-index.ts";
import { SmallSet } from "./small-collections.ts";

const NAMESPACE_LABEL = "projectcalico.org/namespace";
const ORCHESTRATOR_LABEL = "projectcalico.org/orchestrator";
const SERVICE_ACCOUNT_LABEL = "projectcalico.org/serviceaccount";
const COMPUTED_LABELS: readonly string[] = [NAMESPACE_LABEL, ORCHESTRATOR_LABEL, SERVICE_ACCOUNT_LABEL];
const INHERITED_PREFIXES: readonly string[] = [NAMESPACE_PREFIX, "pcsa."];
/** Longer names are no label values. Names of exactly 63 characters would be, and are left out as Calico leaves them out. */
const SERVICE_ACCOUNT_LENGTH_LIMIT = 63;

/** A namespace that exists, or that a pod is in. */
export class NamespaceState implements LabelParent<EndpointState> {
  readonly name: NamespaceName;
  labels: readonly LabelValue<EndpointState>[] = [];
  readonly items = new SmallSet<EndpointState>();
  /** The Namespace object has been seen. */
  exists = false;

  constructor(name: NamespaceName) {
    this.name = name;
  }
}

export class EndpointState implements LabelItem<EndpointState> {
  readonly key: PodKey;
  readonly namespace: string;
  readonly pod: string;
  readonly node: NodeName;
  readonly parent: NamespaceState;
  labels: readonly LabelValue<EndpointState>[] = [];
  readonly matched = new SmallSet<IndexedSelector<EndpointState>>();
  uid: string;
  /** As policy and records have them: of the blocks, else of the pod's status. Sorted. */
  addresses: readonly IpAddress[] = [];
  /** status.podIPs. */
  reported: readonly IpAddress[];
  namedPorts: readonly NamedPort[];

  constructor(options: { readonly key: PodKey; readonly pod: Pod; readonly node: NodeName; readonly parent: NamespaceState }) {
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

/** The node of a pod that policy applies to; undefined for one not scheduled, on the host's network, or over. */
export function endpointNode(pod: Pod): NodeName | undefined {
  return pod.hostNetwork || pod.isTerminated ? undefined : pod.node;
}

/** Labels that the pod itself has for selectors. */
export function ownLabels(pod: Pod): readonly LabelPair[] {
  const pairs: LabelPair[] = [];
  for (const [label, value] of Object.entries(pod.labels)) if (isOwn(label)) pairs.push([label, value]);
  if (pod.serviceAccount !== "" && pod.serviceAccount.length < SERVICE_ACCOUNT_LENGTH_LIMIT) pairs.push([SERVICE_ACCOUNT_LABEL, pod.serviceAccount]);
  return pairs;
}

function isOwn(label: string): boolean {
  return !COMPUTED_LABELS.includes(label) && !INHERITED_PREFIXES.some((prefix) => label.startsWith(prefix));
}

/**
 * Labels that a namespace hands down. `labels` undefined: its object has not been seen, so nothing is known that a namespace selector could match, not
 * even one that only excludes (conversion asks for the name's label beside each exclusion).
 */
export function inheritedLabels(name: NamespaceName, labels: Labels | undefined): readonly LabelPair[] {
  const pairs: LabelPair[] = [
    [NAMESPACE_LABEL, name],
    [ORCHESTRATOR_LABEL, "k8s"],
  ];
  if (labels === undefined) return pairs;
  const handedDown = { ...labels, "kubernetes.io/metadata.name": name, "projectcalico.org/name": name };
  for (const [label, value] of Object.entries(handedDown)) pairs.push([`${NAMESPACE_PREFIX}${label}`, value]);
  return pairs;
}
