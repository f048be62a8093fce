/**
 * A histogram without labels that costs a few nanoseconds an observation, for what is observed at every message to or from an agent: prom-client's own makes
 * an object, a hash of its labels and a closure each time. To a registry, and to who reads metrics, it is a Histogram.
 */
import { Histogram, type HistogramConfiguration, type MetricObjectWithValues, type MetricValueWithName } from "prom-client";

type Values = MetricObjectWithValues<MetricValueWithName<string>>;

export class CountingHistogram extends Histogram {
  readonly #name: string;
  readonly #help: string;
  /** Upper bounds, growing. */
  readonly #bounds: readonly number[];
  /** Observations in each bucket alone; the last are those above all bounds. */
  readonly #counts: number[];
  #sum = 0;

  constructor(options: HistogramConfiguration<string> & { readonly buckets: number[] }) {
    super(options);
    this.#name = options.name;
    this.#help = options.help;
    this.#bounds = options.buckets;
    this.#counts = Array.from({ length: options.buckets.length + 1 }, () => 0);
  }

  /** So many observations of one value. */
  add(value: number, count: number): void {
    const bounds = this.#bounds;
    let at = 0;
    while (at < bounds.length && value > (bounds[at] ?? 0)) at++;
    this.#counts[at] = (this.#counts[at] ?? 0) + count;
    this.#sum += value * count;
  }

  override get(): Promise<Values> {
    const values: MetricValueWithName<string>[] = [];
    let total = 0;
    for (const [i, count] of this.#counts.entries()) {
      total += count;
      values.push({ metricName: `${this.#name}_bucket`, labels: { le: this.#bounds[i] ?? "+Inf" }, value: total });
    }
    values.push({ metricName: `${this.#name}_sum`, labels: {}, value: this.#sum }, { metricName: `${this.#name}_count`, labels: {}, value: total });
    // prom-client's types ask for more than its registries read, and name the type by an enum that is not there at run time.
    const read: Omit<Values, "type" | "collect"> & { readonly type: string } = {
      name: this.#name,
      help: this.#help,
      type: "histogram",
      aggregator: "sum",
      values,
    };
    return Promise.resolve(read as unknown as Values);
  }

  /** What a registry calls when it writes text. */
  getForPromString(): Promise<Values> {
    return this.get();
  }
}
