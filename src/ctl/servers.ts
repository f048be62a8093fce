/**
 * Verbs that ask several servers at once: `--server A,B,C`, or a name that stands for many addresses, as a headless Service's does.
 *
 * A server that does not answer is named, the others' answers are shown, and the exit code is 1: half an answer must not look like a whole one.
 */
import { lookup } from "node:dns/promises";
import type { CtlConfig } from "./config.ts";
import { CallError, Connection } from "./connection.ts";

export interface Answer<T> {
  /** As it was dialled. */
  readonly server: string;
  readonly value: T;
}

/** Each address once, in the order given; a name that cannot be looked up stays as it is. `localhost` is one server. */
export async function serverAddresses(given: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const one of given.split(",").map((part) => part.trim())) if (one !== "") found.push(...(await addressesOf(one)));
  return [...new Set(found)];
}

async function addressesOf(server: string): Promise<readonly string[]> {
  const colon = server.lastIndexOf(":");
  const [host, port] = [server.slice(0, colon), server.slice(colon)];
  if (server.startsWith("unix:") || host.startsWith("[") || host === "localhost" || /^[\d.]+$/.test(host)) return [server];
  try {
    const addresses = (await lookup(host, { all: true })).map(({ address, family }) => `${family === 6 ? `[${address}]` : address}${port}`).sort();
    // One address: the name says more to people, and the certificate may be for it.
    return addresses.length > 1 ? addresses : [server];
  } catch {
    return [server];
  }
}

/** Asks all at once. `failed` are messages for people, one a server. */
export async function askServers<T>(
  config: CtlConfig,
  ask: (connection: Connection) => Promise<T>,
): Promise<{ readonly answers: readonly Answer<T>[]; readonly failed: readonly string[] }> {
  const outcomes = await Promise.all(
    (await serverAddresses(config.server)).map(async (server) => {
      const connection = new Connection({ ...config, server });
      try {
        return { server, value: await ask(connection) };
      } catch (error) {
        if (!(error instanceof CallError)) throw error;
        return { server, problem: error.message };
      } finally {
        connection.close();
      }
    }),
  );
  return {
    answers: outcomes.flatMap((one) => ("value" in one ? [one] : [])) as readonly Answer<T>[],
    failed: outcomes.flatMap((one) => ("problem" in one && one.problem !== undefined ? [one.problem] : [])),
  };
}

/** Says which servers did not answer; the exit code. */
export function exitCodeOf(verb: string, failed: readonly string[]): number {
  for (const problem of failed) process.stderr.write(`sedge ${verb}: ${problem}\n`);
  return failed.length === 0 ? 0 : 1;
}
