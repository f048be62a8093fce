/**
 * The told list of servers on disk, so that an agent which starts finds a server though those that it was given are gone.
 *
 * It is a hint: a file that is missing or damaged is as none, and one that cannot be written is only logged about. Replaced whole, by rename.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { replaceFile } from "../../src/runtime/durable-file.ts";
import type { KnownServer } from "./server-book.ts";

const FILE = "servers.json";
const schema = z.object({ servers: z.array(z.object({ addresses: z.array(z.string()).min(1), name: z.string(), isNear: z.boolean() })).max(256) });

/** Empty when there is none that can be used; `problem` says why when there is a file. */
export async function loadKnownServers(directory: string): Promise<{ readonly servers: readonly KnownServer[]; readonly problem?: string }> {
  let text: string;
  try {
    text = await readFile(join(directory, FILE), "utf8");
  } catch (error) {
    const isAbsent = (error as NodeJS.ErrnoException).code === "ENOENT";
    return isAbsent ? { servers: [] } : { servers: [], problem: error instanceof Error ? error.message : String(error) };
  }
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    return { servers: [], problem: error instanceof Error ? error.message : String(error) };
  }
}

/** Keeps the newest list on disk: one write at a time, none for a list that is there. */
export class KnownServersFile {
  readonly #directory: string;
  readonly #onProblem: (error: unknown) => void;
  #written = "";
  #wanted = "";
  #writing: Promise<void> | undefined;

  constructor(options: { readonly directory: string; readonly onProblem: (error: unknown) => void }) {
    this.#directory = options.directory;
    this.#onProblem = options.onProblem;
  }

  /** Resolves when this list, or a newer one, is on disk or was found not to be writable. */
  async save(servers: readonly KnownServer[]): Promise<void> {
    this.#wanted = `${JSON.stringify({ servers })}\n`;
    this.#writing ??= this.#write();
    await this.#writing;
  }

  async #write(): Promise<void> {
    const path = join(this.#directory, FILE);
    try {
      while (this.#written !== this.#wanted) {
        const text = this.#wanted;
        await replaceFile(path, Buffer.from(text));
        this.#written = text;
      }
    } catch (error) {
      this.#onProblem(error);
    } finally {
      this.#writing = undefined;
    }
  }
}
