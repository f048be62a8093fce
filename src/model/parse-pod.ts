/** v1 Pod, trimmed to its place, its labels, its addresses and its named ports. */
import { type IpAddress, tryParseIp } from "../net/ip.ts";
import type { Parsed } from "./event.ts";
import { type Field, type ParseOptions, parseFields } from "./field.ts";
import type { NodeName } from "./names.ts";
import { readAddressing, readLimitAnnotations, readMetadata, readNamespace } from "./parse-metadata.ts";
import type { NamedPort, Pod, PortProtocol } from "./resource.ts";

export const PORT_PROTOCOLS: readonly PortProtocol[] = ["TCP", "UDP", "SCTP"];

/** A JSON list of addresses; understood in compute/floating.ts. */
const FLOATING_ANNOTATION = "cni.projectcalico.org/floatingIPs";

export function parsePod(object: unknown, options: ParseOptions = {}): Parsed<Pod> {
  return parseFields(object, options, (root) => {
    const { name, uid, resourceVersion, labels, annotations, createdAt } = readMetadata(root);
    const floating = annotations[FLOATING_ANNOTATION] ?? "";
    const spec = root.child("spec").object();
    const status = root.child("status").object();
    const node = spec.child("nodeName").string() ?? "";
    const phase = status.child("phase").string();
    return {
      kind: "Pod",
      namespace: readNamespace(root),
      name,
      uid,
      resourceVersion,
      labels,
      node: node === "" ? undefined : (node as NodeName),
      serviceAccount: spec.child("serviceAccountName").string() || spec.child("serviceAccount").string() || "default",
      hostNetwork: spec.child("hostNetwork").boolean() ?? false,
      isTerminated: phase === "Succeeded" || phase === "Failed",
      addresses: readAddresses(status),
      ...readAddressing(annotations),
      ...readLimitAnnotations(annotations),
      ...(floating === "" ? {} : { floating: { text: floating, createdAt } }),
      namedPorts: readNamedPorts(spec),
    };
  });
}

/** status.podIPs in the API's order (the first is the pod's primary address); status.podIP alone when there is no list. */
function readAddresses(status: Field): IpAddress[] {
  const list = status
    .child("podIPs")
    .items()
    .map((item) => item.child("ip"));
  const fields = list.length > 0 ? list : [status.child("podIP")];
  const addresses = fields.flatMap((field) => {
    const text = field.string() ?? "";
    if (text === "") return [];
    const address = tryParseIp(text);
    if (address === undefined) field.problem(`${JSON.stringify(text)} is not an IP address`);
    return address ?? [];
  });
  return [...new Set(addresses)];
}

/** Ports with a name of containers, and of the init containers that run beside them. */
function readNamedPorts(spec: Field): NamedPort[] {
  const sidecars = spec
    .child("initContainers")
    .items()
    .filter((container) => container.child("restartPolicy").string() === "Always");
  return [...spec.child("containers").items(), ...sidecars].flatMap((container) => container.child("ports").items().flatMap(readNamedPort));
}

function readNamedPort(field: Field): NamedPort[] {
  const name = field.child("name").string() ?? "";
  const protocol = field.child("protocol").isAbsent ? "TCP" : field.child("protocol").oneOf(PORT_PROTOCOLS);
  const port = field.child("containerPort").integer({ min: 1, max: 65535 });
  return name === "" || protocol === undefined || port === undefined ? [] : [{ name, protocol, port }];
}
