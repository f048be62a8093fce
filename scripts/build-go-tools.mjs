// Builds the Go programs that the tests use as others' clients and servers: a real kube-apiserver, kubectl, Helm, grpcurl, h2spec,
// and a gRPC client that shares no code with us.
//
//   node scripts/build-go-tools.mjs [--find] [name ...]      default: all
//
// stdout: one JSON object {name: path}. stderr: progress. --find builds nothing and names only what is there.
// Exit codes: 0 all there; 1 a build failed; 2 usage; 3 no usable Go (with the line "skipped: …"); 4 --find: one that was named is missing.
//
// Each binary lies in a directory named by a hash of everything that it is made from, is renamed there when complete, and
// is never replaced. Rejected: `go install pkg@version`, which refuses modules with `replace` and checks no go.sum of ours.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { constants, setPriority } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildOnce, cacheDir } from "./single-build.mjs";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const VERSION = "k8s.io/component-base/version";
const KUBERNETES_LDFLAGS = `-X ${VERSION}.gitVersion=v1.37.2 -X ${VERSION}.gitMajor=1 -X ${VERSION}.gitMinor=37`;
const NETWORK_TROUBLE = /dial tcp|i\/o timeout|unexpected EOF|connection reset|TLS handshake|50[0234] |proxyconnect|no such host/;
const ATTEMPTS = 3;
const FIRST_MINOR_WITH_TOOLCHAINS = 21;

/** module: directory of go.mod; target: package to build; ldflags: beyond -s -w. */
const TOOLS = {
  "kube-apiserver": { module: "test/apiserver", target: ".", ldflags: KUBERNETES_LDFLAGS },
  kubectl: { module: "test/apiserver", target: "./kubectl", ldflags: KUBERNETES_LDFLAGS },
  grpcurl: { module: "test/foreign/grpcurl", target: "github.com/fullstorydev/grpcurl/cmd/grpcurl", ldflags: "-X main.version=v1.9.4" },
  helm: { module: "test/apiserver/helm", target: "helm.sh/helm/v4/cmd/helm", ldflags: "" },
  h2spec: { module: "test/foreign/h2spec", target: "github.com/summerwind/h2spec/cmd/h2spec", ldflags: "" },
  cnitool: { module: "test/foreign/cnitool", target: "github.com/containernetworking/cni/cnitool", ldflags: "" },
  "foreign-go-client": { module: "test/foreign/go", target: ".", ldflags: "" },
};

const goEnvironment = { ...process.env, CGO_ENABLED: "0", GOWORK: "off", GOFLAGS: "-mod=readonly -buildvcs=false" };

function note(text) {
  process.stderr.write(`${text}\n`);
}

/** The Go that would build this module, e.g. "go1.26.8"; undefined: none that can. */
function goVersion(moduleDir) {
  if (!existsSync(join(moduleDir, "go.mod"))) throw new Error(`${moduleDir}: no go.mod`);
  const { error, status, stdout, stderr } = spawnSync("go", ["env", "GOVERSION"], { cwd: moduleDir, env: goEnvironment, encoding: "utf8" });
  if (error?.code === "ENOENT") {
    note("skipped: go not found");
    note("Install Go 1.21 or newer (it fetches the toolchain that go.mod names by itself) and put it on PATH.");
    return undefined;
  }
  if (status !== 0 || stdout.trim() === "") {
    note(`skipped: this go cannot build ${moduleDir}: ${(stderr || String(error ?? "GOVERSION is empty")).trim()}`);
    note("Go 1.21 or newer is needed; it fetches the toolchain that go.mod names by itself.");
    return undefined;
  }
  const version = stdout.trim();
  const minor = /^go1\.(\d+)/.exec(version)?.[1];
  if (minor !== undefined && Number(minor) < FIRST_MINOR_WITH_TOOLCHAINS) {
    note(`skipped: ${version} is too old`);
    note("Go 1.21 or newer is needed; it fetches the toolchain that go.mod names by itself.");
    return undefined;
  }
  return version;
}

function toolPath(name, version) {
  const { module, target, ldflags } = TOOLS[name];
  const dir = join(ROOT, module);
  const hash = createHash("sha256").update(`${version} ${process.platform} ${process.arch} ${target} ${ldflags}\n`);
  const sources = target.startsWith(".") ? sourcesIn(join(dir, target)) : [];
  for (const file of [join(dir, "go.mod"), join(dir, "go.sum"), ...sources]) hash.update(readFileSync(file)).update("\0");
  return join(cacheDir(), "go-tools", hash.digest("hex").slice(0, 16), name);
}

function sourcesIn(dir) {
  const names = readdirSync(dir).filter((name) => name.endsWith(".go") && !name.endsWith("_test.go"));
  return names.sort().map((name) => join(dir, name));
}

async function build(name, path) {
  const { module, target, ldflags } = TOOLS[name];
  const partial = `${path}.${process.pid}.partial`;
  mkdirSync(dirname(path), { recursive: true });
  const started = Date.now();
  try {
    for (let attempt = 1; ; attempt += 1) {
      note(`building ${name}${module === "test/apiserver" ? " (the first build from Kubernetes' modules takes 6 to 10 minutes on two cores)" : ""}`);
      const { code, tail } = await runGo(["build", "-trimpath", `-ldflags=-s -w ${ldflags}`, "-o", partial, target], join(ROOT, module));
      if (code === 0) break;
      if (attempt === ATTEMPTS || !NETWORK_TROUBLE.test(tail)) throw new Error(`${name}: go build in ${module} ended with ${code}; its messages are above`);
      note(`${name}: looks like trouble with the network, trying again`);
    }
    renameSync(partial, path);
  } finally {
    rmSync(partial, { force: true });
  }
  note(`built ${name} in ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

function runGo(args, cwd) {
  return new Promise((resolve, reject) => {
    const child = spawn("go", args, { cwd, env: goEnvironment, stdio: ["ignore", "pipe", "pipe"] });
    // Minutes of compiling on all cores must not starve what runs beside it.
    if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_LOW);
    let tail = "";
    const show = (chunk) => {
      tail = (tail + chunk).slice(-20_000);
      process.stderr.write(chunk);
    };
    child.stdout.on("data", show);
    child.stderr.on("data", show);
    // Go ends, so the build fails, so the partial file and the lock go.
    const stop = (signal) => child.kill(signal);
    process.once("SIGINT", stop).once("SIGTERM", stop);
    child.once("error", reject);
    child.once("close", (code, signal) => {
      process.removeListener("SIGINT", stop).removeListener("SIGTERM", stop);
      resolve({ code: code ?? signal, tail });
    });
  });
}

async function main(args) {
  const findOnly = args.includes("--find");
  const names = args.filter((arg) => arg !== "--find");
  const unknown = names.filter((name) => !Object.hasOwn(TOOLS, name));
  if (unknown.length > 0) {
    note(`unknown: ${unknown.join(" ")}; usage: build-go-tools.mjs [--find] [${Object.keys(TOOLS).join(" | ")} ...]`);
    return 2;
  }
  const paths = {};
  for (const name of names.length > 0 ? names : Object.keys(TOOLS)) {
    const version = goVersion(join(ROOT, TOOLS[name].module));
    if (version === undefined) return 3;
    const path = toolPath(name, version);
    const isDone = () => existsSync(path);
    if (!findOnly) {
      await buildOnce({ path, isDone, build: () => build(name, path), onWait: () => note(`${name}: another process is building it, waiting`) });
    }
    if (isDone()) paths[name] = path;
  }
  process.stdout.write(`${JSON.stringify(paths)}\n`);
  return names.some((name) => !(name in paths)) ? 4 : 0;
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error) => {
    note(error.message);
    process.exitCode = 1;
  },
);
