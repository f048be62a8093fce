/**
 * Keeps the node's certificate: the first one for a token, each further one for the one before, well ahead of its end.
 *
 * Invariant: the file always holds a certificate and key that fit, or nothing; a certificate that does not fit this node, this key and the authority is not
 * taken. A session that is open stays open: the next one uses the new certificate.
 * When the certificate has expired, or the issuer no longer takes it, the token is tried again.
 */
import { readFile } from "node:fs/promises";
import { createCertificateRequest, type NewCertificateRequest } from "../../src/runtime/certificate-request.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { Due } from "../../src/runtime/due.ts";
import type { Logger } from "../../src/runtime/log.ts";
import { Backoff, jittered } from "../../src/runtime/retry.ts";
import type { Part } from "../../src/runtime/supervisor.ts";
import { NODE_URI } from "../../src/wire/identity-uris.ts";
import { checkCertificate, type NodeCertificate, readCertificateFile, writeCertificateFile } from "./certificate-file.ts";
import { type EnrollAnswer, type EnrollCall, type EnrollCredential, enroll } from "./est-client.ts";

export interface EnrollmentOptions {
  readonly node: string;
  /** Issuers, "HOST:PORT"; one after the other when one does not answer. */
  readonly servers: readonly string[];
  /** File with the authority that servers and the issuer are signed by (PEM). */
  readonly authorityFile: string;
  /** Read at each use: the kubelet renews such tokens in place. */
  readonly tokenFile: string | undefined;
  /** Where certificate and key are kept. */
  readonly file: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onOutcome?: (outcome: "issued" | "pending" | "refused" | "failed") => void;
  /** Tests put another issuer here. */
  readonly call?: (call: EnrollCall) => Promise<EnrollAnswer>;
}

/** The wall clock may be set: nothing sleeps longer than this before it looks again. */
const LOOK_MS = 3_600_000;
const RENEW_AFTER = 2 / 3;

export class Enrollment implements Part {
  readonly name = "enrollment";
  readonly #options: EnrollmentOptions;
  readonly #usable = new Due();
  readonly #backoff = new Backoff({ initialMs: 1_000, maxMs: 60_000 });
  /** When this node's certificates are renewed, as a part of their time; each node a little differently. */
  readonly #renewAfter = jittered(RENEW_AFTER, 0.08);
  #server = 0;
  #current: NodeCertificate | undefined;
  /** Kept while an answer is pending, and for a certificate that was refused to be tried with a token. */
  #request: NewCertificateRequest | undefined;
  #lastProblem = "";

  constructor(options: EnrollmentOptions) {
    this.#options = options;
  }

  /** Resolves when there is a certificate to connect with, or the signal aborts. */
  untilUsable(signal: AbortSignal): Promise<void> {
    return this.#usable.wait(signal);
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, file, log, node } = this.#options;
    try {
      this.#current = await readCertificateFile(file, node);
    } catch (error) {
      log.warn({ err: error, file }, "the stored certificate cannot be used: asking for another");
    }
    if (this.#current !== undefined && clock.wallTime() < this.#current.notAfter) this.#usable.mark();
    while (!signal.aborted) {
      const waitMs = this.#dueInMs();
      await clock.sleep(waitMs > 0 ? Math.min(waitMs, LOOK_MS) : await this.#attempt(signal), signal);
    }
  }

  #dueInMs(): number {
    const current = this.#current;
    if (current === undefined) return 0;
    return current.notBefore + (current.notAfter - current.notBefore) * this.#renewAfter - this.#options.clock.wallTime();
  }

  /** One try; how long to wait then (ms). */
  async #attempt(signal: AbortSignal): Promise<number> {
    const { log, onOutcome, servers } = this.#options;
    const server = servers[this.#server % servers.length] ?? "";
    try {
      const answer = await this.#ask(server, signal);
      onOutcome?.(answer.kind);
      if (answer.kind === "issued") return 0;
      if (answer.kind === "refused") this.#complain(`the issuer ${server} refuses a certificate: ${answer.reason}`);
      else log.info({ server }, "the certificate waits for an approval");
      return this.#backoff.next(answer.kind === "pending" ? answer.retryAfterMs : 0);
    } catch (error) {
      if (signal.aborted) return 0;
      onOutcome?.("failed");
      this.#server++;
      this.#complain(error instanceof Error ? error.message : String(error), error);
      return this.#backoff.next(retryAfterOf(error));
    }
  }

  async #ask(server: string, signal: AbortSignal): Promise<EnrollAnswer> {
    const { authorityFile, call = enroll, clock, file, log, node } = this.#options;
    const authority = await readFile(authorityFile, "utf8");
    this.#request ??= await createCertificateRequest({ commonName: node, uris: [`${NODE_URI}${node}`] });
    const { key, request } = this.#request;
    const current = this.#current;
    const isGood = current !== undefined && clock.wallTime() < current.notAfter;
    let answer: EnrollAnswer | undefined;
    if (isGood) answer = await call({ server, authority, request, signal, credential: { kind: "certificate", ...current } });
    if (answer === undefined || answer.kind === "refused") {
      const credential = await this.#token();
      if (credential !== undefined) answer = await call({ server, authority, request, signal, credential });
    }
    answer ??= { kind: "refused", reason: "there is no certificate to show, and no token: give --enroll-token-file" };
    if (answer.kind !== "issued") return answer;
    const issued = checkCertificate({ certificates: answer.certificates, key, node, authority });
    await writeCertificateFile(file, issued);
    this.#current = issued;
    this.#usable.mark();
    this.#request = undefined;
    this.#backoff.reset();
    this.#lastProblem = "";
    log.info({ notAfter: new Date(issued.notAfter).toISOString(), server }, "the node has a certificate");
    return answer;
  }

  async #token(): Promise<EnrollCredential | undefined> {
    const { tokenFile } = this.#options;
    if (tokenFile === undefined) return undefined;
    const token = (await readFile(tokenFile, "utf8")).trim();
    return token === "" ? undefined : { kind: "token", token };
  }

  /** Once for each new reason. */
  #complain(problem: string, error?: unknown): void {
    const { clock, log } = this.#options;
    if (problem === this.#lastProblem) return;
    this.#lastProblem = problem;
    const daysLeft = this.#current === undefined ? undefined : Math.round((this.#current.notAfter - clock.wallTime()) / 86_400_000);
    log.warn({ ...(error === undefined ? {} : { err: error }), ...(daysLeft === undefined ? {} : { daysLeft }) }, `no new certificate: ${problem}`);
  }
}

function retryAfterOf(error: unknown): number {
  return error instanceof Error && "retryAfterMs" in error && typeof error.retryAfterMs === "number" ? error.retryAfterMs : 0;
}
