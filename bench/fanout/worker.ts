/**
 * Calls between the bench and its processes, over Node's own channel. Each part has a process of its own, so that the CPU and memory of the server are
 * its alone. A process whose parent is gone ends by itself.
 */
import { type ChildProcess, fork } from "node:child_process";

/** What a process can be asked. */
export type Methods = Readonly<Record<string, (argument: never) => unknown>>;

type Argument<M extends Methods, Name extends keyof M> = Parameters<M[Name]>[0];
type Result<M extends Methods, Name extends keyof M> = Awaited<ReturnType<M[Name]>>;

interface Request {
  readonly id: number;
  readonly method: string;
  readonly argument: unknown;
}

type Response = { readonly id: number; readonly result: unknown } | { readonly id: number; readonly error: string };

/** A process that answers calls. */
export class Worker<M extends Methods> {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  readonly #exited: Promise<void>;
  #nextId = 1;
  #failure: Error | undefined;

  constructor(script: URL, { nodeFlags = [], words = [] }: { readonly nodeFlags?: readonly string[]; readonly words?: readonly string[] } = {}) {
    this.#child = fork(script, [...words], { serialization: "advanced", execArgv: [...nodeFlags], stdio: ["ignore", 2, 2, "ipc"] });
    this.#child.on("message", (response: Response) => {
      const call = this.#waiting.get(response.id);
      this.#waiting.delete(response.id);
      if ("error" in response) call?.reject(new Error(response.error));
      else call?.resolve(response.result);
    });
    this.#exited = new Promise((resolve) => {
      this.#child.on("error", (error) => this.#fail(error));
      this.#child.on("exit", (code, signal) => {
        this.#fail(new Error(`a process of the bench ended early (${signal ?? code}): ${script.pathname}`));
        resolve();
      });
    });
  }

  /** Rejects with the process's error, or when it ends. */
  call<Name extends keyof M & string>(method: Name, argument: Argument<M, Name>): Promise<Result<M, Name>> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure);
        return;
      }
      const request: Request = { id: this.#nextId++, method, argument };
      this.#waiting.set(request.id, { resolve: resolve as (value: unknown) => void, reject });
      this.#child.send(request);
    });
  }

  /** As when the machine loses it: no drain, no word to the clients. Resolves when it is gone. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  /** Ends the process; resolves when it is gone. */
  async stop(): Promise<void> {
    if (this.#child.connected) this.#child.disconnect();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 10_000);
    await this.#exited;
    clearTimeout(timer);
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

/** Answers calls until the parent disconnects. The other end of `Worker`. */
export function serveCalls(methods: Methods): void {
  const answer = async ({ id, method, argument }: Request): Promise<void> => {
    try {
      const act = methods[method] as ((argument: unknown) => unknown) | undefined;
      if (act === undefined) throw new Error(`no method ${method}`);
      process.send?.({ id, result: await act(argument) } satisfies Response);
    } catch (error) {
      process.send?.({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) } satisfies Response);
    }
  };
  process.on("message", (request: Request) => void answer(request));
  process.on("disconnect", () => process.exit(0));
}
