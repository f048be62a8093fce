/** One CustomResourceDefinition as the text of a file in manifests/crds: small maps and lists on one line, what is there several times once. */
import { Document, isAlias, isCollection, isMap, isScalar, isSeq, visit } from "yaml";
import { STATUS } from "./conditions.ts";
import { type Column, column, type Rule, type Schema, validations } from "./schema.ts";

export interface Definition {
  readonly kind: string;
  readonly plural: string;
  readonly shortNames?: readonly string[];
  /** Absent: cluster-wide. */
  readonly isNamespaced?: true;
  /** Absent: projectcalico.org/v3. */
  readonly api?: { readonly group: string; readonly version: string };
  readonly description: string;
  /** The age comes behind them. */
  readonly columns: readonly Column[];
  readonly spec: Schema;
  /** An object may be without spec, as Calico allows. */
  readonly isSpecOptional?: true;
  readonly rootRules?: readonly Rule[];
  readonly hasStatus?: true;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Columns up to which a map or list is kept on one line. */
const ONE_LINE = 170;
const CALICO = { group: "projectcalico.org", version: "v3" };
const AGE = column("Age", "date", ".metadata.creationTimestamp");

/** Name of the file → its text. */
export function renderDefinition(definition: Definition): readonly [string, string] {
  // The library marks what occurs more than once; equal objects that are not the same are written out.
  const document = new Document(objectOf(definition), { aliasDuplicateObjects: true });
  visit(document, {
    Collection(_key, node) {
      if (widthOf(node) < ONE_LINE && !hasAnchor(node)) node.flow = true;
    },
    Scalar(_key, node) {
      // Go's parser (kubectl, Helm) takes "?" and ":" in a plain text on one line of a map for its marks.
      if (typeof node.value === "string" && /[?:]/.test(node.value) && !node.value.includes('"')) node.type = "QUOTE_DOUBLE";
    },
  });
  return [`${definition.plural}.yaml`, document.toString({ lineWidth: 0, flowCollectionPadding: true })];
}

function objectOf(definition: Definition): Schema {
  const { kind, plural, shortNames = [], isNamespaced, api, description, columns, spec, isSpecOptional, rootRules = [], hasStatus, annotations } = definition;
  const { group, version } = api ?? CALICO;
  const schema = {
    description,
    type: "object",
    ...(isSpecOptional === true ? {} : { required: ["spec"] }),
    properties: {
      apiVersion: { type: "string" },
      kind: { type: "string" },
      metadata: { type: "object" },
      spec,
      ...(hasStatus === true ? { status: STATUS } : {}),
    },
    ...validations(rootRules),
  };
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${group}`, ...(annotations === undefined ? {} : { annotations }) },
    spec: {
      group,
      names: { kind, listKind: `${kind}List`, plural, singular: kind.toLowerCase(), ...(shortNames.length === 0 ? {} : { shortNames }) },
      scope: isNamespaced === true ? "Namespaced" : "Cluster",
      versions: [
        {
          name: version,
          served: true,
          storage: true,
          ...(hasStatus === true ? { subresources: { status: {} } } : {}),
          additionalPrinterColumns: [...columns, AGE],
          schema: { openAPIV3Schema: schema },
        },
      ],
    },
  };
}

/** About how wide the node is on one line. */
function widthOf(node: unknown): number {
  if (isScalar(node)) return String(node.value).length + 2;
  if (isAlias(node)) return 4;
  if (isMap(node)) return node.items.reduce((sum, { key, value }) => sum + String(isScalar(key) ? key.value : key).length + 4 + widthOf(value), 2);
  return isSeq(node) ? node.items.reduce<number>((sum, item) => sum + 2 + widthOf(item), 2) : 4;
}

function hasAnchor(node: unknown): boolean {
  if (!isCollection(node)) return false;
  if (node.anchor !== undefined) return true;
  return isMap(node) ? node.items.some(({ value }) => hasAnchor(value)) : isSeq(node) && node.items.some(hasAnchor);
}
