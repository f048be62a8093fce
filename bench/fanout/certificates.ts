/** A certificate authority of the bench's own: one certificate for the servers, one for each agent (a node's name in it, as the server demands), one for an operator. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TlsFiles } from "../../fanout/delivery/certificate-files.ts";
import { createCertificateAuthority } from "../../src/runtime/tls.ts";
import { SERVER_URI } from "../../src/wire/identity-uris.ts";
import { nodeName } from "./cluster.ts";

/** What a client of mutual TLS needs, as PEM texts. */
export interface AgentTls {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface Certificates {
  readonly server: TlsFiles;
  readonly operator: TlsFiles;
  /** By number of the node. */
  readonly agents: readonly AgentTls[];
  remove(): void;
}

/** About 4 ms of CPU a certificate. */
export async function makeCertificates(agents: number): Promise<Certificates> {
  const directory = mkdtempSync(join(tmpdir(), "sedge-bench-tls-"));
  const authority = await createCertificateAuthority("sedge-bench");
  const write = async (name: string, options: Parameters<typeof authority.issue>[0]): Promise<TlsFiles> => {
    const { cert, key } = await authority.issue(options);
    const files = { ca: join(directory, "ca.crt"), cert: join(directory, `${name}.crt`), key: join(directory, `${name}.key`) };
    writeFileSync(files.ca, authority.cert);
    writeFileSync(files.cert, cert);
    writeFileSync(files.key, key, { mode: 0o600 });
    return files;
  };
  const server = await write("server", { commonName: "fanout", hosts: ["127.0.0.1"], uris: [SERVER_URI] });
  const operator = await write("operator", { commonName: "sedge-operator", uris: ["spiffe://sedge/operator"] });
  const made: AgentTls[] = [];
  for (let index = 0; index < agents; index++) {
    const name = nodeName(index);
    const { cert, key } = await authority.issue({ commonName: name, uris: [`spiffe://sedge/node/${name}`] });
    made.push({ ca: authority.cert, cert, key });
  }
  return { server, operator, agents: made, remove: () => rmSync(directory, { recursive: true, force: true }) };
}
