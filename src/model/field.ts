/**
 * Reads a JSON value of unknown shape, remembering where it is and collecting every problem.
 *
 * Invariant: reading never throws; a value of a wrong type is one problem and reads as absent. null and undefined are both absent, as they are for
 * the API server. Rejected: zod here, because the pure core reads 100,000 pods and because problems must name what to write instead.
 */
import type { Parsed, Problem } from "./event.ts";

export interface ParseOptions {
  /** Also refuse what the API server would have refused or dropped before us: unknown fields, odd label syntax. For manifests from people. */
  readonly isStrict?: boolean;
}

interface Context {
  readonly problems: Problem[];
  readonly isStrict: boolean;
}

/** Runs a reader over an object: its value when there was no problem, else all problems. */
export function parseFields<T>(object: unknown, options: ParseOptions, read: (root: Field) => T): Parsed<T> {
  if (!isObject(object)) return { ok: false, problems: [{ field: "", message: `must be an object with fields, not ${typeName(object)}` }] };
  const context: Context = { problems: [], isStrict: options.isStrict ?? false };
  const value = read(new Field(object, "", context));
  return context.problems.length === 0 ? { ok: true, value } : { ok: false, problems: context.problems };
}

/** As `parseFields`; with problems, what was read is handed on as `closed` unless `read` says that too little was understood. */
export function parseClosed<T>(object: unknown, options: ParseOptions, read: (root: Field) => { readonly value: T; readonly isUsable: boolean }): Parsed<T> {
  let closed: T | undefined;
  const parsed = parseFields(object, options, (root) => {
    const { value, isUsable } = read(root);
    if (isUsable) closed = value;
    return value;
  });
  return parsed.ok || closed === undefined ? parsed : { ...parsed, closed };
}

export class Field {
  readonly value: unknown;
  readonly path: string;
  readonly #context: Context;

  constructor(value: unknown, path: string, context: Context) {
    this.value = value ?? undefined;
    this.path = path;
    this.#context = context;
  }

  get isAbsent(): boolean {
    return this.value === undefined;
  }

  /** There is something, and it has no fields. */
  get isMisshapen(): boolean {
    return !this.isAbsent && !isObject(this.value);
  }

  get isStrict(): boolean {
    return this.#context.isStrict;
  }

  /** Problems found so far in the whole object. */
  get problemCount(): number {
    return this.#context.problems.length;
  }

  problem(message: string): void {
    this.#context.problems.push({ field: this.path, message });
  }

  /** A field of this object; absent when this is absent. */
  child(name: string): Field {
    const path = this.path === "" ? name : `${this.path}.${name}`;
    return new Field(isObject(this.value) && Object.hasOwn(this.value, name) ? this.value[name] : undefined, path, this.#context);
  }

  /** States that this is an object, and in strict reading which fields it may have. */
  object(known: readonly string[] = []): this {
    if (this.isAbsent) return this;
    if (!isObject(this.value)) {
      this.problem(`must be an object with fields, not ${typeName(this.value)}`);
    } else if (this.#context.isStrict && known.length > 0) {
      for (const name of Object.keys(this.value)) {
        if (known.includes(name)) continue;
        const meant = known.find((candidate) => candidate.toLowerCase() === name.toLowerCase());
        this.child(name).problem(`unknown field; ${meant === undefined ? `known here: ${known.join(", ")}` : `write ${meant}`}`);
      }
    }
    return this;
  }

  /**
   * As `object`, with unknown fields refused in any reading: for what must fail closed on a field of a later version of its API, since to leave one out
   * could make a match wider than it was meant.
   */
  exactly(known: readonly string[]): this {
    if (this.isStrict || !isObject(this.value)) return this.object(known);
    for (const name of Object.keys(this.value)) {
      if (!known.includes(name) && !this.child(name).isAbsent) this.child(name).problem(`is not known here; known: ${known.join(", ")}`);
    }
    return this;
  }

  /** Names of the fields of this object that have a value; none when it is none. */
  fieldNames(): string[] {
    return isObject(this.value) ? Object.keys(this.value).filter((name) => !this.child(name).isAbsent) : [];
  }

  /** Elements of this list; empty when absent. */
  items(): Field[] {
    if (this.isAbsent) return [];
    if (Array.isArray(this.value)) return this.value.map((item: unknown, i) => new Field(item, `${this.path}[${i}]`, this.#context));
    this.problem(`must be a list, not ${typeName(this.value)}`);
    return [];
  }

  /** Entries of this map from names to values; empty when absent. */
  entries(): [string, Field][] {
    if (this.isAbsent) return [];
    if (isObject(this.value)) return Object.entries(this.value).map(([key, value]) => [key, new Field(value, `${this.path}[${key}]`, this.#context)]);
    this.problem(`must be a map from names to values, not ${typeName(this.value)}`);
    return [];
  }

  string(): string | undefined {
    if (this.isAbsent || typeof this.value === "string") return this.value as string | undefined;
    const advice = typeof this.value === "number" || typeof this.value === "boolean" ? `; put it in quotes: "${String(this.value)}"` : "";
    this.problem(`must be a string, not ${typeName(this.value)}${advice}`);
    return undefined;
  }

  /** A string that must be there and not be empty; "" together with a problem otherwise. */
  requiredString(what: string): string {
    const text = this.string();
    if (this.isAbsent || text === "") this.problem(`is required: ${what}`);
    return text ?? "";
  }

  boolean(): boolean | undefined {
    if (this.isAbsent || typeof this.value === "boolean") return this.value as boolean | undefined;
    this.problem(`must be true or false, not ${typeName(this.value)}`);
    return undefined;
  }

  integer(range: { readonly min: number; readonly max: number }): number | undefined {
    if (this.isAbsent) return undefined;
    if (typeof this.value === "number" && Number.isInteger(this.value) && this.value >= range.min && this.value <= range.max) return this.value;
    this.problem(`must be a whole number from ${range.min} to ${range.max}, not ${typeof this.value === "number" ? String(this.value) : typeName(this.value)}`);
    return undefined;
  }

  /** One of the words; undefined when absent. */
  oneOf<Word extends string>(words: readonly Word[]): Word | undefined {
    const text = this.string();
    if (text === undefined) return undefined;
    const word = words.find((candidate) => candidate === text);
    if (word === undefined) this.problem(`must be one of ${words.join(", ")}, not ${JSON.stringify(text)}`);
    return word;
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function typeName(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (value === null || value === undefined) return "nothing";
  if (typeof value === "object") return "an object";
  if (typeof value === "string") return `the string ${JSON.stringify(value.slice(0, 60))}`;
  return typeof value === "number" || typeof value === "bigint" || typeof value === "boolean" ? `the ${typeof value} ${value}` : typeof value;
}
