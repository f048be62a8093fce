/**
 * Where a process can be killed: every message to the kernel and every write of the journal, counted from a moment on.
 *
 * A point lies before its write, so that the next one's is after it; the last one of a request is before its answer. The program itself knows nothing of
 * this: its own interfaces, and the one class that all netlink goes through, are wrapped.
 */
import type { JournalFiles } from "../../agent/addresses/journal-files.ts";
import { NetlinkSocket } from "../../agent/drivers/netlink/socket.ts";

export class FaultPoints {
  #left = Number.POSITIVE_INFINITY;

  /** The process kills itself at this point from now on, the first is 1. */
  arm(dieAt: number): void {
    this.#left = dieAt;
  }

  reached(what: string): void {
    if (--this.#left !== 0) return;
    process.stdout.write(`killed before: ${what}\n`);
    process.kill(process.pid, "SIGKILL");
  }

  /** Of this process, from now on. */
  watchNetlink(): void {
    const { sendDatagram, requestAside } = NetlinkSocket.prototype;
    const reached = (what: string): void => this.reached(what);
    NetlinkSocket.prototype.sendDatagram = function send(this: NetlinkSocket, bytes: Uint8Array): void {
      reached("message to the kernel");
      sendDatagram.call(this, bytes);
    };
    NetlinkSocket.prototype.requestAside = function request(this: NetlinkSocket, ...args: Parameters<NetlinkSocket["requestAside"]>): Promise<void> {
      reached("message to the kernel, aside");
      return requestAside.apply(this, args);
    };
  }

  watchJournal(files: JournalFiles): JournalFiles {
    return {
      directory: files.directory,
      read: (name) => files.read(name),
      replace: (name, bytes) => {
        this.reached(`replace ${name}`);
        return files.replace(name, bytes);
      },
      append: (name, bytes) => {
        this.reached(`append ${name}`);
        return files.append(name, bytes);
      },
      moveAside: (name) => files.moveAside(name),
      close: () => files.close(),
    };
  }
}
