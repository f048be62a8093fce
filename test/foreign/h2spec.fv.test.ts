/** Our HTTP/2 judged by h2spec, the conformance suite for RFC 7540 and RFC 7541 servers (https://github.com/summerwind/h2spec). */
import { execFile } from "node:child_process";
import { describe, expect, it } from "vitest";
import { findGoTool } from "../apiserver/start.ts";
import { startFanout } from "../fakes/fanout-fixture.ts";

const h2spec = findGoTool("h2spec");
const why = h2spec === undefined ? " (h2spec is not built; run: node scripts/build-go-tools.mjs h2spec)" : "";

describe.skipIf(h2spec === undefined)(`h2spec${why}`, () => {
  it("every case passes and none is skipped", async () => {
    await using f = await startFanout({ events: [], delivery: "http2" });
    const port = f.address.split(":").at(-1) ?? "";
    const output = await new Promise<string>((resolve) => {
      execFile(h2spec ?? "h2spec", ["--host", "127.0.0.1", "--port", port, "--timeout", "5"], { maxBuffer: 2 ** 24 }, (_, stdout) => resolve(stdout));
    });
    const failures = output.slice(output.indexOf("Failures:"));
    expect(output, failures).toContain("145 tests, 145 passed, 0 skipped, 0 failed");
  });
});
