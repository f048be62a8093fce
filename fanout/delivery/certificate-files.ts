/**
 * The server's certificate, key and authority from files, read again while it runs.
 *
 * Invariant: what cannot be used (a file that is missing, half written, or a key of another certificate) changes nothing; the last good ones stay.
 */
import { constants } from "node:crypto";
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { StartError } from "../../src/runtime/start-error.ts";

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
  /** No resumption: every connection is verified against the authority of today; a resumed session would carry the verdict of an earlier one. */
  readonly secureOptions: number;
}

export class CertificateFiles {
  readonly #files: TlsFiles;
  #context: TlsContext;

  /** Throws StartError with the files and what is wrong with them. */
  constructor(files: TlsFiles) {
    this.#files = files;
    try {
      this.#context = readContext(files);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new StartError(`certificate ${files.cert}, key ${files.key} and authority ${files.ca} cannot be used: ${reason}`, { cause: error });
    }
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
  const context = {
    cert: readFileSync(cert),
    key: readFileSync(key),
    ca: readFileSync(ca),
    minVersion: "TLSv1.3",
    secureOptions: constants.SSL_OP_NO_TICKET,
  } as const;
  createSecureContext(context);
  return context;
}
