import { describe, expect, it } from "vitest";
import { expandLogPrefix, logPrefixText } from "./names.ts";

describe("expandLogPrefix", () => {
  const web = { policyKind: "NetworkPolicy", namespace: "shop", name: "web", tier: "platform" };
  it.each([
    ["calico-packet", web, "calico-packet"],
    ["%t|%k|%n|%p", web, "platform|NetworkPolicy|web|shop/web"],
    ["%p %t", { ...web, policyKind: "GlobalNetworkPolicy", namespace: "" }, "web platform"],
    // What is no placeholder stays, and a value is not looked through for placeholders.
    ["100% %x %n", { ...web, name: "%t" }, "100% %x %t"],
  ])("%j → %j", (template, policy, expected) => {
    expect(expandLogPrefix(template, policy)).toBe(expected);
  });

  it("with a name as long as names can be, the line's beginning is what the kernel takes", () => {
    const text = logPrefixText(expandLogPrefix("%p", { ...web, name: "x".repeat(253) }));
    expect(text).toHaveLength(127);
    expect(text.endsWith("...: ")).toBe(true);
  });
});
