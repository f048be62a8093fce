/**
 * CNI error objects and their codes.
 *
 * 1 to 99 are the specification's ("Error codes", CNI 1.1.0). Ours begin at 100; those from 100 on are made by the agent and passed through.
 */

export const ERROR_CODES = {
  /** The configuration's cniVersion, or the verb in it, is not supported. */
  incompatibleVersion: 1,
  /** A field of the configuration is not supported; the message names key and value. */
  unsupportedField: 2,
  /** The container is not known: nothing was ever added for it, or it is gone. */
  unknownContainer: 3,
  /** A CNI_* variable is missing or wrong. */
  invalidEnvironment: 4,
  /** A file, the socket or the agent's answer cannot be read or written. */
  ioFailure: 5,
  /** The configuration is not JSON. */
  decodingFailure: 6,
  /** A key of the configuration is missing or has a value that it cannot have; the message names it. */
  invalidConfig: 7,
  /** Nothing is wrong with the request: the agent or the server is not there now. The runtime should retry. */
  tryAgainLater: 11,
  /** STATUS: no ADD can be served now. */
  notAvailable: 50,
  /** STATUS: no ADD can be served, and containers that are connected may be limited. */
  limitedConnectivity: 51,
  /** The agent failed in a way that it has no name for; its log says more. */
  internal: 100,
  /** Every address of the pools is in use: add an IPPool or free addresses. */
  poolFull: 101,
  /** There is no enabled IPPool. */
  noPool: 102,
  /** The API has no Node object of this agent's name. */
  unknownNode: 103,
  /** The kernel refused to make or change an interface. */
  kernel: 104,
  /** CHECK: something that ADD made is missing or changed; the details name each. */
  broken: 105,
  /** The pod's policy could not be put into the kernel, so the pod was not connected. */
  policyNotProgrammed: 106,
  /** GC: some attachments could not be removed; the details name each. */
  gcIncomplete: 107,
  /** What the pod's annotations ask for (an address, pools, families) cannot be given; the message says why. */
  unsatisfiable: 108,
} as const;

export type ErrorName = keyof typeof ERROR_CODES;

export class CniError extends Error {
  readonly code: number;
  readonly details: string;

  constructor(code: ErrorName | number, message: string, details = "") {
    super(message);
    this.name = "CniError";
    this.code = typeof code === "number" ? code : ERROR_CODES[code];
    this.details = details;
  }
}

/** What stdout gets when a command fails. */
export function errorObject(error: CniError, cniVersion: string): object {
  return { cniVersion, code: error.code, msg: error.message, ...(error.details === "" ? {} : { details: error.details }) };
}
