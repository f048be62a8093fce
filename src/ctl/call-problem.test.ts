import { status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { callProblem } from "./call-problem.ts";

const last = (text: string): string => `No connection established. Last error: Error: ${text}. Resolution note: `;

/** As gRPC gave them. */
const CAPTURED: readonly (readonly [code: status, details: string, isTls: boolean, says: RegExp])[] = [
  [
    status.UNAVAILABLE,
    last("connect ECONNREFUSED 10.0.0.1:5473"),
    false,
    /^cannot reach the fan-out server at 10\.0\.0\.1:5473: nothing listens there .*--server/,
  ],
  [status.UNAVAILABLE, "Name resolution failed for target dns:10.0.0.1:5473", false, /the name cannot be looked up/],
  [status.UNAVAILABLE, last("connect ENOENT /run/sedge.sock"), false, /there is no such socket/],
  [status.UNAVAILABLE, last("connect EACCES /run/sedge.sock"), false, /may not open it/],
  [status.UNAVAILABLE, last("connect EHOSTUNREACH 10.0.0.1:5473 - Local (10.0.0.2:4)"), false, /no answer from the host/],
  [status.UNAVAILABLE, last("write EPROTO 80:error:0A00010B:SSL routines:tls_validate_record_header:wrong version number:"), true, /plain text there/],
  [status.UNAVAILABLE, last("self-signed certificate in certificate chain"), true, /--tls-ca must be/],
  [status.UNAVAILABLE, last("80:error:0A000416:SSL routines:ssl3_read_bytes:ssl/tls alert certificate unknown"), true, /refuses this certificate/],
  [status.UNAVAILABLE, last("read ECONNRESET"), false, /want mutual TLS/],
  [status.UNAVAILABLE, "Connection dropped", true, /starting or stopping/],
  [status.UNAVAILABLE, "the server is not in sync yet", false, /the server is not in sync yet/],
  [status.PERMISSION_DENIED, "node n1 may not read", true, /refuses this caller: node n1 may not read; .*operator's certificate/],
  [status.UNAUTHENTICATED, "no certificate", false, /--tls-cert/],
  [status.DEADLINE_EXCEEDED, "Deadline exceeded after 10.0s,LB pick: 0.1s", false, /no answer in time.*--timeout-ms/],
  [status.UNIMPLEMENTED, "The server does not implement the method", false, /older version/],
  [status.NOT_FOUND, 'there is no record "x"', false, /^10\.0\.0\.1:5473: there is no record "x"$/],
];

describe("callProblem: the address, what failed, what to do", () => {
  it.each(CAPTURED)("%s %s (TLS: %s)", (code, details, isTls, says) => {
    const text = callProblem({ server: "10.0.0.1:5473", code, details, isTls });
    expect(text).toMatch(says);
    expect(text).toContain("10.0.0.1:5473");
    expect(text).not.toMatch(/Resolution note|Last error/);
  });
});
