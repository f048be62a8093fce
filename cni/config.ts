/**
 * The network configuration on stdin: read strictly where we use it, passed over where we do not (the specification lets runtimes add keys).
 *
 * Every problem names its key. Rejected: a schema library: its start-up alone takes longer than the rest of the executable.
 */
import { CniError } from "./errors.ts";
import { type CniVersion, isSupportedVersion, SUPPORTED_VERSIONS } from "./versions.ts";

export const DEFAULT_SOCKET = "/run/sedge/agent.sock";
export const DEFAULT_QUEUE_DIR = "/var/lib/sedge/cni-queue";

export interface ValidAttachment {
  readonly containerID: string;
  readonly ifname: string;
}

export interface NetworkConfig {
  readonly cniVersion: CniVersion;
  readonly name: string;
  /** The agent's unix socket. */
  readonly socket: string;
  /** Where DELs are left when no agent answers. */
  readonly queueDir: string;
  /** 0: the agent's own. */
  readonly mtu: number;
  /** A line per command is appended; "" for none. */
  readonly logFile: string;
  readonly prevResult: JsonObject | undefined;
  readonly validAttachments: readonly ValidAttachment[] | undefined;
}

export type JsonObject = Readonly<Record<string, unknown>>;

/** Throws CniError decodingFailure when the text is no JSON object. */
export function parseJsonObject(text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CniError("decodingFailure", "the network configuration on stdin is not JSON", error instanceof Error ? error.message : String(error));
  }
  if (!isObject(value)) throw new CniError("decodingFailure", "the network configuration on stdin is not a JSON object", `it is ${describe(value)}`);
  return value;
}

/** Throws CniError: invalidConfig with every wrong key, incompatibleVersion for a cniVersion that is not ours. */
export function parseConfig(value: JsonObject): NetworkConfig {
  const problems: string[] = [];
  const text = (key: string, fallback?: string): string => {
    const found = value[key] ?? fallback;
    if (typeof found === "string" && (found !== "" || fallback === "")) return found;
    problems.push(found === undefined ? `${key} is missing` : `${key} must be a non-empty string, not ${describe(found)}`);
    return "";
  };
  const cniVersion = text("cniVersion");
  const name = text("name");
  if (name !== "" && !/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name))
    problems.push(`name ${JSON.stringify(name)} must begin with a letter or digit and have only letters, digits, _ . - after it`);
  const socket = path("socket", text("socket", DEFAULT_SOCKET), problems);
  const queueDir = path("queueDir", text("queueDir", DEFAULT_QUEUE_DIR), problems);
  const logFile = text("logFile", "");
  if (logFile !== "") path("logFile", logFile, problems);
  const mtu = value["mtu"] ?? 0;
  if (typeof mtu !== "number" || !Number.isInteger(mtu) || mtu < 0 || mtu > 65_536 || (mtu > 0 && mtu < 68))
    problems.push(`mtu must be 0 (the agent's own) or a whole number from 68 to 65536, not ${describe(mtu)}`);
  const prevResult = value["prevResult"] ?? undefined;
  if (prevResult !== undefined && !isObject(prevResult)) problems.push(`prevResult must be an object, not ${describe(prevResult)}`);
  const validAttachments = parseValidAttachments(value["cni.dev/valid-attachments"], problems);
  if (problems.length > 0)
    throw new CniError("invalidConfig", `the network configuration${name === "" ? "" : ` ${name}`} is wrong: ${problems[0]}`, problems.join("; "));
  if (!isSupportedVersion(cniVersion))
    throw new CniError("incompatibleVersion", `cniVersion ${cniVersion} is not supported`, `supported: ${SUPPORTED_VERSIONS.join(", ")}`);
  return {
    cniVersion,
    name,
    socket,
    queueDir,
    logFile,
    mtu: typeof mtu === "number" ? mtu : 0,
    prevResult: isObject(prevResult) ? prevResult : undefined,
    validAttachments,
  };
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function path(key: string, found: string, problems: string[]): string {
  if (found !== "" && !found.startsWith("/")) problems.push(`${key} must be an absolute path, not ${JSON.stringify(found)}`);
  return found;
}

function parseValidAttachments(value: unknown, problems: string[]): readonly ValidAttachment[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value)) {
    problems.push(`cni.dev/valid-attachments must be a list, not ${describe(value)}`);
    return undefined;
  }
  const found: ValidAttachment[] = [];
  for (const [i, entry] of (value as readonly unknown[]).entries()) {
    const { containerID, ifname } = isObject(entry) ? entry : {};
    if (typeof containerID === "string" && typeof ifname === "string") found.push({ containerID, ifname });
    else problems.push(`cni.dev/valid-attachments[${i}] must have the strings containerID and ifname`);
  }
  return found;
}

function describe(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "an object";
  return typeof value === "undefined" ? "nothing" : JSON.stringify(value);
}
