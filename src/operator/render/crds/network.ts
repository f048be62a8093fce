/** Protocols, ports and prefixes as Calico's kinds write them. */
import { rule, type Schema } from "./schema.ts";

const PROTOCOLS = "TCP|UDP|ICMP|ICMPv6|SCTP|UDPLite";
const PORT = "([0-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
const IPV4 = "((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
const IPV6 = `[0-9a-fA-F]{0,4}(:[0-9a-fA-F]{0,4}){2,7}(:${IPV4})?|::([fF]{4}:)?${IPV4}`;
const ONE_FAMILY = [{ items: { pattern: "^[^:]*$" } }, { items: { pattern: ":" } }];

const intOrString = { "x-kubernetes-int-or-string": true, anyOf: [{ type: "integer" }, { type: "string" }] };

export function protocol(description: string): Schema {
  const pattern = `^(${PROTOCOLS}|[1-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])$`;
  return { description, ...intOrString, anyOf: [{ type: "integer" }, { type: "string" }], minimum: 1, maximum: 255, maxLength: 8, pattern };
}

const portItem: Schema = {
  ...intOrString,
  anyOf: [{ type: "integer" }, { type: "string" }],
  minimum: 0,
  maximum: 65535,
  maxLength: 128,
  pattern: `^(${PORT}(:${PORT})?|[0-9_.-]*[a-zA-Z_.-][a-zA-Z0-9_.-]*)$`,
};

export function ports(description: string): Schema {
  return { description, type: "array", maxItems: 50, items: portItem };
}

/** Pattern of a prefix or an address; with `isNotAll` a length of 0 is refused. */
export function prefixPattern(isNotAll: boolean): string {
  const lowest = isNotAll ? "[1-9]" : "[0-9]";
  return `^(${IPV4}(/(${lowest}|[12][0-9]|3[0-2]))?|(${IPV6})(/(${lowest}|[1-9][0-9]|1[01][0-9]|12[0-8]))?)$`;
}

export function prefixes(description: string, isNotAll = false): Schema {
  return { description, type: "array", maxItems: 256, anyOf: ONE_FAMILY, items: { type: "string", maxLength: 49, pattern: prefixPattern(isNotAll) } };
}

export function icmp(description: string): Schema {
  return {
    description,
    type: "object",
    properties: { type: { type: "integer", minimum: 0, maximum: 254 }, code: { type: "integer", minimum: 0, maximum: 255 } },
    "x-kubernetes-validations": [rule("!has(self.code) || has(self.type)", "code needs type")],
  };
}
