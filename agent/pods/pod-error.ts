/** What can go wrong with a pod's connection, beside addresses (AddressError), the kernel (PodLinkError) and its policy (EndpointNotProgrammedError). */

/**
 * unknown-attachment: the agent has none of that name. broken: it is there and not as it was made. no-policy: the server did not tell the pod's policy in time,
 * and the agent is set to refuse such pods.
 */
export type PodProblem = "unknown-attachment" | "broken" | "no-policy";

export class PodError extends Error {
  readonly code: PodProblem;

  constructor(code: PodProblem, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "PodError";
    this.code = code;
  }
}
