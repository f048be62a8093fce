/**
 * Addresses given and freed a second inside an agent: its journal on a real disk, many requests at once, no kernel side.
 *
 *   sedge bench addresses [--seconds 5] [--parallel 256] [--directory D]
 *
 * Prints one JSON line; perCpuSecond is what a core would do that had nothing else to do. An operation is one address given (on the disk) or one freed (on the disk).
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { Journal } from "../../agent/addresses/journal.ts";
import { DiskJournalFiles } from "../../agent/addresses/journal-files.ts";
import { createAddressManager } from "../../agent/addresses/manager.ts";
import { blockAt } from "../../src/ipam/block.ts";
import type { Pool } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { ConfigError } from "../../src/runtime/config.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { benchSettings } from "../settings.ts";

const schema = z.strictObject({
  seconds: z.number().min(0.1).max(3_600).default(5).describe("How long addresses are given and freed"),
  parallel: z.number().int().min(1).max(100_000).default(256).describe("Requests at once"),
  directory: z.string().min(1).default(tmpdir()).describe("Where the journal's directory is made: the disk that is measured"),
});

export async function main(argv: readonly string[]): Promise<number> {
  const settings = benchSettings(schema, { argv, usage: { name: "addresses" } });
  if (settings === undefined) return 0;
  const { config } = settings;
  const directory = makeDirectory(config.directory);
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
  const end = started + config.seconds * 1_000;
  let operations = 0;
  await Promise.all(
    Array.from({ length: config.parallel }, async (_, worker) => {
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
    `${JSON.stringify({ scenario: "addresses", parallel: config.parallel, operations, perSecond: Math.round(operations / seconds), perCpuSecond: Math.round(operations / ((cpu.user + cpu.system) / 1e6)) })}\n`,
  );
  return 0;
}

function makeDirectory(parent: string): string {
  try {
    return mkdtempSync(join(parent, "sedge-addresses-"));
  } catch (error) {
    throw new ConfigError([`--directory ${parent}: ${error instanceof Error ? error.message : String(error)}`]);
  }
}
