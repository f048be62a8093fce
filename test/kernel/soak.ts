/**
 * The chaos test for as long as wanted: `node test/kernel/soak.ts --minutes 60 --seed 7`. Needs root. Prints each round, ends with a JSON summary; exit code 1
 * when anything failed.
 */
import { parseArgs } from "node:util";
import { Chaos } from "./chaos.ts";
import { Cluster } from "./cluster.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    seed: { type: "string", default: "1" },
    rate: { type: "string", default: "300" },
    pods: { type: "string", default: "9" },
  },
});
const [seed, minutes] = [Number(values.seed), Number(values.minutes)];
const began = performance.now();
await using cluster = await Cluster.start();
const chaos = new Chaos({
  seed,
  cluster,
  packetsPerSecond: Number(values.rate),
  pods: Number(values.pods),
  say: (line) => process.stderr.write(`${Math.round((performance.now() - began) / 1_000)} s ${line}\n`),
});
let error = "";
const interrupt = new AbortController();
process.once("SIGINT", () => interrupt.abort());
try {
  await chaos.begin();
  while (!interrupt.signal.aborted && performance.now() - began < minutes * 60_000) await chaos.round();
  await chaos.end();
} catch (failure) {
  error = failure instanceof Error ? (failure.stack ?? failure.message) : String(failure);
} finally {
  chaos.traffic.stop();
}
process.stdout.write(
  `${JSON.stringify({ seed, seconds: Math.round((performance.now() - began) / 1_000), rounds: chaos.rounds, done: Object.fromEntries(chaos.done), traffic: chaos.traffic.counts, failures: chaos.failures, error }, undefined, 2)}\n`,
);
process.exitCode = chaos.failures.length === 0 && error === "" ? 0 : 1;
