/** What the bytes of a peer can be wrong about. A receiver ends the session with INVALID_ARGUMENT; it never drops the message in silence. */

export type WireProblem = "malformed" | "hash-mismatch" | "unexpected";

export class WireError extends Error {
  readonly code: WireProblem;

  constructor(code: WireProblem, message: string, options: ErrorOptions = {}) {
    super(message, options);
    this.name = "WireError";
    this.code = code;
  }
}
