import { describe, expect, it } from "vitest";
import { AddressError } from "../addresses/address-error.ts";
import type { AddressManager } from "../addresses/manager.ts";
import type { PodManager } from "../pods/manager.ts";
import { CniService } from "./cni-service.ts";

interface Facts {
  readonly limitation?: string;
  readonly obstacle?: AddressError;
  readonly failures?: readonly string[];
}

/** The service over pods and addresses that are what the facts say; no call goes further. */
function service({ limitation, obstacle, failures = [] }: Facts): CniService {
  const collected: Pick<PodManager, "collect"> = { collect: () => Promise.resolve({ removed: [], failures }) };
  const free: Pick<AddressManager, "obstacle"> = { obstacle: () => obstacle };
  return new CniService({ pods: collected as PodManager, addresses: free as AddressManager, limitation: () => limitation });
}

const signal = new AbortController().signal;
const STATUS = { version: 1, config: { name: "net" } };

describe("STATUS", () => {
  it("well: success", async () => {
    expect(await service({}).answer("status", STATUS, signal)).toEqual({ ok: true });
  });

  it("no address can be given: 50, with the reason", async () => {
    const obstacle = new AddressError("pool-full", "no IPv4 address is free on this node, and no block could be claimed");
    expect(await service({ obstacle }).answer("status", STATUS, signal)).toMatchObject({ ok: false, error: { code: 50, details: obstacle.message } });
  });

  it("the kernel does not have the pods' policy: 51, also when no address can be given", async () => {
    const obstacle = new AddressError("unavailable", "not now");
    for (const facts of [{ limitation: "the kernel refuses" }, { limitation: "the kernel refuses", obstacle }])
      expect(await service(facts).answer("status", STATUS, signal)).toMatchObject({ ok: false, error: { code: 51, details: "the kernel refuses" } });
  });
});

describe("GC", () => {
  const request = { version: 1, config: { name: "net", "cni.dev/valid-attachments": [] } };

  it("what could not be removed is named, each", async () => {
    expect(await service({ failures: ["a/eth0: busy", "b/eth0: gone"] }).answer("gc", request, signal)).toMatchObject({
      ok: false,
      error: { code: 107, details: "a/eth0: busy; b/eth0: gone" },
    });
  });

  it("all removed: success", async () => {
    expect(await service({}).answer("gc", request, signal)).toEqual({ ok: true });
  });
});

describe("requests that are not understood", () => {
  it.each(["add", "del", "check", "gc", "status"] as const)("%s: 7, with every wrong field", async (verb) => {
    const answer = await service({}).answer(verb, { version: 2, config: { name: "a b" } }, signal);
    expect(answer).toMatchObject({ ok: false, error: { code: 7, details: expect.stringMatching(/version: .*config\.name: /) as unknown } });
  });
});
