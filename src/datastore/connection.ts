/**
 * How to reach one API server and as whom. Credentials are asked for anew at each request, because tokens and client certificates are rotated
 * in place (a projected token lives an hour; an exec plug-in's as long as it says).
 */
import { readFile } from "node:fs/promises";

export interface ApiConnection {
  /** "https://10.0.0.1:6443", with a path when the API is below one. */
  readonly url: URL;
  /** For people: which file, context or service account this came from. */
  readonly origin: string;
  /** What the next request must present. `fresh`: the last answer was 401, so re-read whatever is kept. */
  credentials(options?: { readonly fresh?: boolean }): Promise<ApiCredentials>;
}

/** TLS options as node:tls names them, and headers. */
export interface ApiCredentials {
  readonly headers: Readonly<Record<string, string>>;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly servername?: string;
  readonly rejectUnauthorized?: boolean;
}

/** A connection whose credentials never change: tests, the embedded API. */
export function fixedConnection(url: string, credentials: Partial<ApiCredentials> = {}): ApiConnection {
  return { url: new URL(url), origin: "fixed", credentials: () => Promise.resolve({ headers: {}, ...credentials }) };
}

/** Re-read at most this often (ms): a rotated token is used soon, and a request costs no file access. */
const FILE_MAX_AGE_MS = 10_000;

/** Text of a file that others rewrite in place. */
export class RotatedFile {
  readonly #path: string;
  #text: string | undefined;
  #readAt = Number.NEGATIVE_INFINITY;

  constructor(path: string) {
    this.#path = path;
  }

  /** Rejects with the system's error (which names the path) when the file cannot be read and never could. */
  async text(fresh = false): Promise<string> {
    if (this.#text !== undefined && !fresh && performance.now() - this.#readAt < FILE_MAX_AGE_MS) return this.#text;
    try {
      this.#text = await readFile(this.#path, "utf8");
    } catch (error) {
      // In the middle of a rotation: the last good text is tried, and the server says whether it still counts.
      if (this.#text === undefined) throw error;
    }
    this.#readAt = performance.now();
    return this.#text;
  }
}
