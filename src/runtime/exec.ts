/** Runs another program to its end. Arguments are never given to a shell. */
import { spawn } from "node:child_process";

export interface ExecResult {
  /** Exit code; 128 + signal number when killed by one is not made up: `signal` says so and code is undefined. */
  readonly code: number | undefined;
  readonly signal: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ExecOptions {
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** The program is killed after this long, default 60 s. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export class ExecError extends Error {
  readonly code = "EXEC";
  readonly result: ExecResult;

  constructor(command: readonly string[], result: ExecResult) {
    super(`${command.join(" ")} failed (${result.code ?? result.signal ?? "?"}): ${result.stderr.trim() || result.stdout.trim()}`);
    this.name = "ExecError";
    this.result = result;
  }
}

/** Never rejects for a non-zero exit; rejects when the program cannot be started. */
export function exec(command: readonly [string, ...string[]], options: ExecOptions = {}): Promise<ExecResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0], command.slice(1), {
      stdio: ["pipe", "pipe", "pipe"],
      timeout: options.timeoutMs ?? 60_000,
      killSignal: "SIGKILL",
      ...(options.env === undefined ? {} : { env: { ...options.env } }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code: code ?? undefined, signal: signal ?? undefined, stdout, stderr }));
    child.stdin.on("error", () => undefined);
    child.stdin.end(options.stdin ?? "");
  });
}

/** As `exec`, but a non-zero exit rejects with ExecError; resolves to stdout. */
export async function execOk(command: readonly [string, ...string[]], options: ExecOptions = {}): Promise<string> {
  const result = await exec(command, options);
  if (result.code !== 0) throw new ExecError(command, result);
  return result.stdout;
}
