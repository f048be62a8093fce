/** What policy needs of the objects around pods: v1 ServiceAccount, and discovery.k8s.io/v1 EndpointSlice for rules that name a Service. */
import { tryParseIp } from "../net/ip.ts";
import type { Parsed } from "./event.ts";
import { type Field, type ParseOptions, parseFields } from "./field.ts";
import { readMetadata, readNamespace } from "./parse-metadata.ts";
import { PORT_PROTOCOLS } from "./parse-pod.ts";
import type { EndpointSlice, ServiceAccount, ServiceEndpoint } from "./resource.ts";

export function parseServiceAccount(object: unknown, options: ParseOptions = {}): Parsed<ServiceAccount> {
  return parseFields(object, options, (root) => {
    const { name, resourceVersion, labels } = readMetadata(root);
    return { kind: "ServiceAccount", namespace: readNamespace(root), name, resourceVersion, labels };
  });
}

const SERVICE_NAME_LABEL = "kubernetes.io/service-name";

/** Slices of names (FQDN) have no endpoints that are known here. */
export function parseEndpointSlice(object: unknown, options: ParseOptions = {}): Parsed<EndpointSlice> {
  return parseFields(object, options, (root) => {
    const { name, resourceVersion, labels } = readMetadata(root);
    const isNamed = root.child("addressType").string() === "FQDN";
    const endpoints = isNamed ? [] : root.child("endpoints").items().map(readEndpoint);
    const ports = root
      .child("ports")
      .items()
      .flatMap((item) => {
        const protocol = item.child("protocol").isAbsent ? "TCP" : item.child("protocol").oneOf(PORT_PROTOCOLS);
        const port = item.child("port").integer({ min: 0, max: 65535 });
        return protocol === undefined || port === undefined ? [] : [{ protocol, port }];
      });
    const namespace = readNamespace(root);
    return {
      kind: "EndpointSlice",
      namespace,
      name,
      resourceVersion,
      service: labels[SERVICE_NAME_LABEL] ?? "",
      addresses: [...new Set(endpoints.flatMap(({ isReady, addresses }) => (isReady ? addresses : [])))].sort(),
      ports,
      endpoints,
    };
  });
}

function readEndpoint(endpoint: Field): ServiceEndpoint {
  const condition = (name: string): boolean | undefined => endpoint.child("conditions").child(name).boolean();
  const addresses = endpoint
    .child("addresses")
    .items()
    .flatMap((item) => {
      const text = item.string() ?? "";
      const address = tryParseIp(text);
      if (address === undefined) item.problem(`${JSON.stringify(text)} is not an IP address`);
      return address ?? [];
    });
  const target = endpoint.child("targetRef");
  const pod = target.child("name").string() ?? "";
  const isReady = condition("ready") !== false;
  return {
    addresses,
    target: pod === "" ? "" : `${target.child("namespace").string() ?? ""}/${pod}`,
    isReady,
    isServing: condition("serving") ?? isReady,
    isTerminating: condition("terminating") === true,
    zone: endpoint.child("zone").string() ?? "",
    forZones: endpoint
      .child("hints")
      .child("forZones")
      .items()
      .flatMap((zone) => zone.child("name").string() ?? []),
  };
}
