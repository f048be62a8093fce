// Brings a fresh machine to where the project runs: npm packages (with the pinned Node), Debian packages, the CNI executable.
// Plain JavaScript for Node >= 20 without dependencies, since it runs before there are any. Everything is skipped when it is there already.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, lstatSync, mkdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildOnce } from "./single-build.mjs";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const stamp = join(root, "node_modules", ".sedge-lock-hash");

/** The Node that the project pins; sources need its type stripping. */
export const pinnedNode = join(root, "node_modules", ".bin", "node");

/** Environment in which children find the pinned tools first. */
export function toolEnv() {
  return { ...process.env, PATH: `${join(root, "node_modules", ".bin")}:${process.env.PATH ?? "/usr/bin:/bin"}:/usr/sbin:/sbin` };
}

/** Debian packages by what they bring: executable → packages. */
const DEBIAN = {
  build: { cc: "gcc libc6-dev", pip3: "python3-pip" },
  runtime: { nft: "nftables", ip: "iproute2" },
  test: {
    nft: "nftables",
    ip: "iproute2",
    conntrack: "conntrack",
    python3: "python3",
    ctr: "containerd",
    curl: "curl",
    openssl: "openssl",
    podman: "podman",
    runc: "runc",
    "/usr/lib/cni/loopback": "containernetworking-plugins",
  },
};

function say(line) {
  process.stderr.write(`setup: ${line}\n`);
}

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: ["ignore", 2, 2], env: toolEnv(), ...options });
  if (result.error) throw result.error;
  return result.status === 0;
}

export function hasCommand(name) {
  return spawnSync("sh", ["-c", `command -v ${name}`], { env: toolEnv() }).status === 0;
}

/** npm ci empties node_modules first, so two at once spoil each other's: the second waits, and then finds everything there. */
export async function installNpmPackages() {
  const hash = createHash("sha256")
    .update(readFileSync(join(root, "package-lock.json")))
    .digest("hex");
  await buildOnce({
    // Not in node_modules, which npm ci removes.
    path: join(root, "dist", "npm-packages"),
    isDone: () => existsSync(stamp) && readFileSync(stamp, "utf8") === hash && existsSync(pinnedNode),
    onWait: () => say("another npm start or npm test is installing npm packages here: waiting for it"),
    build: async () => {
      const modules = join(root, "node_modules");
      if (lstatSync(modules, { throwIfNoEntry: false })?.isSymbolicLink()) {
        stop(`${modules} is a link, and npm ci would empty the folder behind it: remove the link, or run npm ci where it points to (${readlinkSync(modules)})`);
      }
      say("installing npm packages (npm ci)");
      if (!(await npmCi())) stop("npm ci failed: see above");
      writeFileSync(stamp, hash);
    },
  });
}

/** Not spawnSync: the lock shows that this process lives by what it does meanwhile. */
function npmCi() {
  return new Promise((resolve, reject) => {
    const child = spawn("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], { cwd: root, stdio: ["ignore", 2, 2], env: toolEnv() });
    child.on("error", reject);
    child.on("exit", (code) => resolve(code === 0));
  });
}

/** Ends the process with what a person has to do. */
function stop(message) {
  say(message);
  process.exit(1);
}

/** Installs what is missing where that is possible; returns the names of executables that are still not there. */
export function installDebianPackages(purpose) {
  const wanted = DEBIAN[purpose];
  const missing = () => Object.keys(wanted).filter((name) => !hasCommand(name));
  const lacksVenv = () => purpose === "test" && spawnSync("python3", ["-c", "import ensurepip, venv"], { env: toolEnv() }).status !== 0;
  const before = missing();
  if ((before.length > 0 || lacksVenv()) && process.getuid?.() === 0 && hasCommand("apt-get")) {
    const packages = [...new Set(before.flatMap((name) => wanted[name].split(" "))), ...(lacksVenv() ? ["python3-venv"] : [])];
    say(`installing Debian packages: ${packages.join(" ")}`);
    const env = { ...toolEnv(), DEBIAN_FRONTEND: "noninteractive" };
    run("apt-get", ["update", "-q"], { env });
    run("apt-get", ["install", "-y", "-q", "--no-install-recommends", ...packages], { env });
  }
  return missing();
}

export function buildCni() {
  installDebianPackages("build");
  mkdirSync(join(root, "dist"), { recursive: true });
  if (!run(pinnedNode, [join(root, "scripts", "build-cni.mjs")])) throw new Error("building dist/cni/sedge-cni failed: see above");
}
