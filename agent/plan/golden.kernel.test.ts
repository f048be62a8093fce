import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { canUseNetns, createNetns } from "../../test/kernel/netns.ts";

const golden = (name: string): string => fileURLToPath(new URL(`../../test/golden/${name}`, import.meta.url));

describe.skipIf(!canUseNetns())("golden files at the real nft", () => {
  it("the table loads, the changes apply on it, and nothing of what they remove is left", async () => {
    await using netns = await createNetns("sgagent");
    await netns.exec("nft", "-f", golden("agent-table.nft"));
    await netns.exec("nft", "-f", golden("agent-changes.nft"));
    const listed = await netns.exec("nft", "--stateless", "list", "ruleset");
    expect(listed).toContain("tcp dport 443 counter accept");
    expect(listed).not.toContain("to-world");
  });
});
