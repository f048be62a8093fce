import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findConnection, inClusterConnection, KubeconfigError } from "./kubeconfig.ts";

let dir = "";
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "sedge-kubeconfig-"));
});
afterEach(async () => await rm(dir, { recursive: true, force: true }));

interface Parts {
  readonly user?: unknown;
  readonly cluster?: Readonly<Record<string, unknown>>;
  readonly current?: string;
}

async function write(name: string, { user = {}, cluster = {}, current = "c1" }: Parts = {}): Promise<string> {
  const file = join(dir, name);
  const config = {
    apiVersion: "v1",
    kind: "Config",
    "current-context": current,
    clusters: [{ name: "k", cluster: { server: "https://10.0.0.1:6443", ...cluster } }],
    users: [{ name: "u", user }],
    contexts: [{ name: "c1", context: { cluster: "k", user: "u" } }],
  };
  await writeFile(file, JSON.stringify(config)); // JSON is YAML
  return file;
}

const base64 = (text: string): string => Buffer.from(text).toString("base64");

describe("findConnection: credentials", () => {
  it("token, inline CA, server name", async () => {
    const file = await write("config", { user: { token: "t" }, cluster: { "certificate-authority-data": base64("CA"), "tls-server-name": "api" } });
    const connection = await findConnection({ file, environment: {} });
    expect(connection.url.href).toBe("https://10.0.0.1:6443/");
    expect(await connection.credentials()).toEqual({ headers: { authorization: "Bearer t" }, ca: "CA", servername: "api" });
  });

  it("client certificate beside the file, inline data first, insecure, impersonation", async () => {
    await writeFile(join(dir, "cert.pem"), "CERT");
    const file = await write("config", {
      user: { "client-certificate": "cert.pem", "client-key-data": base64("KEY"), as: "alice" },
      cluster: { "insecure-skip-tls-verify": true },
    });
    const connection = await findConnection({ file, environment: {} });
    expect(await connection.credentials()).toEqual({ headers: { "impersonate-user": "alice" }, cert: "CERT", key: "KEY", rejectUnauthorized: false });
  });

  it("a token file is read anew when the last answer was 401", async () => {
    await writeFile(join(dir, "token"), "one\n");
    const connection = await findConnection({ file: await write("config", { user: { tokenFile: "token" } }), environment: {} });
    expect((await connection.credentials()).headers).toEqual({ authorization: "Bearer one" });
    await writeFile(join(dir, "token"), "two\n");
    expect((await connection.credentials({ fresh: true })).headers).toEqual({ authorization: "Bearer two" });
  });

  it("exec plug-in", async () => {
    const plugin = join(dir, "plugin");
    await writeFile(plugin, `#!/bin/sh\necho x >> "${dir}/calls"\nprintf '{"kind":"ExecCredential","status":{"token":"from-%s"}}' "$WHO"\n`);
    await chmod(plugin, 0o755);
    const user = { exec: { apiVersion: "client.authentication.k8s.io/v1", command: plugin, args: [], env: [{ name: "WHO", value: "plugin" }] } };
    const connection = await findConnection({ file: await write("config", { user }), environment: {} });
    expect((await connection.credentials()).headers).toEqual({ authorization: "Bearer from-plugin" });
    await connection.credentials();
    await connection.credentials({ fresh: true });
    expect(await readFile(join(dir, "calls"), "utf8")).toBe("x\nx\n"); // kept, and asked for again after a 401
  });

  it("exec plug-in that fails → an error that names file, user and command", async () => {
    const file = await write("config", { user: { exec: { apiVersion: "v1", command: join(dir, "no-such-plugin") } } });
    const connection = await findConnection({ file, environment: {} });
    await expect(connection.credentials()).rejects.toThrow(`${file}: user u: exec plug-in ${dir}/no-such-plugin failed`);
  });
});

describe("findConnection: where from", () => {
  it("KUBECONFIG with several files: merged, the first that has a name wins", async () => {
    const first = await write("first", { current: "", user: { token: "first" } });
    const second = await write("second", { user: { token: "second" } });
    const connection = await findConnection({ environment: { KUBECONFIG: `${join(dir, "absent")}:${first}:${second}` } });
    expect((await connection.credentials()).headers).toEqual({ authorization: "Bearer first" });
  });
  it("HOME/.kube/config", async () => {
    await mkdir(join(dir, ".kube"));
    await write(".kube/config", { user: { token: "home" } });
    expect((await (await findConnection({ environment: { HOME: dir } })).credentials()).headers).toEqual({ authorization: "Bearer home" });
  });
  it("service account of a pod, IPv6 too", async () => {
    await writeFile(join(dir, "token"), "sa\n");
    await writeFile(join(dir, "ca.crt"), "CA");
    const connection = inClusterConnection({ KUBERNETES_SERVICE_HOST: "fd00::1", KUBERNETES_SERVICE_PORT: "443" }, dir);
    expect(connection?.url.host).toBe("[fd00::1]");
    expect(await connection?.credentials()).toEqual({ headers: { authorization: "Bearer sa" }, ca: "CA" });
    expect(inClusterConnection({}, dir)).toBeUndefined();
  });
  it("nothing → says what to do", async () => {
    await expect(findConnection({ environment: { HOME: dir } })).rejects.toThrow(/name a file with --kubeconfig or KUBECONFIG/);
  });
});

describe("findConnection: what is wrong is named", () => {
  it.each([
    ["a context that is not there", { current: "nope" }, 'no context named "nope"'],
    ["no current-context", { current: "" }, "current-context is not set"],
    ["a proxy", { cluster: { "proxy-url": "http://p" } }, "proxy-url is not supported"],
    ["a server that is no URL", { cluster: { server: "10.0.0.1" } }, 'server is no URL: "10.0.0.1"'],
    ["a field of a wrong type", { cluster: { server: 5 } }, "clusters.0.cluster.server"],
  ])("%s", async (_name, parts, message) => {
    const file = await write("config", parts);
    const found = findConnection({ file, environment: {} });
    await expect(found).rejects.toThrow(KubeconfigError);
    await expect(found).rejects.toThrow(message);
  });
  it("a file that is no YAML, or not there", async () => {
    const file = join(dir, "broken");
    await writeFile(file, "a: [");
    await expect(findConnection({ file, environment: {} })).rejects.toThrow(file);
    await expect(findConnection({ file: join(dir, "absent"), environment: {} })).rejects.toThrow(/absent: ENOENT/);
  });
});
