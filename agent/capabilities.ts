/**
 * Whether this process may change the network of its namespace: asked once at the start, so that who forgot `sudo` reads that, and not the first system call
 * that the kernel refuses. Rejected: the user id (root without the capability fails all the same, a user with it does not).
 */
import { readFile } from "node:fs/promises";
import { StartError } from "../src/runtime/start-error.ts";

/** capabilities(7). */
const CAP_NET_ADMIN = 12n;

/** Throws StartError without CAP_NET_ADMIN. `status`: the text of /proc/self/status. */
export async function requireNetAdmin(status = readFile("/proc/self/status", "utf8")): Promise<void> {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(await status)?.[1];
  if (effective !== undefined && ((BigInt(`0x${effective}`) >> CAP_NET_ADMIN) & 1n) === 1n) return;
  throw new StartError("it has no right to change the network (CAP_NET_ADMIN): run it as root; --no-dataplane runs it without the kernel, for trials");
}
