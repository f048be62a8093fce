/**
 * Structured logs (pino): constant sentences, facts as fields. A logger is made in a main.ts and handed down; children carry identity
 * (`component`, `node`, `session`). Nothing global, so that a test sees only its own lines.
 *
 * A warning is of something that is tried again or passes: of its `err` it has type, message and code, and the stack only while debug is logged.
 * It is done here and not where each warning is written, so that none forgets it.
 */
import { type LogFn, pino } from "pino";

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
  const family: Pick<Logger, "level">[] = [];
  const join = (log: Pick<Logger, "level">): void => {
    family.push(log);
    families.set(log, family);
  };
  const log = pino(
    { level, base: { program }, timestamp: pino.stdTimeFunctions.isoTime, onChild: join, hooks: { logMethod: withoutStack }, serializers: { err: errorFacts } },
    destination ?? pino.destination({ dest: 2, sync: true }),
  );
  join(log);
  return log;
}

const WARN = pino.levels.values["warn"];

function withoutStack(this: Pick<Logger, "isLevelEnabled">, args: Parameters<LogFn>, write: LogFn, level: number): void {
  const [facts, ...rest] = args as readonly unknown[];
  const isBrief =
    level === WARN && !this.isLevelEnabled("debug") && typeof facts === "object" && facts !== null && "err" in facts && facts.err instanceof Error;
  write.apply(this, isBrief ? ([{ ...facts, err: brief(facts.err as Error) }, ...rest] as unknown as Parameters<LogFn>) : args);
}

/** What is no Error is written as it is: pino would take a brief one for an error without a stack. */
function errorFacts(value: unknown): unknown {
  return value instanceof Error ? pino.stdSerializers.err(value) : value;
}

/** As pino writes it, with the messages of its causes. */
function brief(error: Error): Readonly<Record<string, unknown>> {
  const { type, message } = pino.stdSerializers.err(error);
  return { type, message, ...("code" in error ? { code: error.code } : {}) };
}

/** A logger with its children, who each have a level of their own. They are made when parts are made, so there are few and they live as long as it. */
const families = new WeakMap<object, readonly Pick<Logger, "level">[]>();

/** Sets the level of the logger, of the one that it is a child of, and of all their children. Returns the logger's level before. */
export function setLogLevel(log: Logger, level: LogLevel): string {
  const previous = log.level;
  for (const one of families.get(log) ?? [log]) one.level = level;
  return previous;
}

/** The level of that name; undefined: there is none. */
export function findLogLevel(name: string): LogLevel | undefined {
  return LOG_LEVELS.find((level) => level === name);
}

/** For tests and for libraries that need a logger and have none. */
export function silentLogger(): Logger {
  return pino({ level: "silent" }, { write: () => undefined });
}
