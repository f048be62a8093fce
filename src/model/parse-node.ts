/** v1 Node. The annotations of projectcalico.org win over status.addresses: an operator who sets them knows which interface carries pods. */
import { type IpAddress, type IpVersion, ipVersion, tryParseIp } from "../net/ip.ts";
import type { Parsed } from "./event.ts";
import { type Field, type ParseOptions, parseFields } from "./field.ts";
import type { NodeName } from "./names.ts";
import { type Metadata, readMetadata } from "./parse-metadata.ts";
import type { Node } from "./resource.ts";

const ADDRESS_ANNOTATIONS: readonly (readonly [IpVersion, string])[] = [
  [4, "projectcalico.org/IPv4Address"],
  [6, "projectcalico.org/IPv6Address"],
];

export function parseNode(object: unknown, options: ParseOptions = {}): Parsed<Node> {
  return parseFields(object, options, (root) => {
    const metadata = readMetadata(root);
    return {
      kind: "Node",
      name: metadata.name as NodeName,
      resourceVersion: metadata.resourceVersion,
      labels: metadata.labels,
      addresses: readAddresses(root, metadata),
    };
  });
}

function readAddresses(root: Field, metadata: Metadata): IpAddress[] {
  const internal = readInternalAddresses(root.child("status").child("addresses"));
  return ADDRESS_ANNOTATIONS.flatMap(([version, name]) => {
    const annotation = metadata.annotations[name];
    const address =
      annotation === undefined || annotation === ""
        ? internal.find((candidate) => ipVersion(candidate) === version)
        : annotatedAddress(root, name, annotation, version);
    return address === undefined ? [] : [address];
  });
}

function readInternalAddresses(field: Field): IpAddress[] {
  return field.items().flatMap((item) => {
    if (item.child("type").string() !== "InternalIP") return [];
    const text = item.child("address").string() ?? "";
    const address = tryParseIp(text);
    if (address === undefined) item.child("address").problem(`${JSON.stringify(text)} is not an IP address`);
    return address ?? [];
  });
}

/** "10.0.0.1" or "10.0.0.1/24". */
function annotatedAddress(root: Field, name: string, text: string, version: IpVersion): IpAddress | undefined {
  const address = tryParseIp(text.replace(/\/\d+$/, ""));
  if (address !== undefined && ipVersion(address) === version) return address;
  root
    .child("metadata")
    .child("annotations")
    .child(name)
    .problem(`${JSON.stringify(text)} is not an IPv${version} address (want ADDRESS or ADDRESS/LENGTH)`);
  return undefined;
}
