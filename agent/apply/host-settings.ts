/** Settings of the host's kernel without which pods cannot talk: forwarding in both families. Read first, so that a host that has them needs no write. */
import { readFile, writeFile } from "node:fs/promises";

export class HostSettingError extends Error {
  readonly code = "HOST_SETTING";

  constructor(setting: string, wanted: string, cause: unknown) {
    super(
      `kernel setting ${setting} must be ${wanted} and cannot be set (${cause instanceof Error ? cause.message : String(cause)}): run the agent as root, or set it with sysctl -w ${setting}=${wanted}`,
      { cause },
    );
    this.name = "HostSettingError";
  }
}

const WANTED: readonly (readonly [setting: string, value: string, isOptional: boolean])[] = [
  ["net.ipv4.ip_forward", "1", false],
  // A kernel without IPv6 has no such file, and no IPv6 pods either.
  ["net.ipv6.conf.all.forwarding", "1", true],
];

/** Throws HostSettingError. */
export async function prepareHost(): Promise<void> {
  for (const [setting, wanted, isOptional] of WANTED) {
    const path = `/proc/sys/${setting.replaceAll(".", "/")}`;
    try {
      if ((await readFile(path, "utf8")).trim() !== wanted) await writeFile(path, wanted);
    } catch (error) {
      if (isOptional && (error as NodeJS.ErrnoException).code === "ENOENT") continue;
      throw new HostSettingError(setting, wanted, error);
    }
  }
}
