// The list that the installer writes, read by the executable: one home each, which must agree.
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { DEFAULT_QUEUE_DIR, DEFAULT_SOCKET, parseConfig } from "../../cni/config.ts";
import { installConfigSchema } from "../../src/installer/config.ts";
import { renderConflist } from "../../src/installer/conflist.ts";

interface List {
  readonly name: string;
  readonly cniVersion: string;
  readonly plugins: readonly Record<string, unknown>[];
}

it("the executable accepts its own part of every list, and reads from it what the installer was told", () => {
  const text = renderConflist({
    name: "net",
    cniVersion: "1.1.0",
    socket: "/run/x.sock",
    queueDir: "/q",
    mtu: 1450,
    logFile: "/var/log/x.log",
    chained: ["portmap", "tuning"],
    sysctls: {},
  });
  const { name, cniVersion, plugins } = JSON.parse(text) as List;
  expect(parseConfig({ name, cniVersion, ...plugins[0] })).toMatchObject({
    name: "net",
    cniVersion: "1.1.0",
    mtu: 1450,
    socket: "/run/x.sock",
    queueDir: "/q",
    logFile: "/var/log/x.log",
  });
});

it("manifests/10-sedge.conflist names what the executable takes by itself, and portmap for hostPorts", () => {
  const { name, cniVersion, plugins } = JSON.parse(readFileSync(new URL("../../manifests/10-sedge.conflist", import.meta.url), "utf8")) as List;
  expect(parseConfig({ name, cniVersion, ...plugins[0] })).toMatchObject({ socket: DEFAULT_SOCKET, queueDir: DEFAULT_QUEUE_DIR, mtu: 0 });
  expect(plugins.map(({ type }) => type)).toEqual(["sedge-cni", "portmap"]);
  expect(installConfigSchema.parse({})).toMatchObject({ socket: DEFAULT_SOCKET, queueDir: DEFAULT_QUEUE_DIR });
});
