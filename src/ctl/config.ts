/** Flags that the operator's verbs share. `--config FILE` may hold them, `SEDGE_CTL_<NAME>` overrides the file. */
import { z } from "zod";

export const ctlSchema = z.strictObject({
  server: z.string().default("127.0.0.1:5473").describe("fan-out server, HOST:PORT"),
  tlsCert: z.string().optional().describe("client certificate (PEM file); with tlsKey and tlsCa the connection is mutual TLS, otherwise plain text"),
  tlsKey: z.string().optional().describe("key of the client certificate (PEM file)"),
  tlsCa: z.string().optional().describe("certificate authority of the server (PEM file)"),
  output: z.enum(["table", "json", "wide"]).default("table").describe("output format: table, wide or json (also -o)"),
  node: z.string().optional().describe("only the view of this node"),
  socket: z.string().optional().describe("status, diff, log-level: the agent's socket on this node, for example /run/sedge/agent.sock"),
  revision: z.number().int().min(0).optional().describe("wait: until this revision is in force"),
  for: z.enum(["programmed"]).default("programmed").describe("wait: programmed, in the kernel of every node that it concerns"),
  count: z.number().int().min(1).optional().describe("watch: stop after this many changes"),
  timeoutMs: z.number().int().min(1).default(10_000).describe("give up after this long (unary calls)"),
  help: z.boolean().default(false).describe("print the flags"),
});

export type CtlConfig = z.infer<typeof ctlSchema>;

/** kubectl's habit: `-o json` and `-h` are known here too. */
export function expandShortFlags(argv: readonly string[]): string[] {
  const long: Readonly<Record<string, string>> = { "-o": "--output", "-h": "--help" };
  return argv.map((argument) => (argument.startsWith("-o=") ? `--output=${argument.slice(3)}` : (long[argument] ?? argument)));
}
