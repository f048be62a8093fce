// Runs the foreign gRPC clients of this folder (Go: grpc-go and dynamicpb; Python: the C core and upb) as nodes of a server
// under test. They share nothing with us but the .proto files, so what they accept, any gRPC client accepts.
//
// They are not built here: scripts/build-go-tools.mjs and scripts/build-python-tools.mjs do that; a test without one is
// skipped with the reason. Both take the same flags and print the same lines.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { findGoTool } from "../apiserver/start.ts";

const PROTO_DIR = fileURLToPath(new URL("../../proto", import.meta.url));
const PYTHON_SCRIPT = fileURLToPath(new URL("../../scripts/build-python-tools.mjs", import.meta.url));

export interface ForeignClient {
  readonly name: "go" | "python";
  /** Program and first arguments; `undefined`: not built, `reason` says what to do. */
  readonly command: readonly [string, ...string[]] | undefined;
  readonly reason: string;
}

/** One line of a client's output. Numbers of 64 bits inside `message` are decimal strings (the JSON form of protobuf). */
export interface ForeignLine {
  readonly session: number;
  /** "welcome", "update", "heartbeat", "report_result", "move", or "end" for the last line. */
  readonly kind: string;
  /** The message itself in protobuf's JSON form, without `quiet`. */
  readonly message?: Readonly<Record<string, unknown>>;
  /** On the commit that completes the answer to Hello. */
  readonly inSync?: boolean;
  /** After each commit and at the end: how many records the view has. */
  readonly records?: number;
  /** At the end: the view's keys, sorted. */
  readonly keys?: readonly string[];
  /** At the end, when it ended otherwise: what happened, the gRPC code in the client's own spelling, the trailer. */
  readonly error?: string;
  readonly code?: string;
  readonly retryAfterMs?: string;
}

export interface ForeignRun {
  readonly lines: readonly ForeignLine[];
  readonly end: ForeignLine;
  /** 0 done; 1 the stream ended otherwise; 2 usage; 3 the server broke a promise of the .proto files. */
  readonly exitCode: number;
}

export interface ForeignRunOptions {
  /** "host:port". */
  readonly address: string;
  readonly node: string;
  /** PEM files; `undefined`: plain text. */
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string; readonly serverName?: string };
  /** Live commits to wait for after in-sync; default 0. */
  readonly commits?: number;
  /** Sessions one after the other; each later one states the digests of the one before. Default 1. */
  readonly sessions?: number;
  readonly bucketBits?: number;
  readonly timeoutSeconds?: number;
  /** Called for each line as it comes. */
  readonly onLine?: (line: ForeignLine) => void;
  readonly signal?: AbortSignal;
}

/** Both clients, built or not. */
export function foreignClients(): readonly ForeignClient[] {
  const go = findGoTool("foreign-go-client");
  return [
    { name: "go", command: go === undefined ? undefined : [go], reason: "run: node scripts/build-go-tools.mjs foreign-go-client" },
    { name: "python", command: findPythonClient(), reason: "run: node scripts/build-python-tools.mjs" },
  ];
}

function findPythonClient(): readonly [string, string] | undefined {
  try {
    const answer: unknown = JSON.parse(execFileSync(process.execPath, [PYTHON_SCRIPT, "--find"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
    if (typeof answer !== "object" || answer === null || !("python" in answer) || !("foreign-python-client" in answer)) return undefined;
    const { python, "foreign-python-client": client } = answer;
    return typeof python === "string" && typeof client === "string" ? [python, client] : undefined;
  } catch {
    return undefined; // Exit codes 3 and 4: no Python, not made.
  }
}

/** Runs a client to its end. Rejects only when it cannot be run at all. */
export async function runForeignClient(client: ForeignClient, options: ForeignRunOptions): Promise<ForeignRun> {
  if (client.command === undefined) throw new Error(`the ${client.name} client is not built; ${client.reason}`);
  const [program, ...first] = client.command;
  const seconds = String(options.timeoutSeconds ?? 30);
  const args = [...first, "--address", options.address, "--node", options.node, "--proto-dir", PROTO_DIR];
  args.push("--commits", String(options.commits ?? 0), "--sessions", String(options.sessions ?? 1), "--bucket-bits", String(options.bucketBits ?? 4));
  args.push("--timeout", client.name === "go" ? `${seconds}s` : seconds);
  if (options.tls === undefined) args.push("--plaintext");
  else {
    args.push("--ca", options.tls.ca, "--cert", options.tls.cert, "--key", options.tls.key);
    if (options.tls.serverName !== undefined) args.push("--server-name", options.tls.serverName);
  }
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], ...(options.signal === undefined ? {} : { signal: options.signal }) });
  let messages = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    messages += text;
  });
  const lines: ForeignLine[] = [];
  const reader = createInterface({ input: child.stdout });
  reader.on("line", (text) => {
    const line: ForeignLine = JSON.parse(text);
    lines.push(line);
    options.onLine?.(line);
  });
  const [exitCode] = await once(child, "close");
  const end = lines.at(-1);
  if (end?.kind !== "end") throw new Error(`the ${client.name} client ended with ${String(exitCode)} and without a last line:\n${messages}`);
  return { lines, end, exitCode: Number(exitCode) };
}
