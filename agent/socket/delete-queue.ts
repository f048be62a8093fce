/**
 * DELs that came while no agent answered: files that the CNI executable wrote, carried out once there is one.
 *
 * Invariants: a file is removed only after its DEL is done, so a crash in between repeats it, and DEL may be repeated; an ADD of the same container comes
 * after the DEL that waits for it, as the runtime asked (a runtime may use the id again, and an executable that was killed may leave the file of a DEL that
 * was answered). A file that is not understood is set aside with its reason in the log: it may name an address that is in use.
 */
import { existsSync } from "node:fs";
import { readdir, readFile, rename, rm, stat } from "node:fs/promises";
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

export interface QueuedDeleteKey {
  readonly network: string;
  readonly containerId: string;
  readonly ifname: string;
}

/** How often the directory is looked at: an executable that found the agent gone may write just after its start. */
const REPLAY_INTERVAL_MS = 5_000;
/** What an executable began to write is of one that was killed when it is still there after this time: writing takes milliseconds. */
const UNFINISHED_MS = 60_000;

export class DeleteQueue implements Part {
  readonly name = "cni-delete-queue";
  readonly #options: DeleteQueueOptions;
  /** One file after the other: what a pass has read is done before an ADD looks. */
  #turn: Promise<unknown> = Promise.resolve();
  /** Files that are done and could not be removed, by path: which inode, written when. */
  readonly #done = new Map<string, string>();
  readonly #unfinishedSince = new Map<string, number>();

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
    const names = await this.#names();
    for (const name of names.filter((file) => file.endsWith(".json"))) {
      if (signal?.aborted === true) break;
      const path = join(directory, name);
      const answer = await this.#inTurn(() => this.#carryOut(path));
      if (answer?.ok === true) done++;
    }
    await this.#removeUnfinished(names.filter((file) => file.endsWith(".tmp")));
    if (done > 0) log.info({ count: done }, "DELs that were queued while the agent was away are done");
    return done;
  }

  /** The DEL that waits for this attachment is done when it resolves; undefined when there is none, or it could not be read. */
  settle({ network, containerId, ifname }: QueuedDeleteKey): Promise<CniAnswer | undefined> {
    const path = join(this.#options.directory, `${network}.${containerId}.${ifname}.json`);
    // Nearly always there is none, and every ADD asks: without the way over another thread.
    return this.#inTurn(() => (existsSync(path) ? this.#carryOut(path) : Promise.resolve(undefined)));
  }

  /** undefined: not there (any more), done before, or not understood. */
  async #carryOut(path: string): Promise<CniAnswer | undefined> {
    const { log } = this.#options;
    try {
      const { ino, mtimeMs } = await stat(path);
      const identity = `${ino} ${mtimeMs}`;
      if (this.#done.get(path) === identity) {
        await this.#remove(path);
        return undefined;
      }
      const request: unknown = JSON.parse(await readFile(path, "utf8"));
      const answer = await this.#options.del(request);
      if (answer.ok) {
        this.#done.set(path, identity);
        await this.#remove(path);
      } else if (answer.error.code === 7) {
        await this.#setAside(path, answer.error.details);
        return undefined;
      } else log.warn({ file: path, reason: answer.error.details }, "a queued DEL failed: trying again");
      return answer;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      if (error instanceof SyntaxError) await this.#setAside(path, error.message);
      else log.warn({ err: error, file: path }, "a queued DEL could not be read: trying again");
      return undefined;
    }
  }

  /** A directory that cannot be written keeps the file; its DEL must not end who has the id by then. */
  async #remove(path: string): Promise<void> {
    try {
      await rm(path, { force: true });
      this.#done.delete(path);
    } catch (error) {
      this.#options.log.warn({ err: error, file: path }, "a queued DEL is done, and its file could not be removed: trying again");
    }
  }

  async #removeUnfinished(names: readonly string[]): Promise<void> {
    const { clock, directory, log } = this.#options;
    for (const name of this.#unfinishedSince.keys()) if (!names.includes(name)) this.#unfinishedSince.delete(name);
    for (const name of names) {
      const since = this.#unfinishedSince.get(name) ?? clock.now();
      this.#unfinishedSince.set(name, since);
      if (clock.now() - since < UNFINISHED_MS) continue;
      const path = join(directory, name);
      await rm(path, { force: true }).catch((error: unknown) => log.warn({ err: error, file: path }, "what is left of a queued DEL could not be removed"));
    }
  }

  async #names(): Promise<readonly string[]> {
    try {
      return (await readdir(this.#options.directory)).sort();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT")
        this.#options.log.warn({ err: error, directory: this.#options.directory }, "the queue of DELs cannot be read");
      return [];
    }
  }

  async #setAside(path: string, reason: string): Promise<void> {
    const { log } = this.#options;
    log.error({ file: path, reason }, "a queued DEL is not understood: set aside as .corrupt");
    await rename(path, `${path}.corrupt`).catch((error: unknown) => log.warn({ err: error, file: path }, "it could not be set aside"));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work, work);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }
}
