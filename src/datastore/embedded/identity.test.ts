import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadIdentity } from "./identity.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "sedge-identity-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const load = (): ReturnType<typeof loadIdentity> => loadIdentity({ directory, hosts: ["127.0.0.1"] });

describe("loadIdentity", () => {
  it("is the same at the next start", async () => {
    expect(await load()).toEqual(await load());
  });

  it.each(["server.crt", "server.key"])("%s that is damaged or of another pair: a new pair of the same CA", async (name) => {
    const before = await load();
    const path = join(directory, name);
    const other = await loadIdentity({ directory: undefined, hosts: ["127.0.0.1"] });
    for (const content of ["garbage", "", name === "server.key" ? other.server.key : other.server.cert]) {
      writeFileSync(path, content);
      const { server, certificateAuthority, token } = await load();
      expect({ certificateAuthority, token }).toEqual({ certificateAuthority: before.certificateAuthority, token: before.token });
      const cert = new X509Certificate(server.cert);
      expect(cert.checkPrivateKey(createPrivateKey(server.key))).toBe(true);
      expect(cert.verify(new X509Certificate(certificateAuthority).publicKey)).toBe(true);
      expect(readFileSync(path, "utf8")).not.toBe(content);
    }
  });

  it.each(["ca.crt", "ca.key", "token"])("%s that is damaged is an error that names it: kubeconfigs depend on it", async (name) => {
    await load();
    const path = join(directory, name);
    const whole = readFileSync(path, "utf8");
    for (const damage of [() => writeFileSync(path, "garbage"), () => truncateSync(path, 0)]) {
      damage();
      await expect(load()).rejects.toThrow(path);
    }
    writeFileSync(path, whole);
    await load();
  });
});
