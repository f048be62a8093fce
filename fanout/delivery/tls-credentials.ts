/**
 * Certificate files as grpc-js takes them: a rotated certificate is used for the next handshake.
 * Rejected: grpc's FileWatcherCertificateProvider (experimental, and a missing file at the start shows only in its log).
 */
import { ServerCredentials } from "@grpc/grpc-js";
import { CertificateFiles, type TlsFiles } from "./certificate-files.ts";

/** Mutual TLS: a client without a certificate of the authority does not get through the handshake. */
export class TlsCredentials extends ServerCredentials {
  readonly #certificates: CertificateFiles;

  /** Throws as CertificateFiles does. */
  constructor(files: TlsFiles) {
    const certificates = new CertificateFiles(files);
    super({ requestCert: true, rejectUnauthorized: true }, certificates.context);
    this.#certificates = certificates;
  }

  /** As CertificateFiles.reload. */
  reload(): boolean {
    if (!this.#certificates.reload()) return false;
    this.updateSecureContextOptions(this.#certificates.context);
    return true;
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}
