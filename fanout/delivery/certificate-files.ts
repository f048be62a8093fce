/**
 * The server's certificate, key and authority from files, read again while it runs.
 *
 * Invariant: what cannot be used (a file that is missing, half written, or a key of another certificate) changes nothing; the last good ones stay.
 */
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";

export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

export interface TlsContext {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer;
  /** Older peers do not exist: every client of ours speaks it. */
  readonly minVersion: "TLSv1.3";
}

export class CertificateFiles {
  readonly #files: TlsFiles;
  #context: TlsContext;

  /** Throws the system's or OpenSSL's error, which names the file or what is wrong in it. */
  constructor(files: TlsFiles) {
    this.#files = files;
    this.#context = readContext(files);
  }

  /** What was read last and can be used. */
  get context(): TlsContext {
    return this.#context;
  }

  /** Reads the files; true when they had changed and are used from now on. Throws when they cannot be used. */
  reload(): boolean {
    const context = readContext(this.#files);
    const isSame = context.cert.equals(this.#context.cert) && context.key.equals(this.#context.key) && context.ca.equals(this.#context.ca);
    if (isSame) return false;
    this.#context = context;
    return true;
  }
}

function readContext({ cert, key, ca }: TlsFiles): TlsContext {
  const context = { cert: readFileSync(cert), key: readFileSync(key), ca: readFileSync(ca), minVersion: "TLSv1.3" } as const;
  createSecureContext(context);
  return context;
}
