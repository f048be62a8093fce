/** `sedge trace` as a process against a real server over loopback. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { NamespaceName, NodeName } from "../../src/model/names.ts";
import { parseIp } from "../../src/net/ip.ts";
import { calicoPolicy } from "../fakes/calico-objects.ts";
import { namespace, node, pod, policy, pool, startFanout, upsert } from "../fakes/fanout-fixture.ts";

const SEDGE = join(import.meta.dirname, "../../bin/sedge.ts");
const at = (name: string, address: string) => pod("shop", name, { node: "n1" as NodeName, addresses: [parseIp(address)] });
const EVENTS = upsert(
  node("n1", 1),
  node("n2", 2),
  namespace("shop"),
  pool(),
  { ...at("web", "10.65.0.1"), floating: { text: '["10.65.9.1"]', createdAt: "" } },
  at("client", "10.65.0.2"),
  at("other", "10.65.0.3"),
  policy("shop", "from-client", "client"),
);

describe("sedge trace", () => {
  it("asks a live server which rule decides", async () => {
    const later = { kind: "StagedNetworkPolicy", namespace: "shop" as NamespaceName, name: "later", resourceVersion: "1", stagedAction: "Set" } as const;
    await using f = await startFanout({ events: [...EVENTS, ...upsert({ ...later, policy: calicoPolicy("later", { in: "shop" }) })] });
    const run = (...args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> =>
      new Promise((resolve) => {
        execFile(process.execPath, [SEDGE, "trace", ...args, "--server", f.address], (error, stdout, stderr) => {
          resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
        });
      });
    const allowed = await run("shop/client", "10.65.0.1", "80");
    expect([allowed.code, allowed.stderr]).toEqual([0, ""]);
    expect(allowed.stdout).toMatch(/^allow: 10\.65\.0\.2 to 10\.65\.0\.1, tcp port 80 \(revision \d+\)\n/);
    expect(allowed.stdout).toMatch(/=> tier default: NetworkPolicy shop\/from-client: spec\.ingress\[0\]: allow any from set \S+ to anywhere\n/);
    expect(allowed.stdout).toMatch(/set \S+ \(endpoints with .*app == "client"\) has 10\.65\.0\.2\n/);
    expect(allowed.stdout).toMatch(/\n1 staged policy is not in force and not in this; --staged shows what they would decide\n$/);
    expect(allowed.stdout).toContain("but n1, the node of shop/client, does not have this in its kernel yet: not connected\n");
    const wrongLabel = await run("shop/other", "shop/web", "80");
    expect(wrongLabel.stdout).toMatch(
      /NetworkPolicy shop\/from-client: no rule matches\n +spec\.ingress\[0\] wants its source among the endpoints with .*app == "client", and 10\.65\.0\.3 is not\n/,
    );
    const denied = await run("shop/other", "shop/web", "80", "-o", "json");
    expect(JSON.parse(denied.stdout)).toMatchObject({
      from: "shop/other",
      verdict: "deny",
      egress: { verdict: "allow" },
      ingress: {
        verdict: "deny",
        chain: [
          { tier: "default", outcome: "no rule matches" },
          { tier: "default", policy: "", outcome: "deny" },
        ],
      },
    });
    expect((await run("192.168.0.1", "shop/web", "80")).stdout).toContain("192.168.0.1 is the node of shop/web");
    expect((await run("192.168.0.2", "shop/web", "80")).stdout).toMatch(/^deny/);
    const floating = await run("shop/client", "10.65.9.1", "80");
    expect(floating.stdout).toMatch(/^allow: 10\.65\.0\.2 to 10\.65\.0\.1, tcp port 80 /);
    expect(floating.stdout).toContain("ingress at 10.65.9.1 (floating address of shop/web): allow");
    const byName = await run("shop/client", "shop/web", "http");
    expect([byName.code, byName.stdout]).toEqual([2, ""]);
    expect(byName.stderr).toContain("records have no names of ports");
    const nobody = await run("shop/nobody", "shop/web", "80");
    expect([nobody.code, nobody.stderr]).toEqual([1, expect.stringContaining("no pod shop/nobody at the server")]);
  });
});
