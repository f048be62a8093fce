/**
 * projectcalico.org/v3 FelixConfiguration. Read are the settings that agents have here; the others are named, so that nobody believes that they hold.
 *
 * A field that cannot be understood is left out as a whole, so that what was said with less precedence, or the agent's own setting, holds: what Calico
 * does. A list of failsafe ports of which a part cannot be read would lock somebody out.
 */
import { type Cidr, tryParseCidr } from "../net/cidr.ts";
import type { Parsed } from "./event.ts";
import { type Field, type ParseOptions, parseClosed } from "./field.ts";
import { TOP_LEVEL } from "./parse-calico-policy.ts";
import { readMetadata } from "./parse-metadata.ts";
import type { FelixConfiguration } from "./resource.ts";
import type { FailsafePort, StatedSettings } from "./stated-settings.ts";

const NODE_PREFIX = "node.";
const MAX_FAILSAFE_PORTS = 1_000;
const MAX_LOG_PREFIX = 80;

/** Fields that mean something here. Of the two deny actions, that of nftables wins: it is what agents use. */
const KNOWN = [
  "failsafeInboundHostPorts",
  "failsafeOutboundHostPorts",
  "defaultEndpointToHostAction",
  "logPrefix",
  "nftablesFilterDenyAction",
  "iptablesFilterDenyAction",
  "floatingIPs",
  "nodeSelector",
];

/** The node that an object of this name is for alone; undefined: it is for others too. */
export function nodeOfConfiguration(name: string): string | undefined {
  return name.startsWith(NODE_PREFIX) ? name.slice(NODE_PREFIX.length) : undefined;
}

export function parseFelixConfiguration(object: unknown, options: ParseOptions = {}): Parsed<FelixConfiguration> {
  return parseClosed(object, options, (root) => {
    root.object(TOP_LEVEL);
    const { name, resourceVersion, createdAt } = readMetadata(root);
    const spec = root.child("spec").object();
    const isDefault = name === "default";
    const isOfNode = nodeOfConfiguration(name) !== undefined;
    const nodeSelector = (spec.child("nodeSelector").string() ?? "").trim();
    if (nodeSelector !== "" && (isDefault || isOfNode))
      spec.child("nodeSelector").problem(`is for objects of other names; ${name} says by its name for which nodes it is`);
    if (name !== "" && !isDefault && !isOfNode && nodeSelector === "")
      root.child("metadata").child("name").problem(`must be default or node.NAME, or spec must have a nodeSelector: it is for no node as it is`);
    const value: FelixConfiguration = {
      kind: "FelixConfiguration",
      name,
      resourceVersion,
      createdAt,
      nodeSelector: isDefault || isOfNode ? "" : nodeSelector,
      settings: readSettings(spec),
      floatingIps: readWord(spec.child("floatingIPs"), ["Enabled", "Disabled"], [true, false]),
      unused: spec
        .fieldNames()
        .filter((field) => !KNOWN.includes(field) || (field === "floatingIPs" && !isDefault))
        .sort(),
    };
    return { value, isUsable: name !== "" };
  });
}

function readSettings(spec: Field): StatedSettings {
  const words = ["drop", "reject"] as const;
  const denyAction =
    readWord(spec.child("nftablesFilterDenyAction"), ["Drop", "Reject"], words) ?? readWord(spec.child("iptablesFilterDenyAction"), ["Drop", "Reject"], words);
  const settings = {
    failsafeInbound: readFailsafePorts(spec.child("failsafeInboundHostPorts")),
    failsafeOutbound: readFailsafePorts(spec.child("failsafeOutboundHostPorts")),
    endpointToHostAction: readWord(spec.child("defaultEndpointToHostAction"), ["Drop", "Return", "Accept"], ["drop", "return", "accept"] as const),
    logPrefix: readLogPrefix(spec.child("logPrefix")),
    denyAction,
  };
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
}

/** In any case, as Calico takes it; "" and absent say nothing. */
function readWord<T>(field: Field, words: readonly string[], meanings: readonly T[]): T | undefined {
  const text = field.string() ?? "";
  if (text === "") return undefined;
  const at = words.findIndex((word) => word.toLowerCase() === text.toLowerCase());
  if (at === -1) field.problem(`must be one of ${words.join(", ")}, not ${JSON.stringify(text)}`);
  return at === -1 ? undefined : meanings[at];
}

function readLogPrefix(field: Field): string | undefined {
  const text = field.string() ?? "";
  if (text === "") return undefined;
  if (text.length <= MAX_LOG_PREFIX && /^[ -~]+$/.test(text)) return text;
  field.problem(`must be printable ASCII of at most ${MAX_LOG_PREFIX} characters`);
  return undefined;
}

/** An empty list is none at all; absent says nothing. */
function readFailsafePorts(field: Field): readonly FailsafePort[] | undefined {
  if (field.isAbsent) return undefined;
  const before = field.problemCount;
  const items = field.items();
  if (items.length > MAX_FAILSAFE_PORTS) field.problem(`must have at most ${MAX_FAILSAFE_PORTS} entries, not ${items.length}`);
  const ports = items.flatMap((item) => readFailsafePort(item) ?? []);
  return field.problemCount > before ? undefined : ports;
}

function readFailsafePort(field: Field): FailsafePort | undefined {
  field.object(["protocol", "port", "net"]);
  if (field.child("port").isAbsent) field.child("port").problem("is required: a number from 1 to 65535");
  const port = field.child("port").integer({ min: 1, max: 65_535 });
  // Absent, as in manifests older than the field: TCP.
  const protocol = field.child("protocol").isAbsent ? "tcp" : readWord(field.child("protocol"), ["TCP", "UDP", "SCTP"], ["tcp", "udp", "sctp"] as const);
  const net = readNet(field.child("net"));
  return port === undefined || protocol === undefined ? undefined : { protocol, port, ...(net === undefined ? {} : { net }) };
}

function readNet(field: Field): Cidr | undefined {
  const text = field.string() ?? "";
  if (text === "") return undefined;
  const net = tryParseCidr(text);
  if (net === undefined) field.problem(`${JSON.stringify(text)} is not a prefix; write ADDRESS/LENGTH, for example 10.0.0.0/8 or fd00::/64`);
  return net;
}
