/** Addresses that a delivery listens on. */
import { lstatSync, rmSync } from "node:fs";

/** True for 127.0.0.0/8, ::1 and localhost. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host);
}

/** Throws when a listener without TLS is not on a loopback address: anybody could pass for any node. */
export function requireLoopback({ host, tls, isPrivate = false }: { readonly host: string; readonly tls: unknown; readonly isPrivate?: boolean }): void {
  if (isPrivate && host.startsWith("unix:")) return;
  if (tls === undefined && !isLoopback(host)) throw new Error(`the plaintext listener may only be on a loopback address such as 127.0.0.1, not ${host}`);
}

/** Only a socket: whatever else is at the path stays, and listening fails with the system's reason. */
export function removeSocket(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true) rmSync(path);
}

/** "host:port", "[v6]:port", or "unix:/path" as it is. */
export function formatAddress(host: string, port: number): string {
  if (host.startsWith("unix:")) return host;
  return host.includes(":") && !host.startsWith("[") ? `[${host}]:${port}` : `${host}:${port}`;
}
