import { describe, expect, it } from "vitest";
import { ConfigError } from "../runtime/config.ts";
import { main } from "./main.ts";

describe("words that a verb does not take", () => {
  it.each([
    ["status", "extra"],
    ["clients", "extra"],
    ["get", "pods", "shop/web", "extra"],
    ["watch", "pods", "shop/web", "extra"],
    ["why", "n1", "pool/p4", "extra"],
    ["diff", "n1", "extra"],
    ["wait", "policy/shop/allow-web", "extra"],
    ["log-level", "debug", "extra"],
    ["policy", "status", "shop/allow-web", "extra"],
    ["ipam", "show", "extra"],
  ])("%s %s …", async (...argv) => {
    await expect(main(argv)).rejects.toThrow(new ConfigError(["unexpected argument extra"]));
  });
});
