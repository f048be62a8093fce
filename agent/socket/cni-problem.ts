/**
 * Errors of the agent as CNI error objects: the one table.
 *
 * Codes 1 to 99 are the specification's: 3 unknown container, 4 environment, 5 I/O, 7 configuration, 11 try again later, 50 not available, 51 not
 * available and existing containers limited. Ours, which `cni/errors.ts` documents too: 100 internal, 101 pool full, 102 no pool, 103 unknown node,
 * 104 kernel, 105 connection broken, 106 policy not in the kernel, 107 some attachments could not be removed, 108 annotations that cannot be met.
 */
import { AddressError, type AddressProblem } from "../addresses/address-error.ts";
import { EndpointNotProgrammedError } from "../apply/local-endpoints.ts";
import { PodError, type PodProblem } from "../pods/pod-error.ts";
import { PodLinkError, type PodLinkProblem } from "../pods/pod-link.ts";
import type { CniProblem } from "./cni-request.ts";

export const UNKNOWN_CONTAINER = 3;
export const BAD_ENVIRONMENT = 4;
export const BAD_CONFIG = 7;
export const TRY_AGAIN = 11;
export const NOT_AVAILABLE = 50;
export const LIMITED = 51;
const INTERNAL = 100;
const GC_INCOMPLETE = 107;

const ADDRESS_CODES: Readonly<Record<AddressProblem, number>> = {
  "pool-full": 101,
  "bad-request": 108,
  cooling: TRY_AGAIN,
  "no-pool": 102,
  "unknown-node": 103,
  unavailable: TRY_AGAIN,
  journal: 5,
};
const LINK_CODES: Readonly<Record<PodLinkProblem, number>> = {
  "netns-gone": BAD_ENVIRONMENT,
  "host-netns": BAD_ENVIRONMENT,
  "name-taken": BAD_ENVIRONMENT,
  kernel: 104,
};
const POD_CODES: Readonly<Record<PodProblem, number>> = { "unknown-attachment": UNKNOWN_CONTAINER, broken: 105, "no-policy": TRY_AGAIN };
const POLICY_NOT_PROGRAMMED = 106;

export function problemOf(error: unknown): CniProblem {
  if (error instanceof AddressError) return { code: ADDRESS_CODES[error.code], msg: summary(error.code), details: error.message };
  if (error instanceof PodLinkError) return { code: LINK_CODES[error.code], msg: summary(error.code), details: error.message };
  if (error instanceof PodError) return { code: POD_CODES[error.code], msg: summary(error.code), details: error.message };
  if (error instanceof EndpointNotProgrammedError) return { code: POLICY_NOT_PROGRAMMED, msg: "the pod's policy is not in the kernel", details: error.message };
  return { code: INTERNAL, msg: "internal error of the agent", details: error instanceof Error ? error.message : String(error) };
}

export function badRequest(details: string): CniProblem {
  return { code: BAD_CONFIG, msg: "the agent does not understand the request", details };
}

export function tryAgain(details: string): CniProblem {
  return { code: TRY_AGAIN, msg: "try again later", details };
}

export function gcIncomplete(failures: readonly string[]): CniProblem {
  return { code: GC_INCOMPLETE, msg: `${failures.length} attachments could not be removed`, details: failures.join("; ") };
}

function summary(code: AddressProblem | PodLinkProblem | PodProblem): string {
  switch (code) {
    case "bad-request":
      return "the pod's annotations ask for what cannot be given";
    case "pool-full":
      return "address pool full";
    case "cooling":
      return "no address free for a moment";
    case "no-pool":
      return "no address pool";
    case "unknown-node":
      return "node not in the API";
    case "unavailable":
      return "addresses not available now";
    case "journal":
      return "journal of addresses not writable";
    case "netns-gone":
      return "network namespace missing";
    case "host-netns":
      return "network namespace is the host's";
    case "name-taken":
      return "interface name taken";
    case "kernel":
      return "the kernel refused the pod's interface";
    case "unknown-attachment":
      return "unknown container";
    case "no-policy":
      return "the pod's policy has not arrived";
    case "broken":
      return "container's connection is not as it was made";
    default:
      return code satisfies never;
  }
}
