import { describe, expect, it } from "vitest";
import { CHAINED_PLUGINS, conflistPlugins, conflistProblems, newestCommonVersion, renderConflist } from "./conflist.ts";

const OWN = { name: "n", cniVersion: "1.0.0", socket: "/run/a.sock", queueDir: "/q", mtu: 0, logFile: "", chained: [], sysctls: {} } as const;

describe("renderConflist", () => {
  it("ours first, the chained ones in one order whatever was asked, each with its capability", () => {
    const text = renderConflist({ ...OWN, chained: ["tuning", "bandwidth", "portmap"], sysctls: { "net.ipv4.tcp_keepalive_time": "40" } });
    expect(conflistPlugins(text)).toEqual(["sedge-cni", ...CHAINED_PLUGINS]);
    expect((JSON.parse(text) as { plugins: unknown[] }).plugins.slice(1)).toEqual([
      { type: "portmap", snat: true, capabilities: { portMappings: true } },
      { type: "bandwidth", capabilities: { bandwidth: true } },
      { type: "tuning", sysctl: { "net.ipv4.tcp_keepalive_time": "40" } },
    ]);
    expect(conflistProblems(text)).toEqual([]);
  });

  it("a log file and an MTU are in our part only when they are set", () => {
    const own = (text: string): unknown => (JSON.parse(text) as { plugins: unknown[] }).plugins[0];
    expect(own(renderConflist(OWN))).toEqual({ type: "sedge-cni", socket: "/run/a.sock", queueDir: "/q", mtu: 0 });
    expect(own(renderConflist({ ...OWN, mtu: 1450, logFile: "/l" }))).toMatchObject({ mtu: 1450, logFile: "/l" });
  });
});

describe("newestCommonVersion", () => {
  it.each([
    [[["0.3.1", "0.4.0", "1.0.0", "1.1.0"]], "1.1.0"],
    // Debian's plugins do not know 1.1.0.
    [
      [
        ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
        ["0.1.0", "0.3.1", "0.4.0", "1.0.0"],
      ],
      "1.0.0",
    ],
    [[["1.1.0"], ["0.2.0"]], undefined],
  ])("%j → %s", (supported, version) => {
    expect(newestCommonVersion(supported)).toBe(version);
  });
});

describe("conflistProblems", () => {
  it.each([
    ["{", ["not JSON"]],
    ["[]", ["name is missing", "cniVersion must be", "plugins is missing"]],
    ['{"name":"n","cniVersion":"9.0.0","plugins":[]}', ["cniVersion must be", 'none of type "sedge-cni"']],
    ['{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"bridge"},null]}', ['none of type "sedge-cni"']],
  ])("%s", (text, problems) => {
    const found = conflistProblems(text);
    expect(found).toHaveLength(problems.length);
    for (const [index, problem] of problems.entries()) expect(found[index]).toContain(problem);
  });
});
