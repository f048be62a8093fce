/**
 * What a call's failure means to who made it: the address that was tried, what failed there, what to do. The one place that reads gRPC's texts; they are
 * tested as captured. What is not recognised is told in gRPC's own words.
 */
import { status } from "@grpc/grpc-js";

export interface CallFailure {
  readonly server: string;
  readonly code: status;
  /** gRPC's text. */
  readonly details: string;
  /** A certificate was given: the connection is mutual TLS. */
  readonly isTls: boolean;
}

const ELSEWHERE = "--server HOST:PORT (or SEDGE_CTL_SERVER) names another address";

export function callProblem({ server, code, details, isTls }: CallFailure): string {
  switch (code) {
    case status.UNAVAILABLE: {
      const cause = connectionCause(details, isTls);
      return cause === undefined ? `${server}: ${details}` : `cannot reach the fan-out server at ${server}: ${cause}`;
    }
    case status.PERMISSION_DENIED:
    case status.UNAUTHENTICATED:
      return `${server} refuses this caller: ${details}; it answers to an operator's certificate (URI spiffe://sedge/operator or CN sedge-operator): --tls-cert, --tls-key, --tls-ca`;
    case status.DEADLINE_EXCEEDED:
      return `${server} gave no answer in time: it may hang or be overloaded, or something on the way drops packets; --timeout-ms gives it longer`;
    case status.UNIMPLEMENTED:
      return `${server} does not know this question: it is an older version than this sedge, or no fan-out server`;
    default:
      return `${server}: ${details}`;
  }
}

/** undefined: it says nothing that is known here. */
function connectionCause(details: string, isTls: boolean): string | undefined {
  const text = details.replace(/^No connection established\. Last error: (Error: )?/, "").replace(/\.? Resolution note:.*$/s, "");
  if (/ECONNREFUSED/.test(text)) return `nothing listens there (connection refused); start it, or look where it runs: ${ELSEWHERE}`;
  if (/Name resolution failed|ENOTFOUND|EAI_AGAIN/.test(text))
    return `the name cannot be looked up; check its spelling and DNS, or give an address: ${ELSEWHERE}`;
  if (/ENOENT/.test(text)) return `there is no such socket; the server does not run on this machine, or under another path: ${ELSEWHERE}`;
  if (/EACCES|EPERM/.test(text)) return "this user may not open it; run as root, or as who the server runs as";
  if (/ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EHOSTDOWN/.test(text)) return `no answer from the host (${text}); check the route and firewalls, or ${ELSEWHERE}`;
  if (/wrong version number|packet length too long|unsupported protocol|EPROTO/i.test(text))
    return "it speaks plain text there, not TLS; leave out --tls-cert, --tls-key and --tls-ca, or look for another port";
  if (/alert|certificate required|handshake failure/i.test(text) && isTls)
    return `it refuses this certificate (${text}); --tls-cert and --tls-key must be an operator's, signed by the authority that the server knows`;
  if (/certificate|issuer|self.signed|altname/i.test(text)) return `its certificate is not accepted (${text}); --tls-ca must be the authority that signed it`;
  if (/ECONNRESET|EPIPE|socket hang up|Connection dropped|Connection ended|disconnected|closed/i.test(text))
    return isTls
      ? `it ends the connection (${text}); it may be starting or stopping, or refuse this certificate`
      : "it ends the connection; it may be starting or stopping, or want mutual TLS: --tls-cert, --tls-key and --tls-ca";
  return text === "" ? undefined : `${text}; ${ELSEWHERE}`;
}
