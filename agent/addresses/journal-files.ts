/** The two files of the journal, behind an interface small enough that a test can end the world at each call. */
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { moveAside, replaceFile } from "../../src/runtime/durable-file.ts";

export type JournalFileName = "addresses.snapshot" | "addresses.log";

export interface JournalFiles {
  /** Where they are, for messages. */
  readonly directory: string;
  /** undefined when there is none. */
  read(name: JournalFileName): Promise<Buffer | undefined>;
  /** Whole or not at all, and on the disk when it resolves. */
  replace(name: JournalFileName, bytes: Uint8Array): Promise<void>;
  /** On the disk when it resolves; when it rejects, any part of it may be. */
  append(name: JournalFileName, bytes: Uint8Array): Promise<void>;
  /** Renames to the first free "<name>.corrupt-<n>"; the new path. */
  moveAside(name: JournalFileName): Promise<string>;
  close(): Promise<void>;
}

/** Each write is on the disk when it returns (O_DSYNC): one way over another thread and back where write and fdatasync are two, with the caller's work between. */
const APPEND_DURABLY = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_DSYNC;

export class DiskJournalFiles implements JournalFiles {
  readonly directory: string;
  #appending: { readonly name: JournalFileName; readonly handle: FileHandle } | undefined;

  private constructor(directory: string) {
    this.directory = directory;
  }

  /** Makes the directory (mode 0700). Rejects with NodeJS.ErrnoException. */
  static async open(directory: string): Promise<DiskJournalFiles> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return new DiskJournalFiles(directory);
  }

  async read(name: JournalFileName): Promise<Buffer | undefined> {
    try {
      return await readFile(join(this.directory, name));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  }

  async replace(name: JournalFileName, bytes: Uint8Array): Promise<void> {
    if (this.#appending?.name === name) await this.close();
    await replaceFile(join(this.directory, name), bytes);
  }

  async append(name: JournalFileName, bytes: Uint8Array): Promise<void> {
    if (this.#appending?.name !== name) {
      await this.close();
      this.#appending = { name, handle: await open(join(this.directory, name), APPEND_DURABLY, 0o600) };
    }
    const { handle } = this.#appending;
    await handle.appendFile(bytes);
  }

  async moveAside(name: JournalFileName): Promise<string> {
    if (this.#appending?.name === name) await this.close();
    return await moveAside(join(this.directory, name));
  }

  async close(): Promise<void> {
    const open = this.#appending;
    this.#appending = undefined;
    await open?.handle.close();
  }
}
