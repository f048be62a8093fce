// Cuts the schemas of the kinds that the embedded API serves out of Kubernetes' published OpenAPI v3 documents (Apache-2.0), without descriptions.
//   node scripts/extract-api-schemas.mjs <k8s.io/kubernetes module>/api/openapi-spec/v3
// The result is checked in under src/datastore/embedded/openapi: one file a group version, a map from schema name to schema.
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const wanted = {
  api__v1: { out: "core.v1.json", kinds: ["Node", "Namespace", "Pod", "Service", "ServiceAccount", "Event"] },
  "apis__networking.k8s.io__v1": { out: "networking.v1.json", kinds: ["NetworkPolicy"] },
  "apis__coordination.k8s.io__v1": { out: "coordination.v1.json", kinds: ["Lease"] },
  "apis__apiextensions.k8s.io__v1": { out: "apiextensions.v1.json", kinds: ["CustomResourceDefinition"] },
};
const source = process.argv[2];
if (source === undefined) throw new Error("say where the OpenAPI documents are: node scripts/extract-api-schemas.mjs <directory>");
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
  const result = Object.fromEntries([...names].sort().map((name) => [name, withoutDescriptions(schemas[name])]));
  const lines = Object.entries(result).map(([name, schema]) => `${JSON.stringify(name)}:${JSON.stringify(schema)}`);
  writeFileSync(join(target, out), `{\n${lines.join(",\n")}\n}\n`);
}
