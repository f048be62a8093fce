// Cuts the schemas of the kinds that the embedded API serves out of Kubernetes' published OpenAPI v3 documents (Apache-2.0), without descriptions.
//   node scripts/extract-api-schemas.mjs <k8s.io/kubernetes module>/api/openapi-spec/v3 <k8s.io/api module> <k8s.io/apimachinery module>
// The result is checked in under src/datastore/embedded/openapi: one file a group version, a map from schema name to schema; and
// protobuf.json, a map from message to its fields: number -> [name, type, "repeated" or "map"].
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const wanted = {
  api__v1: { out: "core.v1.json", kinds: ["Node", "Namespace", "Pod", "Service", "ServiceAccount", "Event"] },
  "apis__networking.k8s.io__v1": { out: "networking.v1.json", kinds: ["NetworkPolicy"] },
  "apis__coordination.k8s.io__v1": { out: "coordination.v1.json", kinds: ["Lease"] },
  "apis__discovery.k8s.io__v1": { out: "discovery.v1.json", kinds: ["EndpointSlice"] },
  "apis__apiextensions.k8s.io__v1": { out: "apiextensions.v1.json", kinds: ["CustomResourceDefinition"] },
};
const [source, api, apimachinery] = process.argv.slice(2);
if (apimachinery === undefined) throw new Error("usage: node scripts/extract-api-schemas.mjs <openapi-spec/v3> <k8s.io/api> <k8s.io/apimachinery>");
const target = join(dirname(fileURLToPath(import.meta.url)), "../src/datastore/embedded/openapi");

function withoutDescriptions(value) {
  if (Array.isArray(value)) return value.map(withoutDescriptions);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, inner]) => !(key === "description" && typeof inner === "string"))
      .map(([key, inner]) => [key, withoutDescriptions(inner)]),
  );
}

for (const [file, { out, kinds }] of Object.entries(wanted)) {
  const schemas = JSON.parse(readFileSync(join(source, `${file}_openapi.json`), "utf8")).components.schemas;
  const names = new Set();
  const visit = (name) => {
    if (names.has(name)) return;
    names.add(name);
    for (const match of JSON.stringify(schemas[name]).matchAll(/"#\/components\/schemas\/([^"]+)"/g)) visit(match[1]);
  };
  for (const [name, schema] of Object.entries(schemas)) {
    const kindsOfSchema = schema["x-kubernetes-group-version-kind"] ?? [];
    if (kindsOfSchema.some(({ kind }) => kinds.includes(kind.replace(/List$/, "")))) visit(name);
  }
  const result = Object.fromEntries([...names].toSorted((a, b) => (a < b ? -1 : 1)).map((name) => [name, withoutDescriptions(schemas[name])]));
  const lines = Object.entries(result).map(([name, schema]) => `${JSON.stringify(name)}:${JSON.stringify(schema)}`);
  writeFileSync(join(target, out), `{\n${lines.join(",\n")}\n}\n`);
}

/** Messages of one generated.proto: full name -> fields. */
function messagesOf(path, messages) {
  const text = readFileSync(path, "utf8").replaceAll(/\/\/.*$/gm, "");
  const scope = `.${/^package (.+);/m.exec(text)[1]}`;
  for (const [, name, body] of text.matchAll(/^message (\w+) \{([^}]*)\}/gm)) {
    const fields = {};
    for (const [, label, mapped, type, field, number] of body.matchAll(/(optional|repeated)?\s*(?:map<string, ([\w.]+)>|([\w.]+)) (\w+) = (\d+);/g)) {
      const raw = mapped ?? type;
      const full = /^(string|bytes|bool|double|u?int\d\d)$/.test(raw)
        ? raw
        : (raw.startsWith(".") ? raw : `${scope}.${raw}`).replace(/^\.k8s\.io\./, "io.k8s.");
      fields[number] = mapped !== undefined ? [field, full, "map"] : label === "repeated" ? [field, full, "repeated"] : [field, full];
    }
    messages[`${scope}.${name}`.replace(/^\.k8s\.io\./, "io.k8s.")] = fields;
  }
}

const messages = {};
for (const folder of ["core/v1", "networking/v1", "coordination/v1", "discovery/v1"]) messagesOf(join(api, folder, "generated.proto"), messages);
for (const folder of ["pkg/apis/meta/v1", "pkg/api/resource", "pkg/runtime", "pkg/util/intstr"])
  messagesOf(join(apimachinery, folder, "generated.proto"), messages);
const reached = new Set();
const reach = (name) => {
  if (reached.has(name) || messages[name] === undefined) return;
  reached.add(name);
  for (const [, type] of Object.values(messages[name])) reach(type);
};
for (const kind of ["Node", "Namespace", "Pod", "Service", "ServiceAccount", "Event", "Binding"]) reach(`io.k8s.api.core.v1.${kind}`);
reach("io.k8s.api.networking.v1.NetworkPolicy");
reach("io.k8s.api.coordination.v1.Lease");
reach("io.k8s.api.discovery.v1.EndpointSlice");
reach("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
writeFileSync(
  join(target, "protobuf.json"),
  `{\n${[...reached]
    .toSorted((a, b) => (a < b ? -1 : 1))
    .map((name) => `${JSON.stringify(name)}:${JSON.stringify(messages[name])}`)
    .join(",\n")}\n}\n`,
);
