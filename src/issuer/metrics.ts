/** Metrics of the issuer. Label values come from the code alone. */
import { Counter, Gauge, type Registry } from "prom-client";
import type { EstOutcome } from "./est.ts";
import type { SignerDecision } from "./request-signer.ts";

export interface IssuerMetrics {
  outcome(outcome: EstOutcome): void;
  decision(kind: SignerDecision["kind"]): void;
}

export function issuerMetrics(registry: Registry, gauges: { readonly inFlight: () => number; readonly authoritySecondsLeft: () => number }): IssuerMetrics {
  const requests = new Counter({
    name: "sedge_issuer_requests_total",
    help: "Requests for a certificate, by outcome and by what the node showed",
    labelNames: ["outcome", "credential"],
    registers: [registry],
  });
  const decisions = new Counter({
    name: "sedge_issuer_signing_requests_total",
    help: "What was done with CertificateSigningRequests",
    labelNames: ["decision"],
    registers: [registry],
  });
  gauge(registry, "sedge_issuer_requests_in_flight", "Requests being answered", gauges.inFlight);
  gauge(registry, "sedge_issuer_authority_seconds_left", "Until the end of the authority's certificate; below 0 after it", gauges.authoritySecondsLeft);
  return {
    outcome: ({ outcome, by }) => requests.inc({ outcome, credential: by }),
    decision: (decision) => decisions.inc({ decision }),
  };
}

function gauge(registry: Registry, name: string, help: string, read: () => number): void {
  new Gauge({
    name,
    help,
    registers: [registry],
    collect() {
      this.set(read());
    },
  });
}
