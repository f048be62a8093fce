// npm test: set-up, every check, every test, one summary. Ends with "N passed, N failed" and the names of what was skipped, with the reason.
// In CI (CI=true) a skipped test is a failure. Arguments: names of stages to run only those (npm test -- unit kernel).
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildCni, installDebianPackages, installNpmPackages, pinnedNode, root, toolEnv } from "./setup.mjs";

const only = process.argv.slice(2);
/** @type {{ passed: number, failed: number, skipped: { name: string, reason: string }[], failures: string[] }} */
const totals = { passed: 0, failed: 0, skipped: [], failures: [] };
const scratch = mkdtempSync(join(tmpdir(), "sedge-test-"));
const isRoot = process.getuid?.() === 0;

function run(command, args, env = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: "inherit", env: { ...toolEnv(), ...env } });
  if (result.error) process.stderr.write(`${command}: ${result.error.message}\n`);
  return result.status === 0;
}

function headline(name) {
  process.stdout.write(`\n== ${name}\n`);
}

/** A check that is one command: it counts as one test. */
function check(name, command, args) {
  headline(name);
  if (run(command, args)) totals.passed++;
  else {
    totals.failed++;
    totals.failures.push(name);
  }
}

function vitest(project, env = {}) {
  headline(`${project} tests`);
  const file = join(scratch, `${project}.json`);
  const ok = run(join(root, "node_modules", ".bin", "vitest"), ["run", "--project", project, "--reporter=dot", "--reporter=./scripts/summary-reporter.mjs"], {
    ...env,
    SEDGE_TEST_SUMMARY: file,
  });
  try {
    const summary = JSON.parse(readFileSync(file, "utf8"));
    totals.passed += summary.passed;
    totals.failed += summary.failed;
    totals.skipped.push(...summary.skipped);
    totals.failures.push(...summary.failures);
    if (!ok && summary.failed === 0) throw new Error("it ended with an error");
  } catch (error) {
    totals.failed++;
    totals.failures.push(`${project} tests: the run did not end well (${error.message})`);
  }
}

/** Binaries from Go modules and a Python environment, cached between runs. Where the machine lacks what they need, the tests that use them skip themselves by name. */
function buildForeignTools() {
  headline("tools from Go modules and PyPI (cached)");
  for (const script of ["build-go-tools.mjs", "build-python-tools.mjs"]) {
    const { status } = spawnSync(process.execPath, [join(root, "scripts", script)], { cwd: root, stdio: "inherit", env: toolEnv() });
    // 3: the machine has no Go (or Python) that is new enough; the script has said so.
    if (status !== 0 && status !== 3) throw new Error(`${script} failed: see above`);
  }
}

const stages = {
  checks() {
    const bin = (name) => join(root, "node_modules", ".bin", name);
    check("typecheck", bin("tsc"), ["-b"]);
    check("lint", bin("oxlint"), ["--type-aware"]);
    check("format", bin("biome"), ["ci", "--log-level=error"]);
    check("unused code and dependencies", bin("knip"), []);
    check("generated files are current", pinnedNode, [join(root, "scripts", "generate.mjs"), "--check"]);
  },
  unit: () => vitest("unit"),
  fv: () => vitest("fv"),
  kernel: () => vitest("kernel"),
};

await installNpmPackages();
const missing = isRoot ? installDebianPackages("test") : [];
if (missing.length > 0) process.stdout.write(`not on this machine and not installable: ${missing.join(", ")}\n`);
buildCni();
if (only.length === 0 || only.includes("fv") || only.includes("kernel")) buildForeignTools();
for (const [name, stage] of Object.entries(stages)) if (only.length === 0 || only.includes(name)) stage();
rmSync(scratch, { recursive: true, force: true });

headline("summary");
for (const failure of totals.failures) process.stdout.write(`failed: ${failure}\n`);
for (const { name, reason } of totals.skipped) process.stdout.write(`skipped: ${name} (${reason})\n`);
const skippedInCi = process.env.CI === "true" ? totals.skipped.length : 0;
if (skippedInCi > 0) process.stdout.write("in CI nothing may be skipped: each skipped test counts as failed\n");
const failed = totals.failed + skippedInCi;
process.stdout.write(`${totals.passed} passed, ${failed} failed${totals.skipped.length > skippedInCi ? `, ${totals.skipped.length} skipped` : ""}\n`);
process.exitCode = failed > 0 || totals.passed === 0 ? 1 : 0;
