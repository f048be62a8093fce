// The installer on directories of a host: with the real executable, a run that ends at each of its writes, a killed run, and hosts that refuse.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { exec } from "../runtime/exec.ts";
import { silentLogger } from "../runtime/log.ts";
import type { ChainedPlugin } from "./conflist.ts";
import { type HostSteps, realSteps } from "./host-files.ts";
import { type InstallOptions, install, uninstall } from "./install.ts";

const built = new URL("../../dist/cni/sedge-cni", import.meta.url).pathname;
const sedge = new URL("../../bin/sedge.ts", import.meta.url).pathname;
const isRoot = process.getuid?.() === 0;
const REFERENCE = "/usr/lib/cni";

let root = "";
const host = (): { readonly binDir: string; readonly confDir: string; readonly confName: string } => ({
  binDir: join(root, "opt/cni/bin"),
  confDir: join(root, "etc/cni/net.d"),
  confName: "10-sedge.conflist",
});

/** A small program that answers VERSION, in the place of the executable: copying it takes no time. Compiled, since a script is no ELF file. */
let small = "";
let smallOther = "";

function compile(path: string, answer: string): string {
  const source = `${path}.c`;
  writeFileSync(source, `#include <stdio.h>\nint main(){puts("{\\"cniVersion\\":\\"0.4.0\\",\\"supportedVersions\\":[${answer}]}");return 0;}\n`);
  execFileSync("cc", ["-o", path, source]);
  return path;
}

function optionsFor(executable: string, over: Partial<InstallOptions> & { readonly chained?: readonly ChainedPlugin[] } = {}): InstallOptions {
  const { chained = [], ...rest } = over;
  const network = { name: "n", socket: "/run/s", queueDir: "/q", mtu: 0, logFile: "", chained, sysctls: {} };
  return { executable, ...host(), network, pluginsFrom: "", log: silentLogger(), ...rest };
}

const installed = (): string => join(host().binDir, "sedge-cni");
const conflist = (): string => join(host().confDir, host().confName);
const temporaries = (): readonly string[] =>
  [host().binDir, host().confDir].flatMap((path) => (existsSync(path) ? readdirSync(path) : [])).filter((name) => name.startsWith("."));

/** The world ends before step `at`: nothing after it happens, not even what would be cleaned up. */
class WorldEnd extends Error {}
function endingSteps(at: number): HostSteps {
  let count = 0;
  const step =
    <Arguments extends readonly unknown[]>(action: (...args: Arguments) => Promise<void>) =>
    (...args: Arguments): Promise<void> =>
      count++ >= at ? Promise.reject(new WorldEnd()) : action(...args);
  return {
    copy: step(realSteps.copy),
    write: step(realSteps.write),
    settle: step(realSteps.settle),
    rename: step(realSteps.rename),
    remove: step(realSteps.remove),
  };
}

const hasCompiler = (() => {
  try {
    execFileSync("cc", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
})();

describe.skipIf(!hasCompiler)(`the installer${hasCompiler ? "" : " (cc is not installed)"}`, () => {
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "sedge-install-"));
    small = compile(join(root, "small"), '\\"0.4.0\\",\\"1.0.0\\",\\"1.1.0\\"');
    smallOther = compile(join(root, "other"), '\\"0.3.1\\",\\"0.4.0\\",\\"1.0.0\\",\\"1.1.0\\"');
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  it("on an empty host; again without a write; another version in its place", async () => {
    await install(optionsFor(small));
    expect(readFileSync(installed())).toEqual(readFileSync(small));
    expect(statSync(installed()).mode & 0o777).toBe(0o755);
    expect(JSON.parse(readFileSync(conflist(), "utf8"))).toMatchObject({ cniVersion: "1.1.0", plugins: [{ type: "sedge-cni", socket: "/run/s" }] });
    await install(optionsFor(small, { steps: endingSteps(0) }));
    await install(optionsFor(smallOther));
    expect(readFileSync(installed())).toEqual(readFileSync(smallOther));
    expect(temporaries()).toEqual([]);
  });

  it("ended before each of its writes: the configuration is there only with everything that it calls, nothing is half; the next run completes it", async () => {
    let isWhole = false;
    for (let at = 0; !isWhole; at++) {
      rmSync(join(root, "opt"), { recursive: true, force: true });
      rmSync(join(root, "etc"), { recursive: true, force: true });
      const plugins = join(root, "plugins");
      mkdirSync(plugins, { recursive: true });
      copyFileSync(small, join(plugins, "portmap"));
      const options = (executable: string): InstallOptions => optionsFor(executable, { chained: ["portmap"], pluginsFrom: plugins });
      isWhole = await install({ ...options(small), steps: endingSteps(at) }).then(
        () => true,
        () => false,
      );
      for (const name of ["sedge-cni", "portmap"]) {
        const path = join(host().binDir, name);
        if (existsSync(path)) expect(readFileSync(path), `${name}, ended before step ${at}`).toEqual(readFileSync(small));
        else expect(existsSync(conflist()), `no ${name}, ended before step ${at}`).toBe(false);
      }
      if (existsSync(conflist())) JSON.parse(readFileSync(conflist(), "utf8"));
      // What was left is an hour old when the next run comes.
      for (const directory of [host().binDir, host().confDir]) {
        if (!existsSync(directory)) continue;
        for (const name of readdirSync(directory)) if (name.startsWith(".")) utimesSync(join(directory, name), 1, 1);
      }
      await install(options(smallOther));
      expect(readFileSync(installed())).toEqual(readFileSync(smallOther));
      expect(existsSync(conflist())).toBe(true);
      expect(temporaries(), `after an end before step ${at}`).toEqual([]);
      expect(at).toBeLessThan(40);
    }
  });

  it("uninstall: the configuration first, twice, and only what is ours", async () => {
    await install(optionsFor(small));
    await expect(uninstall({ ...host(), log: silentLogger(), steps: endingSteps(1) })).rejects.toThrow();
    expect([existsSync(conflist()), existsSync(installed())]).toEqual([false, true]);
    await uninstall({ ...host(), log: silentLogger() });
    await uninstall({ ...host(), log: silentLogger() });
    expect([existsSync(conflist()), existsSync(installed())]).toEqual([false, false]);
    writeFileSync(conflist(), '{"name":"theirs","plugins":[{"type":"bridge"}]}');
    await uninstall({ ...host(), log: silentLogger() });
    expect(readFileSync(conflist(), "utf8")).toContain("theirs");
  });

  it("a running executable is replaced, and goes on", async () => {
    const sleeper = join(root, "sleeper");
    writeFileSync(
      `${sleeper}.c`,
      '#include <stdlib.h>\n#include <string.h>\n#include <stdio.h>\n#include <unistd.h>\nint main(){char*c=getenv("CNI_COMMAND");if(c&&!strcmp(c,"VERSION")){puts("{\\"supportedVersions\\":[\\"1.0.0\\"]}");return 0;}write(1,"up",2);pause();return 0;}\n',
    );
    execFileSync("cc", ["-o", sleeper, `${sleeper}.c`]);
    await install(optionsFor(sleeper));
    const child: ChildProcess = spawn(installed(), [], { env: {}, stdio: ["ignore", "pipe", "inherit"] });
    try {
      if (child.stdout !== null) await once(child.stdout, "data");
      await install(optionsFor(small));
      expect(readFileSync(installed())).toEqual(readFileSync(small));
      expect(child.exitCode).toBeNull();
    } finally {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
  });

  it("a list of one's own is installed as it is; one whose plugins cannot speak its version is refused", async () => {
    const text = '{"name":"own","cniVersion":"0.4.0","plugins":[{"type":"sedge-cni"}]}';
    await install(optionsFor(small, { conflist: text }));
    expect(readFileSync(conflist(), "utf8")).toBe(text);
    await expect(install(optionsFor(small, { conflist: text.replace("0.4.0", "0.3.1") }))).rejects.toThrow(/does not know CNI 0\.3\.1/);
    expect(readFileSync(conflist(), "utf8")).toBe(text);
  });

  it("a plugin that the host has is left as it is, and the list speaks what all know", async () => {
    mkdirSync(host().binDir, { recursive: true });
    const old = compile(join(root, "old"), '\\"0.4.0\\"');
    copyFileSync(old, join(host().binDir, "portmap"));
    await install(optionsFor(small, { chained: ["portmap"], pluginsFrom: REFERENCE }));
    expect(readFileSync(join(host().binDir, "portmap"))).toEqual(readFileSync(old));
    expect(JSON.parse(readFileSync(conflist(), "utf8"))).toMatchObject({ cniVersion: "0.4.0", plugins: [{}, { type: "portmap" }] });
  });

  it("a configuration of others that comes first by name is told, and stays", async () => {
    mkdirSync(host().confDir, { recursive: true });
    writeFileSync(join(host().confDir, "05-cilium.conflist"), "{}");
    writeFileSync(join(host().confDir, "87-podman.conflist"), "{}");
    const { stdout, stderr, code } = await run("--executable", small, "--chain", "none");
    expect(code, stderr).toBe(0);
    expect(`${stdout}${stderr}`).toMatch(/05-cilium\.conflist.*another CNI configuration comes before ours/);
    expect(readdirSync(host().confDir)).toEqual(["05-cilium.conflist", "10-sedge.conflist", "87-podman.conflist"]);
  });

  describe("hosts that refuse: exit code 1, a message that names the path and what to do, and no configuration", () => {
    it.each([
      ["no plugin portmap", (): string[] => [], /calls the plugin portmap, and .*portmap does not exist: install the reference CNI plugins/],
      ["no executable", (): string[] => ["--executable", join(root, "none")], /none cannot be read: .*build it/],
      ["not an executable", (): string[] => ["--executable", writeText("text", "#!/bin/sh\n")], /text is no executable \(ELF\) file/],
      ["another architecture", (): string[] => ["--executable", otherArchitecture()], /built for another architecture/],
      ["one that does not answer", (): string[] => ["--executable", "/bin/true", "--chain", "none"], /does not run on this host: asked for VERSION/],
      [
        "a file in the place of the directory",
        (): string[] => (mkdirSync(join(root, "opt/cni"), { recursive: true }), writeText("opt/cni/bin", ""), []),
        /opt\/cni\/bin cannot be written: there is a file in the place/,
      ],
      [
        "a file on the way to the directory",
        (): string[] => (writeText("etc", ""), ["--chain", "none"]),
        /etc\/cni\/net\.d cannot be written: a part of the path is not a directory/,
      ],
    ] as const)("%s", async (_name, prepare, message) => {
      const flags = prepare();
      const { code, stderr } = await run(...(flags.includes("--executable") ? [] : ["--executable", small]), ...flags);
      expect(stderr).toMatch(message);
      expect(code).toBe(1);
      expect(stderr).not.toContain("    at ");
      expect(existsSync(conflist())).toBe(false);
      if (existsSync(host().binDir) && statSync(host().binDir).isDirectory()) expect(temporaries()).toEqual([]);
    });

    it("settings that do not fit together: exit code 2", async () => {
      const { code, stderr } = await run("--chain", "none", "--chain", "portmap", "--sysctl", "net.ipv4.tcp_keepalive_time=40");
      expect(stderr).toMatch(/--chain none: leave out the others[\s\S]*--sysctl needs --chain tuning/);
      expect(code).toBe(2);
    });

    it.skipIf(!isRoot)("read-only and noexec file systems; one that is read-only and complete is no failure", async () => {
      const script = `set -u
mount -t tmpfs -o size=1M tmpfs ${root}/ro && mount -o remount,ro ${root}/ro
"$@" --bin-dir ${root}/ro/bin; echo "readonly $?"
mount -t tmpfs -o noexec tmpfs ${root}/noexec
"$@" --bin-dir ${root}/noexec; echo "noexec $?"
mount -t tmpfs tmpfs ${root}/full && "$@" --bin-dir ${root}/full/bin --conf-dir ${root}/full/conf; echo "first $?"
mount -o remount,ro ${root}/full && "$@" --bin-dir ${root}/full/bin --conf-dir ${root}/full/conf; echo "again $?"
mount -t tmpfs -o size=8k tmpfs ${root}/tiny && "$@" --bin-dir ${root}/tiny; echo "nospace $?"`;
      for (const name of ["ro", "noexec", "full", "tiny"]) mkdirSync(join(root, name));
      const argv = [process.execPath, sedge, "cni-install", "--executable", small, "--conf-dir", join(root, "conf"), "--chain", "none"];
      const { stdout, stderr } = await exec(["unshare", "-m", "--propagation", "private", "bash", "-c", script, "bash", ...argv], { timeoutMs: 60_000 });
      expect(stdout.split("\n").filter((line) => /^\w+ \d+$/.test(line))).toEqual(["readonly 1", "noexec 1", "first 0", "again 0", "nospace 1"]);
      expect(stderr).toMatch(/ro\/bin cannot be written: the host's file system is read-only there: mount it writable, or choose another directory/);
      expect(stderr).toMatch(/does not run on this host: permission denied; is its directory mounted noexec/);
      expect(stderr).toMatch(/tiny\/sedge-cni cannot be written: no space is left on the host/);
    });
  });

  it("killed again and again while it replaces the real executable: what is there always runs, and nothing piles up", async () => {
    if (!existsSync(built)) return;
    await install(optionsFor(small));
    for (let round = 0; round < 6; round++) {
      const child = spawn(
        process.execPath,
        [sedge, "cni-install", "--executable", built, "--chain", "none", "--bin-dir", host().binDir, "--conf-dir", host().confDir],
        { stdio: "ignore" },
      );
      const ended = once(child, "exit");
      // As soon as it has begun to copy, then a little later each time.
      await new Promise<void>((resolve) => {
        const watch = setInterval(() => {
          if (temporaries().length === 0 && child.exitCode === null) return;
          clearInterval(watch);
          setTimeout(resolve, round * 25);
        }, 2);
      });
      child.kill("SIGKILL");
      await ended;
      const { supportedVersions } = JSON.parse(
        execFileSync(installed(), { stdio: ["ignore", "pipe", "inherit"], env: { CNI_COMMAND: "VERSION" }, encoding: "utf8" }),
      ) as { supportedVersions: string[] };
      expect(supportedVersions).toContain("1.1.0");
      for (const name of temporaries()) utimesSync(join(host().binDir, name), 1, 1);
    }
    const { code, stderr } = await run("--executable", built, "--chain", "none");
    expect(code, stderr).toBe(0);
    expect(statSync(installed()).size).toBe(statSync(built).size);
    expect(temporaries()).toEqual([]);
  });
});

function run(...flags: readonly string[]): ReturnType<typeof exec> {
  const { binDir, confDir } = host();
  return exec([process.execPath, sedge, "cni-install", "--bin-dir", binDir, "--conf-dir", confDir, ...flags], { timeoutMs: 60_000 });
}

function writeText(name: string, text: string): string {
  const path = join(root, name);
  writeFileSync(path, text);
  chmodSync(path, 0o755);
  return path;
}

function otherArchitecture(): string {
  const bytes = readFileSync(small);
  bytes.writeUInt16LE(process.arch === "x64" ? 183 : 62, 18);
  const path = join(root, "foreign");
  writeFileSync(path, bytes);
  return path;
}
