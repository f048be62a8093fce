/** Every file below manifests/ that is generated: path → text. The chart gets copies of the CRDs. */
import { stringify } from "yaml";
import { renderChart } from "./chart.ts";
import { renderCluster, renderNamespace } from "./cluster.ts";
import { renderCrds } from "./crds.ts";
import { renderImages } from "./images.ts";
import { renderMonitoring } from "./monitoring.ts";
import { DEFAULT_NAMESPACE, DEFAULT_VALUES, type RenderInput } from "./values.ts";
import { YAML_OPTIONS } from "./yaml-options.ts";

const HEADER = "# Generated (npm run generate). To change a value use the chart, or sedge manifests --values FILE.\n";

export interface FilesInput {
  /** Name of a file in manifests/crds → its text, for those that are written by hand. */
  readonly crds: ReadonlyMap<string, string>;
  /** The package's version. */
  readonly version: string;
}

export function renderFiles({ crds, version }: FilesInput): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  for (const [name, text] of renderPlain({ namespace: DEFAULT_NAMESPACE, values: DEFAULT_VALUES })) files.set(name, text);
  for (const [name, text] of renderChart(version)) files.set(`chart/${name}`, text);
  const rendered = renderCrds();
  for (const [name, text] of rendered) files.set(`crds/${name}`, text);
  for (const [name, text] of new Map([...crds, ...rendered])) files.set(`chart/crds/${name}`, text);
  for (const [name, text] of renderMonitoring()) files.set(`monitoring/${name}`, text);
  for (const [name, text] of renderImages()) files.set(`images/${name}`, text);
  return files;
}

/** Plain manifests, in the order in which kubectl apply -f manifests/ reads them. */
export function renderPlain(input: RenderInput): ReadonlyMap<string, string> {
  const namespace = { name: "00-namespace", about: "Where Sedge is.", objects: [renderNamespace(input.namespace)] };
  return new Map(
    [namespace, ...renderCluster(input)].map(({ name, about, objects }) => [
      `${name}.yaml`,
      `${HEADER}# ${about}\n${objects.map((object) => `---\n${stringify(object, YAML_OPTIONS)}`).join("")}`,
    ]),
  );
}
