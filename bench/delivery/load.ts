/** What every server of `bench delivery` is to send, so that their figures can be compared. */

export const MESSAGE_BYTES = 200;
/** What HTTP/2 and gRPC add. */
export const FRAME_BYTES = 14;
/** Between two messages, or two bursts, to all clients. */
export const SPACING_MS = 400;
export const ROUNDS = 10;
/** Messages in one tick. */
export const BURST = 10;
