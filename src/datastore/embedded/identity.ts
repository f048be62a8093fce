/**
 * Who the embedded API is and who may use it: CA, server certificate, the admin's token. With a data directory they stay the same across
 * restarts, so that a kubeconfig keeps working; the server certificate is made anew when the asked-for names change or it is near its end.
 */
import { createPrivateKey, randomBytes, X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";
import type { CertificateAuthority, CertificatePem } from "../../runtime/tls.ts";
import { createCertificateAuthority, loadCertificateAuthority } from "../../runtime/tls.ts";

export interface Identity {
  /** PEM of the CA. */
  readonly certificateAuthority: string;
  readonly server: CertificatePem;
  readonly token: string;
}

const RENEW_BEFORE_MS = 30 * 86_400_000;

/** `hosts`: the DNS names and addresses under which the server is reached. */
export async function loadIdentity({ directory, hosts }: { readonly directory: string | undefined; readonly hosts: readonly string[] }): Promise<Identity> {
  if (directory === undefined) {
    const authority = await createCertificateAuthority("sedge-api-ca");
    return { certificateAuthority: authority.cert, server: await issue(authority, hosts), token: randomBytes(24).toString("hex") };
  }
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const authority = await keptAuthority(directory);
  return { certificateAuthority: authority.cert, server: await keptServer(directory, authority, hosts), token: keptToken(directory) };
}

function issue(authority: CertificateAuthority, hosts: readonly string[]): Promise<CertificatePem> {
  return authority.issue({ commonName: "sedge-api", hosts });
}

async function keptAuthority(directory: string): Promise<CertificateAuthority> {
  const [cert, key] = [join(directory, "ca.crt"), join(directory, "ca.key")];
  if (existsSync(cert) && existsSync(key)) {
    try {
      return await loadCertificateAuthority({ cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") });
    } catch (error) {
      throw new Error(`${cert} and ${key} are not a usable CA. Move both away to have a new one made (every kubeconfig is then written anew).`, {
        cause: error,
      });
    }
  }
  const authority = await createCertificateAuthority("sedge-api-ca");
  keep(key, authority.key);
  keep(cert, authority.cert);
  return authority;
}

async function keptServer(directory: string, authority: CertificateAuthority, hosts: readonly string[]): Promise<CertificatePem> {
  const [certPath, keyPath] = [join(directory, "server.crt"), join(directory, "server.key")];
  if (existsSync(certPath) && existsSync(keyPath)) {
    const kept = { cert: readFileSync(certPath, "utf8"), key: readFileSync(keyPath, "utf8") };
    if (isUsable(kept, authority.cert, hosts)) return kept;
  }
  const made = await issue(authority, hosts);
  keep(keyPath, made.key);
  keep(certPath, made.cert);
  return made;
}

/** Also that the two belong together: a crash between their writes leaves one of an older pair. */
function isUsable({ cert, key }: CertificatePem, authority: string, hosts: readonly string[]): boolean {
  try {
    const parsed = new X509Certificate(cert);
    if (!parsed.checkPrivateKey(createPrivateKey(key))) return false;
    const isFor = (host: string): boolean => (isIP(host) > 0 ? parsed.checkIP(host) : parsed.checkHost(host)) !== undefined;
    return parsed.verify(new X509Certificate(authority).publicKey) && Date.parse(parsed.validTo) - Date.now() > RENEW_BEFORE_MS && hosts.every(isFor);
  } catch {
    return false;
  }
}

function keptToken(directory: string): string {
  const path = join(directory, "token");
  if (existsSync(path)) {
    const token = readFileSync(path, "utf8").trim();
    if (/^[\w.~+/=-]{16,}$/.test(token)) return token;
    throw new Error(`${path} does not hold a token (16 or more letters and digits). Move it away to have a new one made.`);
  }
  const token = randomBytes(24).toString("hex");
  keep(path, `${token}\n`);
  return token;
}

function keep(path: string, content: string): void {
  writeFileSync(`${path}.tmp`, content, { mode: 0o600 });
  renameSync(`${path}.tmp`, path);
}
