/** projectcalico.org/v3 HostEndpoint: an interface of a node, as policy sees it. */
import { type IpAddress, tryParseIp } from "../net/ip.ts";
import type { Parsed } from "./event.ts";
import { type Field, type ParseOptions, parseFields } from "./field.ts";
import type { NodeName } from "./names.ts";
import { TOP_LEVEL } from "./parse-calico-policy.ts";
import { calicoPortNameProblem } from "./parse-calico-rule.ts";
import { OBJECT_META, readMetadata, reportIf } from "./parse-metadata.ts";
import { PORT_PROTOCOLS } from "./parse-pod.ts";
import type { HostEndpoint, NamedPort } from "./resource.ts";

/** Longest name of an interface (IFNAMSIZ without its zero byte). */
const MAX_INTERFACE_NAME = 15;

export function parseHostEndpoint(object: unknown, options: ParseOptions = {}): Parsed<HostEndpoint> {
  return parseFields(object, options, (root) => {
    root.object(TOP_LEVEL);
    root.child("metadata").object(OBJECT_META);
    const { name, resourceVersion, labels } = readMetadata(root);
    const spec = root.child("spec").object(["node", "interfaceName", "expectedIPs", "profiles", "ports"]);
    const interfaceName = spec.child("interfaceName").string() ?? "";
    if (interfaceName !== "" && interfaceName !== "*" && (interfaceName.length > MAX_INTERFACE_NAME || !/^[a-zA-Z0-9_.-]+$/.test(interfaceName)))
      spec.child("interfaceName").problem(`must be "*" or the name of an interface (1 to ${MAX_INTERFACE_NAME} of A-Z, a-z, 0-9, "_", "." and "-")`);
    const expectedIPs = spec.child("expectedIPs").items().flatMap(readAddress);
    if (interfaceName === "" && expectedIPs.length === 0) spec.problem("must have interfaceName or expectedIPs, or nothing says which interface it is");
    const profiles = spec
      .child("profiles")
      .items()
      .map((item) => item.requiredString("the name of a Profile"));
    return {
      kind: "HostEndpoint",
      name,
      resourceVersion,
      labels,
      node: spec.child("node").requiredString("the node that the interface is on") as NodeName,
      interfaceName,
      expectedIPs: [...new Set(expectedIPs)],
      profiles: [...new Set(profiles)],
      ports: spec.child("ports").items().flatMap(readPort),
    };
  });
}

function readAddress(field: Field): IpAddress[] {
  const text = field.requiredString("an IP address");
  const address = tryParseIp(text);
  if (address === undefined && text !== "") field.problem(`${JSON.stringify(text)} is not an IP address`);
  return address === undefined ? [] : [address];
}

function readPort(field: Field): NamedPort[] {
  field.object(["name", "protocol", "port"]);
  const name = field.child("name").requiredString("the port's name");
  if (name !== "") reportIf(field.child("name"), calicoPortNameProblem(name));
  if (field.child("protocol").isAbsent) field.child("protocol").problem(`is required: one of ${PORT_PROTOCOLS.join(", ")}`);
  const protocol = field.child("protocol").oneOf(PORT_PROTOCOLS);
  if (field.child("port").isAbsent) field.child("port").problem("is required: a number from 1 to 65535");
  const port = field.child("port").integer({ min: 1, max: 65535 });
  return name === "" || protocol === undefined || port === undefined ? [] : [{ name, protocol, port }];
}
