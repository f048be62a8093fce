/**
 * `sedge …` in the test's own process, with what it prints caught: a start of Node costs half a second of a processor, more than the command. One at a time,
 * because what is caught is the process's. The programs that run until a signal are none for this.
 */
import { vi } from "vitest";
import { runSedge } from "../../bin/programs.ts";

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

let isRunning = false;

/** Never rejects for what the command does; throws when another runs. */
export async function sedgeCommand(...argv: readonly string[]): Promise<Ended> {
  if (isRunning) throw new Error(`sedge ${argv.join(" ")}: another command runs in this process`);
  isRunning = true;
  let [out, err] = ["", ""];
  const stdout = vi.spyOn(process.stdout, "write").mockImplementation((chunk) => (out += String(chunk)) !== "");
  const stderr = vi.spyOn(process.stderr, "write").mockImplementation((chunk) => (err += String(chunk)) !== "");
  try {
    const code = await runSedge(argv);
    return { code, stdout: out, stderr: err };
  } finally {
    stdout.mockRestore();
    stderr.mockRestore();
    isRunning = false;
  }
}
