// A vitest reporter that writes what scripts/test.mjs sums up: counts, and every skipped test by name with its reason (the note of `ctx.skip(note)`,
// else the text in [square brackets] in the name of the test or of a suite around it).
import { writeFileSync } from "node:fs";

export default class SummaryReporter {
  onTestRunEnd(modules, unhandledErrors) {
    const summary = { passed: 0, failed: 0, skipped: [], failures: [] };
    for (const module of modules) {
      if (module.state() === "failed" && module.children.size === 0)
        summary.failures.push(
          `${module.moduleId}: ${module
            .errors()
            .map((error) => error.message)
            .join("; ")}`,
        );
      for (const test of module.children.allTests()) {
        const { state, note } = test.result();
        if (state === "passed") summary.passed++;
        else if (state === "skipped")
          summary.skipped.push({ name: test.fullName, reason: note ?? /\[([^\]]+)\]/.exec(test.fullName)?.[1] ?? defaultReason(module.moduleId) });
        else summary.failures.push(test.fullName);
      }
    }
    for (const error of unhandledErrors) summary.failures.push(`unhandled error: ${error.message}`);
    summary.failed = summary.failures.length;
    writeFileSync(process.env.SEDGE_TEST_SUMMARY, JSON.stringify(summary));
  }
}

/** What the suffix of the file says that its tests need. */
function defaultReason(file) {
  if (file.endsWith(".kernel.test.ts")) return "needs root and a kernel with namespaces and nf_tables";
  return file.endsWith(".fv.test.ts") ? "needs a tool that this machine lacks" : "no reason given";
}
