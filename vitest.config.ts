import { defineConfig } from "vitest/config";

const everywhere = ["src", "fanout", "agent", "cni", "bench", "bin", "test"];
const files = (suffix: string): string[] => everywhere.map((folder) => `${folder}/**/*${suffix}`);
const shared = { environment: "node", hookTimeout: 120_000, restoreMocks: true } as const;

/** Three projects, by what a test needs: nothing; loopback sockets and processes; root, namespaces and a kernel. */
export default defineConfig({
  test: {
    projects: [
      { test: { ...shared, name: "unit", include: files(".test.ts"), exclude: [...files(".fv.test.ts"), ...files(".kernel.test.ts")], testTimeout: 60_000 } },
      { test: { ...shared, name: "fv", include: files(".fv.test.ts"), testTimeout: 120_000, pool: "forks", maxWorkers: 2 } },
      { test: { ...shared, name: "kernel", include: files(".kernel.test.ts"), testTimeout: 180_000, pool: "forks", fileParallelism: false } },
    ],
  },
});
