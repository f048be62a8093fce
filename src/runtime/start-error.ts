/**
 * What keeps a program from starting and a person can change: a port in use, a file that is missing, a directory without the right to write.
 *
 * The message names the thing and what to do, so bin/sedge.ts prints it alone; any other error is a defect and is printed with its stack.
 */
export class StartError extends Error {
  readonly code = "START";

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "StartError";
  }
}
