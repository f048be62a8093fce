import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseConfig } from "./config.ts";
import { renderConflist } from "./conflist.ts";

describe("renderConflist", () => {
  it("manifests/10-sedge.conflist is what it renders", () => {
    expect(readFileSync(new URL("../manifests/10-sedge.conflist", import.meta.url), "utf8")).toBe(renderConflist());
  });

  it("the executable accepts its own part, with the keys that a runtime adds", () => {
    const { name, cniVersion, plugins } = JSON.parse(renderConflist({ mtu: 1450, socket: "/run/x.sock", logFile: "/var/log/x.log" })) as {
      name: string;
      cniVersion: string;
      plugins: Record<string, unknown>[];
    };
    expect(parseConfig({ name, cniVersion, ...plugins[0] })).toMatchObject({
      name: "k8s-pod-network",
      mtu: 1450,
      socket: "/run/x.sock",
      queueDir: "/var/lib/sedge/cni-queue",
      logFile: "/var/log/x.log",
    });
  });
});
