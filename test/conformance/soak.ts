/**
 * Random policies against packets for as long as wanted: `node test/conformance/soak.ts [--seeds FIRST-LAST] [--probes N]`, as root.
 *
 * Prints one line for each mismatch with its seed and the smallest manifest, and a line of counts at the end; exit code 1 when anything differed.
 */
import { parseArgs } from "node:util";
import { policyManifest } from "./cases/case.ts";
import { PacketCluster } from "./packet-cluster.ts";
import { judge, shrink } from "./packet-judge.ts";
import { allProbes, caseWorld } from "./packet-world.ts";
import { randomProbes, randomWorld } from "./random-policies.ts";

const { values } = parseArgs({ options: { seeds: { type: "string", default: "1-300" }, probes: { type: "string", default: "all" } } });
const [first = 1, last = first] = values.seeds.split("-").map(Number);
const began = performance.now();
let probed = 0;
let wrong = 0;
await using cluster = await PacketCluster.create("sedge-soak", caseWorld([]));
for (let seed = first; seed <= last; seed++) {
  const world = randomWorld(seed);
  const probes = values.probes === "all" ? allProbes(world) : randomProbes(world, seed, Number(values.probes));
  const mismatches = await judge(cluster, world, probes);
  probed += probes.length;
  if (mismatches.length === 0) continue;
  wrong++;
  const smallest = await shrink(
    cluster,
    world,
    mismatches.slice(0, 50).map(({ probe }) => probe),
  );
  process.stdout.write(
    `seed ${seed}: ${mismatches.length} wrong, ${mismatches[0]?.text}\n${JSON.stringify({ ...smallest, policies: smallest.policies.map(policyManifest) })}\n`,
  );
}
process.stdout.write(
  `${last - first + 1} policy sets, ${probed} probes, ${wrong} sets with mismatches, ${cluster.operations} nftables operations, ${Math.round((performance.now() - began) / 1000)} s\n`,
);
process.exitCode = wrong > 0 ? 1 : 0;
