/**
 * Rules of projectcalico.org/v3 policies and profiles: checked as Calico checks them.
 *
 * A rule that cannot be read is kept as broken, with the action that it was to have, so that conversion can fail closed in its place. Selectors are
 * texts here: this folder does not know their language, conversion parses them.
 */
import { type Cidr, cidrLength, cidrVersion, hostCidr, tryParseCidr } from "../net/cidr.ts";
import { type IpVersion, tryParseIp } from "../net/ip.ts";
import type { Field } from "./field.ts";
import { reportIf } from "./parse-metadata.ts";
import type { CalicoEntityRule, CalicoIcmp, CalicoPort, CalicoRule, Labels } from "./resource.ts";

/** IP protocol numbers (IANA) by the names that the API takes. */
export const CALICO_PROTOCOLS: Readonly<Record<string, number>> = { TCP: 6, UDP: 17, ICMP: 1, ICMPv6: 58, SCTP: 132, UDPLite: 136 };
/** Protocols whose rules may state port numbers. */
const PORT_PROTOCOLS: readonly (number | undefined)[] = [6, 17, 132];
/** Annotation of a rule, a policy or a tier: "Reject" tells the sender of what is denied. */
export const DENY_ACTION_ANNOTATION = "sedge.network/deny-action";
/** Annotation that carries the name of a rule, ours and that of Calico's own conversions. */
const NAME_ANNOTATIONS = ["sedge.network/rule-name", "policy.networking.k8s.io/k8s-cnp-rule-name"];

const MAX_RULES = 1024;
const MAX_NETS = 256;
const MAX_PORTS = 50;
const MAX_HTTP = 20;
const MAX_SELECTOR_LENGTH = 1024;

export type Direction = "ingress" | "egress";

const RULE = "action ipVersion protocol notProtocol icmp notICMP source destination http metadata".split(" ");
const ENTITY = "nets notNets selector notSelector namespaceSelector services ports notPorts serviceAccounts".split(" ");
const NO_ENTITY: CalicoEntityRule = {
  nets: [],
  notNets: [],
  selector: "",
  notSelector: "",
  namespaceSelector: "",
  services: undefined,
  ports: [],
  notPorts: [],
  serviceAccounts: undefined,
};

export function readCalicoRules(field: Field, direction: Direction, options: { readonly rejects: boolean }): CalicoRule[] {
  const before = field.problemCount;
  const items = field.items();
  if (field.problemCount > before) return [brokenRule("Deny")];
  if (items.length > MAX_RULES) field.problem(`must have at most ${MAX_RULES} rules, not ${items.length}`);
  return items.map((item) => readRule(item, direction, options));
}

function readRule(field: Field, direction: Direction, options: { readonly rejects: boolean }): CalicoRule {
  const before = field.problemCount;
  field.object(RULE);
  const { name, rejects } = readRuleMetadata(field.child("metadata"), options);
  if (field.isAbsent) field.problem("must be a rule: an object with an action");
  if (!field.isAbsent && field.child("action").isAbsent) field.child("action").problem("is required: one of Allow, Deny, Log, Pass");
  const action = field.child("action").oneOf(["Allow", "Deny", "Log", "Pass"] as const) ?? "Deny";
  const protocol = readProtocol(field.child("protocol"));
  const notProtocol = readProtocol(field.child("notProtocol"));
  const icmp = readIcmp(field.child("icmp"));
  const notIcmp = readIcmp(field.child("notICMP"));
  const rule: CalicoRule = {
    action: action === "Deny" && rejects ? "Reject" : action,
    ipVersion: readIpVersion(field.child("ipVersion")),
    protocol,
    notProtocol,
    icmp,
    notIcmp,
    source: readEntity(field.child("source"), { end: "source", direction, protocol }),
    destination: readEntity(field.child("destination"), { end: "destination", direction, protocol }),
    hasHttp: readHttp(field.child("http"), { action, direction, protocol }),
    name,
    isBroken: false,
  };
  checkFamilies(field, rule);
  return field.problemCount === before ? rule : brokenRule(rule.action, name);
}

/** Stands for a rule that was not understood. */
export function brokenRule(action: CalicoRule["action"], name = ""): CalicoRule {
  const nothing = { ipVersion: undefined, protocol: undefined, notProtocol: undefined, icmp: undefined, notIcmp: undefined };
  return { action, ...nothing, source: NO_ENTITY, destination: NO_ENTITY, hasHttp: false, name, isBroken: true };
}

function readRuleMetadata(field: Field, options: { readonly rejects: boolean }): { readonly name: string; readonly rejects: boolean } {
  field.object(["annotations"]);
  const annotations: Labels = Object.fromEntries(
    field
      .child("annotations")
      .entries()
      .map(([key, value]) => [key, value.string() ?? ""]),
  );
  const name = NAME_ANNOTATIONS.map((key) => annotations[key]).find((text) => text !== undefined) ?? "";
  return { name, rejects: denyActionOf(field.child("annotations"), annotations, options.rejects) };
}

/** Whether what is denied is to be told to the sender. */
export function denyActionOf(field: Field, annotations: Labels, otherwise: boolean): boolean {
  const text = annotations[DENY_ACTION_ANNOTATION];
  if (text === undefined) return otherwise;
  if (text !== "Reject" && text !== "Drop") field.child(DENY_ACTION_ANNOTATION).problem(`must be Drop or Reject, not ${JSON.stringify(text)}`);
  return text === "Reject";
}

function readIpVersion(field: Field): IpVersion | undefined {
  const version = field.integer({ min: 4, max: 6 });
  if (version === 5) field.problem("must be 4 or 6");
  return version === 4 || version === 6 ? version : undefined;
}

function readProtocol(field: Field): number | undefined {
  if (field.isAbsent) return undefined;
  if (typeof field.value === "number") return field.integer({ min: 1, max: 255 });
  const text = field.string() ?? "";
  const number = Object.hasOwn(CALICO_PROTOCOLS, text) ? CALICO_PROTOCOLS[text] : /^\d{1,3}$/.test(text) ? Number(text) : undefined;
  if (typeof field.value === "string" && (number === undefined || number < 1 || number > 255)) {
    field.problem(`must be one of ${Object.keys(CALICO_PROTOCOLS).join(", ")} or a number from 1 to 255, not ${JSON.stringify(text)}`);
    return undefined;
  }
  return number;
}

function readIcmp(field: Field): CalicoIcmp | undefined {
  if (field.isAbsent) return undefined;
  field.object(["type", "code"]);
  const type = field.child("type").integer({ min: 0, max: 254 });
  const code = field.child("code").integer({ min: 0, max: 255 });
  if (code !== undefined && field.child("type").isAbsent) field.child("code").problem("needs type, the ICMP type that the code belongs to");
  return type === undefined ? undefined : { type, code };
}

interface EntityContext {
  readonly end: "source" | "destination";
  readonly direction: Direction;
  readonly protocol: number | undefined;
}

function readEntity(field: Field, context: EntityContext): CalicoEntityRule {
  if (field.isAbsent) return NO_ENTITY;
  field.object(ENTITY);
  const entity: CalicoEntityRule = {
    nets: readNets(field.child("nets")),
    notNets: readNets(field.child("notNets")),
    selector: readSelectorText(field.child("selector")),
    notSelector: readSelectorText(field.child("notSelector")),
    namespaceSelector: readSelectorText(field.child("namespaceSelector")),
    services: readServices(field.child("services")),
    ports: readPorts(field.child("ports"), context.protocol),
    notPorts: readPorts(field.child("notPorts"), context.protocol),
    serviceAccounts: readServiceAccounts(field.child("serviceAccounts")),
  };
  for (const [i, net] of entity.notNets.entries()) if (cidrLength(net) === 0) field.child(`notNets[${i}]`).problem(`${net} would exclude every address`);
  if (entity.services !== undefined) checkServices(field, entity, context);
  return entity;
}

function checkServices(field: Field, entity: CalicoEntityRule, { end, direction }: EntityContext): void {
  const services = field.child("services");
  if (entity.selector !== "" || entity.notSelector !== "" || entity.namespaceSelector !== "")
    services.problem("cannot be used together with selector, notSelector or namespaceSelector");
  if (entity.nets.length + entity.notNets.length > 0) services.problem("cannot be used together with nets or notNets");
  if (entity.serviceAccounts !== undefined) services.problem("cannot be used together with serviceAccounts");
  const isPeer = direction === "egress" ? end === "destination" : end === "source";
  if (!isPeer) services.problem(`cannot be used in the ${end} of an ${direction} rule`);
  else if (end === "destination" && entity.ports.length + entity.notPorts.length > 0) services.problem("cannot be used together with ports: it brings its own");
}

/** A prefix, or one address. Host bits are cleared. */
export function readNets(field: Field, max = MAX_NETS): Cidr[] {
  const items = field.items();
  if (items.length > max) field.problem(`must have at most ${max} entries, not ${items.length}`);
  const nets = items.flatMap((item) => readNet(item) ?? []);
  return [...new Set(nets)];
}

function readNet(field: Field): Cidr | undefined {
  const text = field.requiredString("a prefix, for example 10.0.0.0/8 or fd00::/64");
  if (text === "") return undefined;
  const address = tryParseIp(text);
  const cidr = address === undefined ? tryParseCidr(text) : hostCidr(address);
  if (cidr === undefined) field.problem(`${JSON.stringify(text)} is not a prefix; write ADDRESS/LENGTH, for example 10.0.0.0/8 or fd00::/64`);
  return cidr;
}

/** The text of a selector; its syntax is conversion's business. */
export function readSelectorText(field: Field): string {
  const text = field.string() ?? "";
  if (text.length > MAX_SELECTOR_LENGTH) field.problem(`must have at most ${MAX_SELECTOR_LENGTH} characters, not ${text.length}`);
  return text.trim();
}

function readServices(field: Field): CalicoEntityRule["services"] {
  if (field.isAbsent) return undefined;
  field.object(["name", "namespace"]);
  return { name: field.child("name").requiredString("the Service's name"), namespace: field.child("namespace").string() ?? "" };
}

function readServiceAccounts(field: Field): CalicoEntityRule["serviceAccounts"] {
  if (field.isAbsent) return undefined;
  field.object(["names", "selector"]);
  const names = field
    .child("names")
    .items()
    .map((item) => item.requiredString("the service account's name"));
  return { names: [...new Set(names)].sort(), selector: readSelectorText(field.child("selector")) };
}

function readPorts(field: Field, protocol: number | undefined): CalicoPort[] {
  const items = field.items();
  if (items.length > MAX_PORTS) field.problem(`must have at most ${MAX_PORTS} entries, not ${items.length}`);
  const ports = items.flatMap((item) => readPort(item) ?? []);
  if (ports.some((port) => typeof port !== "string") && !PORT_PROTOCOLS.includes(protocol))
    field.problem("port numbers need protocol TCP, UDP or SCTP in the rule");
  return ports;
}

/** 80, "80", "80:90" or the name of a port. */
function readPort(field: Field): CalicoPort | undefined {
  if (field.isAbsent) field.problem("must be a port number, a range such as 80:90, or the name of a port");
  if (typeof field.value !== "string") {
    const port = field.integer({ min: 0, max: 65535 });
    return port === undefined ? undefined : { first: port, last: port };
  }
  const match = /^(\d+)(?::(\d+))?$/.exec(field.value);
  if (match === null) {
    reportIf(field, calicoPortNameProblem(field.value));
    return field.value;
  }
  const first = Number(match[1]);
  const last = Number(match[2] ?? match[1]);
  if (first > 65535 || last > 65535) field.problem(`${JSON.stringify(field.value)}: ports go from 0 to 65535`);
  else if (first > last) field.problem(`${JSON.stringify(field.value)}: write the lower port first`);
  return { first, last };
}

/** Name of a port in Calico's kinds: wider than Kubernetes' names. */
export function calicoPortNameProblem(name: string): string | undefined {
  return name.length <= 128 && /^[a-zA-Z0-9_.-]+$/.test(name)
    ? undefined
    : `${JSON.stringify(name)} is neither a port number, nor a range such as 80:90, nor the name of a port (1 to 128 of A-Z, a-z, 0-9, "_", "." and "-")`;
}

function readHttp(
  field: Field,
  { action, direction, protocol }: { readonly action: string; readonly direction: Direction; readonly protocol: number | undefined },
): boolean {
  if (field.isAbsent) return false;
  field.object(["methods", "paths"]);
  if (direction === "egress") field.problem("is for ingress rules only");
  if (action !== "Allow") field.problem("is for rules with action Allow only");
  if (protocol !== undefined && protocol !== CALICO_PROTOCOLS["TCP"]) field.problem("needs protocol TCP");
  const methods = field.child("methods").items();
  const paths = field.child("paths").items();
  if (methods.length > MAX_HTTP) field.child("methods").problem(`must have at most ${MAX_HTTP} entries`);
  if (paths.length > MAX_HTTP) field.child("paths").problem(`must have at most ${MAX_HTTP} entries`);
  for (const method of methods) method.requiredString("an HTTP method");
  for (const path of paths) {
    path.object(["exact", "prefix"]);
    const texts = [path.child("exact"), path.child("prefix")].filter(({ isAbsent }) => !isAbsent);
    if (texts.length !== 1) path.problem("must have exact or prefix, and not both");
    for (const text of texts) if (!(text.string() ?? "").startsWith("/")) text.problem('must begin with "/"');
  }
  return true;
}

/** What a rule says of address families must fit together. */
function checkFamilies(field: Field, rule: CalicoRule): void {
  const { ipVersion, protocol, icmp, notIcmp, source, destination } = rule;
  if ((icmp !== undefined || notIcmp !== undefined) && protocol !== CALICO_PROTOCOLS["ICMP"] && protocol !== CALICO_PROTOCOLS["ICMPv6"])
    field.child(icmp === undefined ? "notICMP" : "icmp").problem("needs protocol ICMP or ICMPv6");
  if (protocol === CALICO_PROTOCOLS["ICMP"] && ipVersion === 6) field.child("ipVersion").problem("protocol ICMP is of IPv4: write 4, or protocol ICMPv6");
  if (protocol === CALICO_PROTOCOLS["ICMPv6"] && ipVersion === 4) field.child("ipVersion").problem("protocol ICMPv6 is of IPv6: write 6, or protocol ICMP");
  const versions = new Set([...source.nets, ...source.notNets, ...destination.nets, ...destination.notNets].map(cidrVersion));
  if (versions.size > 1) field.problem("has prefixes of IPv4 and of IPv6; write a rule for each");
  else if (ipVersion !== undefined && versions.size === 1 && !versions.has(ipVersion))
    field.child("ipVersion").problem(`${ipVersion} does not fit the rule's prefixes`);
}
