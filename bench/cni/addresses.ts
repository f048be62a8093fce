/**
 * Addresses given and freed a second inside an agent: its journal on a real disk, many requests at once, no kernel side.
 *
 *   node bench/cni/addresses.ts [--seconds 5] [--parallel 256] [--directory D]
 *
 * Prints one JSON line; perCpuSecond is what a core would do that had nothing else to do. An operation is one address given (on the disk) or one freed (on the disk).
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Journal } from "../../agent/addresses/journal.ts";
import { DiskJournalFiles } from "../../agent/addresses/journal-files.ts";
import { createAddressManager } from "../../agent/addresses/manager.ts";
import { blockAt } from "../../src/ipam/block.ts";
import type { Pool } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";

const { values } = parseArgs({
  options: { seconds: { type: "string", default: "5" }, parallel: { type: "string", default: "256" }, directory: { type: "string", default: tmpdir() } },
});
const directory = mkdtempSync(join(values.directory, "sedge-addresses-"));
const pool: Pool = { kind: "pool", name: "p", cidr: parseCidr("10.65.0.0/16"), natOutgoing: false, disabled: false, blockSize: 26 };
const pools = [pool];
let claimed = 0n;
const journal = await Journal.open({ files: await DiskJournalFiles.open(directory), node: "n1" });
const addresses = createAddressManager({
  journal,
  claims: {
    claimBlock: () => Promise.resolve([{ cidr: blockAt(pool, claimed++), pool: pool.name, allocations: [], claim: "", lent: [] }]),
    listBlocks: () => Promise.resolve([]),
    releaseBlock: () => Promise.resolve(true),
  },
  reports: { report: () => undefined, listen: () => undefined },
  clock: systemClock,
  log: silentLogger(),
  pools: () => pools,
  usedAddresses: () => [],
  interfacePrefix: "cali",
  cooldownMs: 0,
});
const started = performance.now();
const cpuBefore = process.cpuUsage();
const end = started + Number(values.seconds) * 1_000;
let operations = 0;
await Promise.all(
  Array.from({ length: Number(values.parallel) }, async (_, worker) => {
    for (let i = 0; performance.now() < end; i++) {
      const attachment = await addresses.attach({
        network: "bench",
        containerId: `c${worker}x${i}`,
        ifname: "eth0",
        namespace: "bench",
        pod: `p${worker}`,
        netns: "",
      });
      await addresses.detach(attachment);
      operations += 2;
    }
  }),
);
const seconds = (performance.now() - started) / 1_000;
const cpu = process.cpuUsage(cpuBefore);
await journal.close();
rmSync(directory, { recursive: true, force: true });
process.stdout.write(
  `${JSON.stringify({ scenario: "addresses", parallel: Number(values.parallel), operations, perSecond: Math.round(operations / seconds), perCpuSecond: Math.round(operations / ((cpu.user + cpu.system) / 1e6)) })}\n`,
);
