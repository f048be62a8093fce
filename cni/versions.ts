/** CNI specification versions and what each can do. */

/** Oldest first; the last is what VERSION answers with when the runtime names none. */
export const SUPPORTED_VERSIONS = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;
export type CniVersion = (typeof SUPPORTED_VERSIONS)[number];

export const NEWEST_VERSION: CniVersion = "1.1.0";

export function isSupportedVersion(text: string): text is CniVersion {
  return SUPPORTED_VERSIONS.some((version) => version === text);
}

/** True when `version` is not older than `since`. */
export function isSince(version: CniVersion, since: CniVersion): boolean {
  return SUPPORTED_VERSIONS.indexOf(version) >= SUPPORTED_VERSIONS.indexOf(since);
}
