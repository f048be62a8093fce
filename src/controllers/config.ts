/** Settings of `sedge controllers`. Flag, SEDGE_CONTROLLERS_<NAME>, file: see src/runtime/config.ts. */
import { z } from "zod";

export const controllersConfigSchema = z.strictObject({
  kubeconfig: z.string().optional().describe("Kubeconfig of the API server; without it KUBECONFIG, ~/.kube/config or the pod's service account"),
  namespace: z.string().default("kube-system").describe("Where the Lease of the leader is"),
  identity: z.string().default("").describe("This program in the Lease; host name and process when empty"),
  leaseMs: z.number().int().min(1_000).max(600_000).default(15_000).describe("A leader that has not renewed for this long is followed by another"),
  collectIntervalMs: z.number().int().min(100).max(86_400_000).default(300_000).describe("Addresses are looked through this often"),
  tierIntervalMs: z
    .number()
    .int()
    .min(100)
    .max(3_600_000)
    .default(10_000)
    .describe("Tiers are looked after this often: the built-in ones are there, deleted ones go when empty"),
  poolIntervalMs: z
    .number()
    .int()
    .min(100)
    .max(3_600_000)
    .default(5_000)
    .describe("IPPools are looked through this often: the condition Allocatable, deleted pools"),
  leakGraceMs: z
    .number()
    .int()
    .min(0)
    .max(86_400_000)
    .default(900_000)
    .describe(
      "An address whose pod is gone is freed when it was found so for this long; 0: such addresses are never freed. Addresses of vanished nodes do not wait",
    ),
  nodeGraceMs: z.number().int().min(0).max(86_400_000).default(60_000).describe("A node must be gone for this long before its addresses and blocks are freed"),
  maxRepairs: z.number().int().min(1).max(100_000).default(500).describe("At most so many addresses and blocks are freed in one pass"),
  dryRun: z.boolean().default(false).describe("Say what would be freed, and free nothing"),
  metricsListen: z.string().default("127.0.0.1:9096").describe("Where /metrics is served, HOST:PORT"),
  healthListen: z.string().default("127.0.0.1:9097").describe("Where /liveness and /readiness are served, HOST:PORT"),
  logLevel: z.enum(["trace", "debug", "info", "warn", "error"]).default("info").describe("Least severe level that is logged"),
});

export type ControllersConfig = z.infer<typeof controllersConfigSchema>;
