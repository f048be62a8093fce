/** How a call ends by the transport's own decision. What services and sessions decide is a CallError. */
import { Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { statusOf } from "../../status.ts";

export class GrpcError extends Error {
  override readonly name = "GrpcError";
  readonly code: status;

  constructor(code: status, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The status that is sent for anything that was thrown or given to a callback; what has no code of its own is ours (INTERNAL). */
export function statusOfEnd(error: unknown): StatusObject {
  if (error instanceof GrpcError) return { code: error.code, details: error.message, metadata: new Metadata() };
  if (typeof error === "object" && error !== null && "code" in error && isStatus(error.code)) {
    const details = "details" in error && typeof error.details === "string" ? error.details : "";
    const metadata = "metadata" in error && error.metadata instanceof Metadata ? error.metadata : new Metadata();
    return { code: error.code, details, metadata };
  }
  return statusOf(error);
}

function isStatus(code: unknown): code is status {
  return typeof code === "number" && status[code] !== undefined;
}
