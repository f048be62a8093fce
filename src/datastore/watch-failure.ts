/** An error of a list or watch → what the state machine tells apart. By status and reason only; the one text is a server's older form of "too large version". */
import { ApiError, ApiUnreachableError } from "./api-error.ts";
import type { WatchFailure } from "./watch-machine.ts";

/** `isStreamingList`: the request asked for initial events, so a refusal may be of that. */
export function classifyFailure(error: unknown, { isStreamingList }: { readonly isStreamingList: boolean }): WatchFailure {
  if (error instanceof ApiError) return classifyAnswer(error, isStreamingList);
  return { kind: "disconnected", isSilence: error instanceof ApiUnreachableError && error.code === "SILENT" };
}

function classifyAnswer(error: ApiError, isStreamingList: boolean): WatchFailure {
  const { status, reason, causes, retryAfterMs } = error;
  if (status === 410 || reason === "Expired" || reason === "Gone") return { kind: "expired" };
  if (causes.some((cause) => cause.reason === "ResourceVersionTooLarge") || (status === 504 && reason === "Timeout" && causes.length > 0))
    return { kind: "ahead", retryAfterMs };
  if (status === 404) return { kind: "missing" };
  // 422: the feature is off or not known; 400: options that contradict each other for an older server; 406 and 415 likewise.
  if (isStreamingList && [400, 406, 415, 422].includes(status)) return { kind: "no-streaming" };
  // A version that is malformed for this server (another store) is as good as expired.
  if (status === 400 || status === 422) return { kind: "expired" };
  return { kind: "refused", retryAfterMs };
}
