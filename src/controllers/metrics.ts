/** Metrics of the controllers. Label values come from the code alone. */
import { Counter, Gauge, type Registry } from "prom-client";
import type { CollectorPass } from "./collector.ts";

/** Registers them; the result is called with each pass. */
export function passMetrics(registry: Registry): (pass: CollectorPass) => void {
  const findings = new Gauge({
    name: "sedge_controllers_findings",
    help: "What the last look through the addresses found wrong",
    labelNames: ["kind"],
    registers: [registry],
  });
  const repairs = new Counter({
    name: "sedge_controllers_repairs_total",
    help: "Addresses and blocks that were to be freed",
    labelNames: ["outcome"],
    registers: [registry],
  });
  return (pass) => {
    findings.reset();
    for (const { kind } of pass.findings) findings.inc({ kind });
    for (const outcome of ["freed", "kept", "failed"] as const) repairs.inc({ outcome }, pass[outcome]);
  };
}
