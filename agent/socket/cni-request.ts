/**
 * What the CNI executable asks: one JSON object a request. The executable sends the environment and the configuration as it got them, after its own
 * checks; here they are checked again, for who else may write to the socket.
 *
 * Version 1. A field may be added; one that is not known here is ignored. A request of a higher version is refused with the versions that are known.
 */
import { z } from "zod";

export const CNI_REQUEST_VERSION = 1;

/** Alphanumeric first, then also "_", "." and "-" (CNI specification, CNI_CONTAINERID). */
const containerId = z.string().regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/, "must begin with a letter or digit and have only letters, digits, _ . - after it");
const ifname = z
  .string()
  .min(1)
  .max(15)
  .regex(/^[^\s/:]+$/, "must have no space, slash or colon")
  .refine((name) => name !== "." && name !== "..", "must not be . or ..");
const network = z.string().regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/, "must begin with a letter or digit and have only letters, digits, _ . - after it");

const attachmentEnvelope = z.object({
  version: z.literal(CNI_REQUEST_VERSION),
  containerId,
  netns: z.string().default(""),
  ifname,
  /** CNI_ARGS, parsed. */
  args: z.record(z.string(), z.string()).default({}),
  config: z.object({
    name: network,
    mtu: z.int().min(0).max(65_536).optional(),
    prevResult: z
      .object({
        ips: z.array(z.object({ address: z.string() })).optional(),
        /** The container's interface, where the result named it. */
        interfaces: z.array(z.object({ name: z.string(), mac: z.string().optional(), sandbox: z.string().optional() })).optional(),
      })
      .optional(),
  }),
});

export const addRequest = attachmentEnvelope;
export const delRequest = attachmentEnvelope;
export const checkRequest = attachmentEnvelope;
export const statusRequest = z.object({ version: z.literal(CNI_REQUEST_VERSION), config: z.object({ name: network }) });
export const gcRequest = z.object({
  version: z.literal(CNI_REQUEST_VERSION),
  config: z.object({ name: network, "cni.dev/valid-attachments": z.array(z.object({ containerID: z.string(), ifname: z.string() })) }),
});

export type AttachmentCniRequest = z.infer<typeof attachmentEnvelope>;

export const CNI_VERBS = ["add", "del", "check", "status", "gc"] as const;
export type CniVerb = (typeof CNI_VERBS)[number];

/** What ADD answers; the executable puts it into the shape of the asked CNI version. */
export interface AddAnswer {
  readonly hostInterface: { readonly name: string; readonly mac: string };
  readonly containerInterface: { readonly name: string; readonly mac: string; readonly sandbox: string };
  readonly mtu: number;
  /** "10.65.0.2/32" with its gateway, IPv4 first. */
  readonly ips: readonly { readonly address: string; readonly gateway: string }[];
  readonly routes: readonly { readonly dst: string; readonly gw: string }[];
}

export interface CniProblem {
  readonly code: number;
  readonly msg: string;
  readonly details: string;
}

export type CniAnswer = { readonly ok: true; readonly result?: AddAnswer } | { readonly ok: false; readonly error: CniProblem };

/** "config.mtu: Too big: …; ifname: …": every problem, not the first. */
export function describeProblems(error: z.ZodError): string {
  return error.issues.map(({ path, message }) => `${path.join(".") || "request"}: ${message}`).join("; ");
}
