/**
 * The CNI executable's queue of DELs in a process that kills itself before its file system call of a number (from 1); beyond the last one it ends well.
 *
 *   node test/fakes/dying-queue-delete.ts <directory> <number> <request>
 *
 * The calls of `node:fs` are wrapped from outside: the program has no such hook.
 */
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { queueDelete } from "../../cni/delete-queue.ts";

const [directory = "", dieAt = "", request = "{}"] = process.argv.slice(2);
let left = Number(dieAt);

function counted<Arguments extends readonly unknown[], Result>(call: (...args: Arguments) => Result): (...args: Arguments) => Result {
  return (...args) => {
    if (--left === 0) process.kill(process.pid, "SIGKILL");
    return call(...args);
  };
}

const { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeSync } = fs;
Object.assign(fs, {
  closeSync: counted(closeSync),
  fsyncSync: counted(fsyncSync),
  mkdirSync: counted(mkdirSync),
  openSync: counted(openSync),
  renameSync: counted(renameSync),
  writeSync: counted(writeSync),
});
syncBuiltinESMExports();
await queueDelete(directory, { containerId: "a", ifname: "eth0", network: "k8s-pod-network" }, JSON.parse(request) as object);
