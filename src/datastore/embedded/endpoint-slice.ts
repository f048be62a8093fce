/** EndpointSlice (discovery.k8s.io/v1): its defaults, its validation and its columns, as kube-apiserver has them (pkg/apis/discovery, pkg/printers). */
import { isIP } from "node:net";
import { column } from "./columns.ts";
import type { JsonObject, JsonValue } from "./json.ts";
import { arrayAt, equalJson, isObject, stringAt, valueAt } from "./json.ts";
import { dnsSubdomainProblems } from "./names.ts";
import type { Column, KindRules } from "./resource-type.ts";
import type { Cause } from "./status.ts";
import { fieldInvalid, fieldNotSupported, fieldRequired } from "./status.ts";

const ADDRESS_TYPES: readonly JsonValue[] = ["FQDN", "IPv4", "IPv6"];
const PROTOCOLS: readonly JsonValue[] = ["SCTP", "TCP", "UDP"];
const MAX_ADDRESSES = 100;
/** Entries of a list that a column shows. */
const SHOWN = 3;

export const endpointSliceRules: KindRules = { nameProblems: dnsSubdomainProblems, defaults: fillIn, validate: problems };

function fillIn(slice: JsonObject): void {
  for (const port of arrayAt(slice, "ports")) {
    if (!isObject(port)) continue;
    port["name"] ??= "";
    port["protocol"] ??= "TCP";
  }
}

function problems(slice: JsonObject, before: JsonObject | undefined): Cause[] {
  const type = stringAt(slice, "addressType");
  const causes: Cause[] = [];
  if (type === "") causes.push(fieldRequired("addressType"));
  else if (!ADDRESS_TYPES.includes(type)) causes.push(fieldNotSupported("addressType", type, ["FQDN", "IPv4", "IPv6"]));
  if (before !== undefined && stringAt(before, "addressType") !== type) causes.push(fieldInvalid("addressType", type, "field is immutable"));
  for (const [i, port] of arrayAt(slice, "ports").entries()) {
    const protocol = valueAt(port, "protocol");
    if (protocol !== undefined && !PROTOCOLS.includes(protocol)) causes.push(fieldNotSupported(`ports[${i}].protocol`, protocol, ["SCTP", "TCP", "UDP"]));
  }
  if (before !== undefined && equalJson(arrayAt(before, "endpoints"), arrayAt(slice, "endpoints"))) return causes;
  for (const [i, endpoint] of arrayAt(slice, "endpoints").entries()) causes.push(...endpointProblems(endpoint, type, `endpoints[${i}].addresses`));
  return causes;
}

function endpointProblems(endpoint: JsonValue, type: string, path: string): Cause[] {
  const addresses = arrayAt(endpoint, "addresses");
  if (addresses.length === 0) return [fieldRequired(path, "must contain at least 1 address")];
  if (addresses.length > MAX_ADDRESSES) return [fieldInvalid(path, addresses, `must have at most ${MAX_ADDRESSES} items`)];
  return addresses.flatMap((address, i): Cause[] => {
    if (type !== "IPv4" && type !== "IPv6") return [];
    const isOfType = typeof address === "string" && isIP(address) === (type === "IPv4" ? 4 : 6);
    return isOfType ? [] : [fieldInvalid(`${path}[${i}]`, address, `must be a valid ${type} address`)];
  });
}

function listText(values: readonly string[]): string {
  const shown = values.slice(0, SHOWN).join(",");
  return values.length > SHOWN ? `${shown} + ${values.length - SHOWN} more...` : shown === "" ? "<unset>" : shown;
}

function portText(port: JsonValue): string {
  const number = valueAt(port, "port");
  if (typeof number === "number") return String(number);
  return valueAt(port, "name") === undefined ? "*" : stringAt(port, "name");
}

/** Between the name and the age. */
export const ENDPOINT_SLICE_COLUMNS: readonly Column[] = [
  column("AddressType", (slice) => stringAt(slice, "addressType")),
  column("Ports", (slice) => listText(arrayAt(slice, "ports").map(portText))),
  column("Endpoints", (slice) =>
    listText(arrayAt(slice, "endpoints").flatMap((endpoint) => arrayAt(endpoint, "addresses").map((address) => (typeof address === "string" ? address : "")))),
  ),
];
