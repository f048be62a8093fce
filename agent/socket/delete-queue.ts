/**
 * DELs that came while no agent answered: files that the CNI executable wrote, carried out once there is one.
 *
 * Invariant: a file is removed only after its DEL is done, so a crash in between repeats it, and DEL may be repeated. A file that is not understood is
 * set aside with its reason in the log: it may name an address that is in use.
 */
import { readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import type { Part } from "../../src/runtime/supervisor.ts";
import type { CniAnswer } from "./cni-request.ts";

export interface DeleteQueueOptions {
  readonly directory: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly del: (request: unknown) => Promise<CniAnswer>;
}

/** How often the directory is looked at: an executable that found the agent gone may write just after its start. */
const REPLAY_INTERVAL_MS = 5_000;

export class DeleteQueue implements Part {
  readonly name = "cni-delete-queue";
  readonly #options: DeleteQueueOptions;

  constructor(options: DeleteQueueOptions) {
    this.#options = options;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.replay(signal);
      await this.#options.clock.sleep(REPLAY_INTERVAL_MS, signal);
    }
  }

  /** One pass, oldest first; the number of DELs done. */
  async replay(signal?: AbortSignal): Promise<number> {
    const { directory, log } = this.#options;
    let done = 0;
    for (const name of await this.#waiting()) {
      if (signal?.aborted === true) break;
      const path = join(directory, name);
      try {
        const request: unknown = JSON.parse(await readFile(path, "utf8"));
        const answer = await this.#options.del(request);
        if (answer.ok) {
          await rm(path, { force: true });
          done++;
        } else if (answer.error.code === 7) {
          await this.#setAside(path, answer.error.details);
        } else log.warn({ file: path, reason: answer.error.details }, "a queued DEL failed: trying again");
      } catch (error) {
        if (error instanceof SyntaxError) await this.#setAside(path, error.message);
        else log.warn({ err: error, file: path }, "a queued DEL could not be read: trying again");
      }
    }
    if (done > 0) log.info({ count: done }, "DELs that were queued while the agent was away are done");
    return done;
  }

  async #waiting(): Promise<readonly string[]> {
    try {
      const names = await readdir(this.#options.directory);
      return names.filter((name) => name.endsWith(".json")).sort();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT")
        this.#options.log.warn({ err: error, directory: this.#options.directory }, "the queue of DELs cannot be read");
      return [];
    }
  }

  async #setAside(path: string, reason: string): Promise<void> {
    this.#options.log.error({ file: path, reason }, "a queued DEL is not understood: set aside as .corrupt");
    await rename(path, `${path}.corrupt`);
  }
}
