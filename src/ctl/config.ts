/** Flags that the operator's verbs share. `--config FILE` may hold them, `SEDGE_CTL_<NAME>` overrides the file. */
import { z } from "zod";

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** "30s", "1m30s" → ms. */
const durationMs = z
  .string()
  .regex(/^(\d+(\.\d+)?(ms|s|m|h))+$/, "want a duration, for example 30s, 1m30s or 500ms")
  .transform((text) => [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)].reduce((sum, [, value, unit]) => sum + Number(value) * (UNITS[unit ?? ""] ?? 0), 0));

const SERVER = /^(?:unix:.+|(?:\[[0-9a-fA-F:]+\]|[^:\s[\]]+):(\d{1,5}))$/;

function isServerList(text: string): boolean {
  return text.split(",").every((server) => {
    const [match, port = "1"] = SERVER.exec(server) ?? [];
    return match !== undefined && Number(port) >= 1 && Number(port) <= 65_535;
  });
}

export const ctlSchema = z.strictObject({
  server: z
    .string()
    .refine(isServerList, "want HOST:PORT or unix:/PATH, several with commas between; a port is a number from 1 to 65535")
    .default("127.0.0.1:5473")
    .describe("fan-out server, HOST:PORT; status, clients and rebalance ask all of A:PORT,B:PORT, and all that a name stands for"),
  tlsCert: z.string().optional().describe("client certificate (PEM file); with tlsKey and tlsCa the connection is mutual TLS, otherwise plain text"),
  tlsKey: z.string().optional().describe("key of the client certificate (PEM file)"),
  tlsCa: z.string().optional().describe("certificate authority of the server (PEM file)"),
  output: z.enum(["table", "json", "wide"]).default("table").describe("output format: table, wide or json (also -o)"),
  node: z.string().optional().describe("only the view of this node"),
  namespace: z.string().optional().describe("policy status, wait, why: of this namespace (also -n)"),
  socket: z.string().optional().describe("status, diff, log-level: the agent's socket on this node, for example /run/sedge/agent.sock"),
  revision: z.number().int().min(0).optional().describe("wait: until this revision is in force"),
  for: z.enum(["programmed"]).default("programmed").describe("wait: programmed, in the kernel of every node that it concerns"),
  generation: z.number().int().min(0).optional().describe("wait: until the server has this metadata.generation of the policy, or a later one"),
  timeout: durationMs.optional().describe("wait: give up after this long, for example 30s, 2m or 500ms"),
  count: z.number().int().min(1).optional().describe("watch: stop after this many changes"),
  dryRun: z.boolean().optional().describe("rebalance: only say how many agents it would be"),
  movesPerSecond: z.number().int().min(1).optional().describe("rebalance: agents asked in a second; without it what the server is set to"),
  timeoutMs: z.number().int().min(1).default(10_000).describe("give up after this long (unary calls)"),
  help: z.boolean().default(false).describe("print the flags"),
});

export type CtlConfig = z.infer<typeof ctlSchema>;

/** kubectl's habit: `-o json` and `-h` are known here too. */
export function expandShortFlags(argv: readonly string[]): string[] {
  const long: Readonly<Record<string, string>> = { "-o": "--output", "-h": "--help", "-n": "--namespace" };
  return argv.map((argument) => (argument.startsWith("-o=") ? `--output=${argument.slice(3)}` : (long[argument] ?? argument)));
}
