/**
 * How a client knows that it has a fan-out server before it: the certificate, signed by the authority given, carries the URI spiffe://sedge/fanout or that of
 * a relay, spiffe://sedge/relay/NAME (which serves nodes as a server does), or names the host that was dialled (RFC 9525).
 *
 * The name sent in the handshake is always SERVER_NAME: Node refuses an IP address there (RFC 6066 3), and agents are often given one.
 */
import { checkServerIdentity, type PeerCertificate } from "node:tls";
import type { VerifyOptions } from "@grpc/grpc-js";
import { RELAY_URI, SERVER_URI, uriNames } from "./identity-uris.ts";

export const SERVER_NAME = "sedge-fanout";

/** `address` as dialled: "HOST:PORT", "[V6]:PORT" or "unix:/PATH" (of which only the URI can be checked). */
export function verifyServer(address: string): VerifyOptions {
  const host = address.startsWith("unix:") ? undefined : address.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");
  return {
    checkServerIdentity: (_name: string, certificate: PeerCertificate) => {
      if (uriNames(certificate.subjectaltname ?? "").some((uri) => uri === SERVER_URI || uri.startsWith(RELAY_URI))) return undefined;
      return host === undefined ? new Error(`the server's certificate does not carry the URI ${SERVER_URI}`) : checkServerIdentity(host, certificate);
    },
  };
}
