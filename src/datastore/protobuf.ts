/**
 * Kubernetes protobuf → the JSON shape of the same object, which is what the model's parsers take.
 *
 * Only fields that a parser reads exist in proto/kubernetes; the decoder skips the rest. The original writes every string, so "" means "not set" and is
 * left out here, as JSON leaves it out. Rejected: parsers for both forms, which would be two places where a policy's meaning is decided.
 */
import { type Container, Namespace, NamespaceList, Node, NodeList, Pod, PodList } from "./gen/kubernetes/core/v1/core.ts";
import { type ListMeta, type ObjectMeta, Status, Unknown } from "./gen/kubernetes/meta/v1/meta.ts";
import { NetworkPolicy, NetworkPolicyList, type NetworkPolicyPeer, type NetworkPolicyPort } from "./gen/kubernetes/networking/v1/networking.ts";
import type { JsonObject } from "./json-object.ts";

export interface DecodedList {
  readonly items: readonly unknown[];
  readonly resourceVersion: string;
  /** "" on the last page. */
  readonly continueToken: string;
}

/** First bytes of every protobuf body: "k8s" and a zero. */
const MAGIC = Buffer.from("k8s\0", "latin1");

/** Opens the envelope. Throws RangeError when the magic is missing. */
export function openEnvelope(bytes: Uint8Array): Unknown {
  if (bytes.length < MAGIC.length || !MAGIC.equals(bytes.subarray(0, MAGIC.length))) throw new RangeError("not a Kubernetes protobuf body (no k8s magic)");
  return Unknown.decode(bytes.subarray(MAGIC.length));
}

/** Decodes one object in its envelope; kinds that are not known here (a Table, a foreign object) throw RangeError. */
export function decodeProtobufObject(bytes: Uint8Array): JsonObject {
  const envelope = openEnvelope(bytes);
  const kind = envelope.typeMeta?.kind ?? "";
  const decode = OBJECTS[kind];
  if (decode === undefined) throw new RangeError(`protobuf object of kind ${JSON.stringify(kind)} is not known here`);
  return { apiVersion: envelope.typeMeta?.apiVersion, kind, ...decode(envelope.raw) };
}

export function decodeProtobufList(bytes: Uint8Array): DecodedList {
  const envelope = openEnvelope(bytes);
  const kind = envelope.typeMeta?.kind ?? "";
  const decode = LISTS[kind];
  if (decode === undefined) throw new RangeError(`protobuf list of kind ${JSON.stringify(kind)} is not known here`);
  return decode(envelope.raw);
}

const OBJECTS: Readonly<Record<string, (raw: Uint8Array) => JsonObject>> = {
  Node: (raw) => nodeJson(Node.decode(raw)),
  Namespace: (raw) => namespaceJson(Namespace.decode(raw)),
  Pod: (raw) => podJson(Pod.decode(raw)),
  NetworkPolicy: (raw) => networkPolicyJson(NetworkPolicy.decode(raw)),
  Status: (raw) => ({ ...Status.decode(raw) }),
};

const LISTS: Readonly<Record<string, (raw: Uint8Array) => DecodedList>> = {
  NodeList: (raw) => listJson(NodeList.decode(raw), nodeJson),
  NamespaceList: (raw) => listJson(NamespaceList.decode(raw), namespaceJson),
  PodList: (raw) => listJson(PodList.decode(raw), podJson),
  NetworkPolicyList: (raw) => listJson(NetworkPolicyList.decode(raw), networkPolicyJson),
};

function listJson<T>(list: { metadata: ListMeta | undefined; items: readonly T[] }, itemJson: (item: T) => JsonObject): DecodedList {
  return { items: list.items.map(itemJson), resourceVersion: list.metadata?.resourceVersion ?? "", continueToken: list.metadata?.continue ?? "" };
}

function metaJson(meta: ObjectMeta | undefined): JsonObject {
  return {
    name: set(meta?.name),
    namespace: set(meta?.namespace),
    uid: set(meta?.uid),
    resourceVersion: set(meta?.resourceVersion),
    labels: meta?.labels ?? {},
    annotations: meta?.annotations ?? {},
  };
}

function nodeJson(node: Node): JsonObject {
  return { apiVersion: "v1", kind: "Node", metadata: metaJson(node.metadata), status: { addresses: node.status?.addresses ?? [] } };
}

function namespaceJson(namespace: Namespace): JsonObject {
  return { apiVersion: "v1", kind: "Namespace", metadata: metaJson(namespace.metadata) };
}

function podJson({ metadata, spec, status }: Pod): JsonObject {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: metaJson(metadata),
    spec: {
      nodeName: set(spec?.nodeName),
      serviceAccountName: set(spec?.serviceAccountName),
      hostNetwork: spec?.hostNetwork ?? false,
      containers: (spec?.containers ?? []).map(containerJson),
      initContainers: (spec?.initContainers ?? []).map(containerJson),
    },
    status: { phase: set(status?.phase), hostIP: set(status?.hostIP), podIP: set(status?.podIP), podIPs: status?.podIPs ?? [] },
  };
}

function containerJson(container: Container): JsonObject {
  return {
    name: container.name,
    restartPolicy: set(container.restartPolicy),
    ports: container.ports.map((port) => ({
      name: set(port.name),
      containerPort: port.containerPort,
      protocol: set(port.protocol),
      hostPort: port.hostPort === 0 ? undefined : port.hostPort,
      hostIP: set(port.hostIP),
    })),
  };
}

function networkPolicyJson({ metadata, spec }: NetworkPolicy): JsonObject {
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: metaJson(metadata),
    spec: {
      podSelector: spec?.podSelector ?? {},
      policyTypes: spec?.policyTypes ?? [],
      ingress: (spec?.ingress ?? []).map((rule) => ({ ports: rule.ports.map(portJson), from: rule.from.map(peerJson) })),
      egress: (spec?.egress ?? []).map((rule) => ({ ports: rule.ports.map(portJson), to: rule.to.map(peerJson) })),
    },
  };
}

function peerJson({ podSelector, namespaceSelector, ipBlock }: NetworkPolicyPeer): JsonObject {
  return {
    ...(podSelector === undefined ? {} : { podSelector }),
    ...(namespaceSelector === undefined ? {} : { namespaceSelector }),
    ...(ipBlock === undefined ? {} : { ipBlock }),
  };
}

function portJson({ protocol, port, endPort }: NetworkPolicyPort): JsonObject {
  return {
    ...(protocol === undefined ? {} : { protocol }),
    ...(port === undefined ? {} : { port: port.type === 0 ? port.intVal : port.strVal }),
    ...(endPort === undefined ? {} : { endPort }),
  };
}

function set(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}
