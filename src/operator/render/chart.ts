/**
 * The Helm chart: the rendered objects with a hole for each value.
 *
 * The renderer is run on values that stand for themselves (a text "@@a.b@@", a number that nothing else is); in the YAML that comes out they become
 * `{{ .Values.a.b }}`. So a template is never written by hand and cannot differ from the manifests. It holds as long as the renderer only places values
 * and computes nothing from them: a number that was computed with would stay in the text, which is refused here.
 */
import { stringify } from "yaml";
import { z } from "zod";
import { renderCluster } from "./cluster.ts";
import { DEFAULT_VALUES, type Values, valuesSchema } from "./values.ts";
import { YAML_OPTIONS } from "./yaml-options.ts";

const FIRST_NUMBER = 770_000_001;
const LAST_NUMBER = 770_999_999;

/** Path below the chart's directory → text. */
export function renderChart(version: string): ReadonlyMap<string, string> {
  const marks = new Marks();
  const values = marks.of(DEFAULT_VALUES, "") as Values;
  const templates = renderCluster({ namespace: "@@Release.Namespace@@", values }).map(
    ({ name, objects }) => [`templates/${name}.yaml`, objects.map((object) => `---\n${marks.fill(stringify(object, YAML_OPTIONS))}`).join("")] as const,
  );
  const chart = { apiVersion: "v2", name: "sedge", description: "Kubernetes networking at large scale", type: "application", version, appVersion: version };
  return new Map([
    ["Chart.yaml", stringify(chart)],
    ["values.yaml", stringify(DEFAULT_VALUES)],
    ["values.schema.json", `${JSON.stringify(z.toJSONSchema(valuesSchema, { target: "draft-7" }), undefined, 2)}\n`],
    ...templates,
  ]);
}

class Marks {
  readonly #pathOfNumber = new Map<number, string>();

  /** The same shape as the value, each leaf a mark. `resources` is one leaf: its keys are the owner's. */
  of(value: unknown, path: string): unknown {
    if (typeof value === "number") {
      const mark = FIRST_NUMBER + this.#pathOfNumber.size;
      this.#pathOfNumber.set(mark, path);
      return mark;
    }
    if (typeof value !== "object" || value === null || path.endsWith(".resources")) return `@@Values.${path}@@`;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, this.of(inner, path === "" ? key : `${path}.${key}`)]));
  }

  /** `text` with the template engine's expressions for marks. Throws when a number in it was computed from a mark. */
  fill(text: string): string {
    return text
      .replaceAll("{{", '{{ "{{" }}')
      .replaceAll(/"@@([A-Za-z.]+)@@"/g, (_whole, path: string) => `{{ .${path} | toJson }}`)
      .replaceAll(/@@([A-Za-z.]+)@@/g, (_whole, path: string) => `{{ .${path} }}`)
      .replaceAll(/\b77\d{7}\b/g, (digits) => {
        const path = this.#pathOfNumber.get(Number(digits));
        if (path === undefined && Number(digits) <= LAST_NUMBER) throw new Error(`the renderer computes with a value (${digits}): a template cannot`);
        return path === undefined ? digits : `{{ .Values.${path} }}`;
      });
  }
}
