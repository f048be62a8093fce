/**
 * Structured logs (pino): constant sentences, facts as fields. A logger is made in a main.ts and handed down; children carry identity
 * (`component`, `node`, `session`). Nothing global, so that a test sees only its own lines.
 */
import { pino } from "pino";

export type Logger = Pick<ReturnType<typeof pino>, "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "child" | "isLevelEnabled" | "level">;

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface LogOptions {
  readonly level: LogLevel;
  /** The program: "fanout", "agent", … */
  readonly program: string;
  /** Where lines go; stderr unless given. */
  readonly destination?: { write(line: string): void };
}

/** One JSON line an event, on stderr (stdout belongs to results). */
export function createLogger({ level, program, destination }: LogOptions): Logger {
  return pino({ level, base: { program }, timestamp: pino.stdTimeFunctions.isoTime }, destination ?? pino.destination({ dest: 2, sync: true }));
}

/** For tests and for libraries that need a logger and have none. */
export function silentLogger(): Logger {
  return pino({ level: "silent" });
}
