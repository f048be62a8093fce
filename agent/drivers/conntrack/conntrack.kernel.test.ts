import { describe, expect, it } from "vitest";
import { parseIp } from "../../../src/net/ip.ts";
import { canUseNetns, createNetns, type Netns } from "../../../test/kernel/netns.ts";
import { ConntrackDriver } from "./driver.ts";

async function addEntry(ns: Netns, source: string, destination: string, port: number): Promise<void> {
  await ns.exec(
    "conntrack",
    "-I",
    "-p",
    "tcp",
    "-s",
    source,
    "-d",
    destination,
    "--sport",
    String(port),
    "--dport",
    "80",
    "--state",
    "ESTABLISHED",
    "-t",
    "600",
  );
}

async function entries(ns: Netns): Promise<string[]> {
  const text = await ns.exec("conntrack", "-L");
  return [...text.matchAll(/^.*?src=(\S+) dst=(\S+) sport=(\d+)/gm)].map(([, source, destination, port]) => `${source} ${destination} ${port}`).sort();
}

describe.skipIf(!canUseNetns())("ConntrackDriver", () => {
  it("deleteByAddress: entries of the address in any place go, all others stay", async () => {
    await using ns = await createNetns("sedge-kt");
    await addEntry(ns, "10.65.0.2", "10.65.0.9", 1000);
    await addEntry(ns, "10.65.0.9", "10.65.0.2", 2000);
    await addEntry(ns, "10.65.0.20", "10.65.0.9", 3000);
    await addEntry(ns, "fd00::2", "fd00::9", 4000);
    using driver = ConntrackDriver.open({ netns: ns.path });
    expect(driver.deleteByAddress({ addresses: new Set([parseIp("10.65.0.2")]) })).toBe(2);
    expect(await entries(ns)).toEqual(["10.65.0.20 10.65.0.9 3000", "fd00::2 fd00::9 4000"]);
    expect(driver.deleteByAddress({ addresses: new Set([parseIp("fd00::9"), parseIp("10.65.0.77")]) })).toBe(1);
    expect(await entries(ns)).toEqual(["10.65.0.20 10.65.0.9 3000"]);
    expect(driver.deleteByAddress({ addresses: new Set() })).toBe(0);
  });
});
