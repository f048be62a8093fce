/** Flags of `sedge demo` (npm start -- …). */
import { z } from "zod";

export const demoSchema = z.strictObject({
  once: z.boolean().default(false).describe("run through, print a JSON summary on stdout, clean up, exit 0 (all as expected) or 1"),
  kubeconfig: z.string().optional().describe("use this API server in place of the embedded one (its objects are made and deleted again)"),
  name: z
    .string()
    .regex(/^[a-z0-9]{1,12}$/, "want 1 to 12 lower-case letters and digits")
    .default("demo")
    .describe("name of this demo: its namespaces begin with sedge-NAME-; two of different names do not disturb each other"),
  dir: z
    .string()
    .optional()
    .describe("where the demo keeps its files (default: /run/sedge-NAME as root, else a folder of the user's below the temporary folder)"),
  syncPort: z
    .number()
    .int()
    .min(0)
    .max(65535)
    .default(5473)
    .describe("loopback port of the fan-out server for sedge … and grpcurl; a free one is taken when it is in use"),
  apiPort: z.number().int().min(0).max(65535).default(6443).describe("loopback port of the embedded API; a free one is taken when it is in use"),
  help: z.boolean().default(false).describe("print the flags"),
});
