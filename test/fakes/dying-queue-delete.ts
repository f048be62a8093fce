/**
 * The CNI executable's queue of DELs in a process that kills itself before its file system call of a number (from 1); beyond the last one it ends well.
 *
 *   node test/fakes/dying-queue-delete.ts <directory> <number> <request>
 *
 * The calls of cni/native/host.c are made by `node:fs` here, counted.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, unlinkSync, writeSync } from "node:fs";
import { queueDelete } from "../../cni/delete-queue.ts";
import type { FileKind, Host } from "../../cni/system-calls.ts";

const [directory = "", dieAt = "", request = "{}"] = process.argv.slice(2);
const FLAGS: Readonly<Record<FileKind, string>> = { replace: "w", append: "a", directory: "r" };
let left = Number(dieAt);

function call(action: () => number): number {
  if (--left === 0) process.kill(process.pid, "SIGKILL");
  try {
    return action();
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw error;
    return errno;
  }
}

function nothing(action: () => void): number {
  return call(() => {
    action();
    return 0;
  });
}

const host: Partial<Host> = {
  close: (fd) => nothing(() => closeSync(fd)),
  makeDirectory: (path) => nothing(() => mkdirSync(path, { mode: 0o700 })),
  openFile: (path, kind) => call(() => openSync(path, FLAGS[kind], 0o600)),
  processId: () => process.pid,
  remove: (path) => nothing(() => unlinkSync(path)),
  rename: (from, to) => nothing(() => renameSync(from, to)),
  sync: (fd) => nothing(() => fsyncSync(fd)),
  writeAll: (fd, text) => nothing(() => writeSync(fd, text)),
};
Object.assign(globalThis, { host });
queueDelete(directory, { containerId: "a", ifname: "eth0", network: "k8s-pod-network" }, JSON.parse(request) as object);
