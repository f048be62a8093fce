/** Long-lived parts: started in order, stopped in reverse; the first that fails stops all. */
import type { Logger } from "./log.ts";

export interface Part {
  readonly name: string;
  /** Settles when stopped (signal) or when it is over; rejects when broken. */
  run(signal: AbortSignal): Promise<void>;
}

/** Runs all parts until the signal aborts or one rejects; resolves when all have ended, rejects with the first failure. */
export async function runAll(parts: readonly Part[], options: { signal: AbortSignal; log: Logger }): Promise<void> {
  let failure: { readonly error: unknown } | undefined;
  const controllers = parts.map(() => new AbortController());
  const running: Promise<void>[] = [];
  let stopping: Promise<void> | undefined;
  const stopAll = (): Promise<void> => {
    stopping ??= (async () => {
      for (let i = parts.length - 1; i >= 0; i--) {
        controllers[i]?.abort();
        await running[i];
      }
    })();
    return stopping;
  };
  const { promise: stopAsked, resolve: askStop } = withResolvers();
  if (options.signal.aborted) askStop();
  options.signal.addEventListener("abort", askStop, { once: true });
  for (const [i, part] of parts.entries()) {
    const controller = controllers[i];
    if (controller === undefined) continue;
    running.push(
      part.run(controller.signal).catch((error: unknown) => {
        failure ??= { error };
        options.log.error({ err: error, part: part.name }, "part failed: stopping all");
        askStop();
      }),
    );
  }
  await Promise.race([stopAsked, Promise.all(running)]);
  await stopAll();
  options.signal.removeEventListener("abort", askStop);
  if (failure !== undefined) throw failure.error;
}

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

/** Aborts on SIGTERM or SIGINT; a second signal ends the process at once with code 130. Only for main.ts. */
export function signalsToAbort(log: Logger): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(130);
      log.info({ signal: name }, "stopping");
      controller.abort();
    });
  }
  return controller.signal;
}
