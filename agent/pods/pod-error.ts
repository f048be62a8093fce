/** What can go wrong with a pod's connection, beside addresses (AddressError), the kernel (PodLinkError) and its policy (EndpointNotProgrammedError). */

/** unknown-attachment: the agent has none of that name. broken: it is there and not as it was made. */
export type PodProblem = "unknown-attachment" | "broken";

export class PodError extends Error {
  readonly code: PodProblem;

  constructor(code: PodProblem, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "PodError";
    this.code = code;
  }
}
