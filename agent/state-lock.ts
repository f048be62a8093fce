/**
 * One agent for one state directory: a socket in it that lives as long as the process.
 *
 * A socket tells by itself whether its owner lives, through kill -9, in containers with their own process numbers and in every network namespace.
 * Rejected: a file with a process number (numbers are used again, and differ between containers).
 */
import { mkdir, unlink } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { socketAnswers } from "./socket-answers.ts";
import { StateError } from "./view/store.ts";

export interface StateLock {
  release(): Promise<void>;
}

/** Throws StateError when another agent has it. */
export async function lockState(directory: string): Promise<StateLock> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const path = join(directory, "agent.lock");
  for (let attempt = 0; attempt < 3; attempt++) {
    const server = await tryListen(path);
    if (server !== undefined) return { release: () => new Promise((resolve) => server.close(() => resolve())) };
    if (await socketAnswers(path)) break;
    // Of a dead agent. On a file system that is read-only it cannot go: that is then what is wrong, not another agent.
    await unlink(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
    });
  }
  throw new StateError(`${directory} is in use by another agent that is running (${path}): stop it, or give this one another --state-dir`);
}

/** undefined: the name is taken. */
function tryListen(path: string): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", (error: NodeJS.ErrnoException) => (error.code === "EADDRINUSE" ? resolve(undefined) : reject(error)));
    server.listen(path, () => {
      server.unref();
      resolve(server);
    });
  });
}
