/** Journal files in memory, with a disk that can end the world at any write: for tests. */
import type { JournalFileName, JournalFiles } from "../../agent/addresses/journal-files.ts";

/** How a write fails: nothing of it, or the first bytes of it, reach the disk. */
export type WriteFault = "nothing" | "part" | "all";

export class CrashError extends Error {
  constructor() {
    super("the machine stopped");
    this.name = "CrashError";
  }
}

export class MemoryJournalFiles implements JournalFiles {
  readonly directory = "/memory";
  readonly files: Map<string, Buffer>;
  writes = 0;
  /** The write of this number (from 1) fails in this way, and so does every later call. */
  fault: { readonly at: number; readonly how: WriteFault } | undefined;
  /** A disk that takes nothing: every write rejects and changes nothing, until this is undefined again. */
  refusal: Error | undefined;
  #isDown = false;

  constructor(files: ReadonlyMap<string, Buffer> = new Map()) {
    this.files = new Map(files);
  }

  async read(name: JournalFileName): Promise<Buffer | undefined> {
    await this.#turn();
    return this.files.get(name);
  }

  async replace(name: JournalFileName, bytes: Uint8Array): Promise<void> {
    // A rename is whole or not there.
    await this.#write((how) => {
      if (how === "all") this.files.set(name, Buffer.from(bytes));
    });
  }

  async append(name: JournalFileName, bytes: Uint8Array): Promise<void> {
    await this.#write((how) => {
      const before = this.files.get(name) ?? Buffer.alloc(0);
      const length = how === "all" ? bytes.length : how === "part" ? Math.floor(bytes.length / 2) : 0;
      this.files.set(name, Buffer.concat([before, bytes.subarray(0, length)]));
    });
  }

  async moveAside(name: JournalFileName): Promise<string> {
    await this.#turn();
    const bytes = this.files.get(name);
    this.files.delete(name);
    for (let n = 1; ; n++) {
      const target = `${name}.corrupt-${n}`;
      if (this.files.has(target)) continue;
      if (bytes !== undefined) this.files.set(target, bytes);
      return target;
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #write(store: (how: WriteFault) => void): Promise<void> {
    await this.#turn();
    if (this.refusal !== undefined) throw this.refusal;
    this.writes++;
    if (this.fault?.at !== this.writes) return store("all");
    this.#isDown = true;
    store(this.fault.how);
    throw new CrashError();
  }

  async #turn(): Promise<void> {
    await Promise.resolve();
    if (this.#isDown) throw new CrashError();
  }
}
