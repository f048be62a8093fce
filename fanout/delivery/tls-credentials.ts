/**
 * The server's certificate, key and authority from files, read again while it runs: a rotated certificate is used for the next handshake.
 *
 * Invariant: what cannot be used (a file that is missing, half written, or a key of another certificate) changes nothing; the last good ones stay.
 * Rejected: grpc's FileWatcherCertificateProvider (experimental, and a missing file at the start shows only in its log).
 */
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { ServerCredentials } from "@grpc/grpc-js";

export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

interface TlsContext {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer;
}

/** Mutual TLS: a client without a certificate of the authority does not get through the handshake. */
export class TlsCredentials extends ServerCredentials {
  readonly #files: TlsFiles;
  #context: TlsContext;

  /** Throws the system's or OpenSSL's error, which names the file or what is wrong in it. */
  constructor(files: TlsFiles) {
    const context = readContext(files);
    super({ requestCert: true, rejectUnauthorized: true }, context);
    this.#files = files;
    this.#context = context;
  }

  /** Reads the files; true when they had changed and are used from now on. Throws when they cannot be used. */
  reload(): boolean {
    const context = readContext(this.#files);
    const isSame = context.cert.equals(this.#context.cert) && context.key.equals(this.#context.key) && context.ca.equals(this.#context.ca);
    if (isSame) return false;
    this.#context = context;
    this.updateSecureContextOptions(context);
    return true;
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

function readContext({ cert, key, ca }: TlsFiles): TlsContext {
  const context = { cert: readFileSync(cert), key: readFileSync(key), ca: readFileSync(ca) };
  createSecureContext(context);
  return context;
}
