/** The CNI_* environment: which variable a command needs, and what it may hold. Pure. */
import { CniError } from "./errors.ts";

export const COMMANDS = ["ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION"] as const;
export type Command = (typeof COMMANDS)[number];

export const VARIABLES = ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"] as const;
export type Variable = Exclude<(typeof VARIABLES)[number], "CNI_COMMAND">;

/** Variables that each command must have, from the specification's "CNI operations". CNI_NETNS may be empty for DEL: the namespace may be gone. */
export const REQUIRED: Readonly<Record<Command, readonly Variable[]>> = {
  ADD: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
  DEL: ["CNI_CONTAINERID", "CNI_IFNAME"],
  CHECK: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
  GC: [],
  STATUS: [],
  VERSION: [],
};

export interface CniEnvironment {
  readonly command: Command;
  readonly containerId: string;
  readonly netns: string;
  readonly ifname: string;
  readonly args: Readonly<Record<string, string>>;
}

type Variables = Readonly<Record<string, string | undefined>>;

const IFNAME_MAX_LENGTH = 15;

/** Throws CniError invalidEnvironment naming each variable that is missing or wrong. */
export function parseEnvironment(variables: Variables): CniEnvironment {
  const text = variables["CNI_COMMAND"] ?? "";
  const command = COMMANDS.find((name) => name === text);
  if (command === undefined) {
    throw new CniError(
      "invalidEnvironment",
      text === "" ? "CNI_COMMAND is not set" : `CNI_COMMAND ${JSON.stringify(text)} is not known`,
      `it must be one of ${COMMANDS.join(", ")}; a container runtime sets it`,
    );
  }
  const missing = REQUIRED[command].filter((name) => (variables[name] ?? "") === "");
  if (missing.length > 0) throw new CniError("invalidEnvironment", `${missing.join(", ")} must be set for ${command}`);
  const environment = {
    command,
    containerId: variables["CNI_CONTAINERID"] ?? "",
    netns: variables["CNI_NETNS"] ?? "",
    ifname: variables["CNI_IFNAME"] ?? "",
    // Of an attachment; where there is none a runtime may leave in it what it likes.
    args: REQUIRED[command].length === 0 ? {} : parseArgs(variables["CNI_ARGS"] ?? ""),
  };
  const problems =
    REQUIRED[command].length === 0
      ? []
      : [containerIdProblem(environment.containerId), ifnameProblem(environment.ifname)].filter((problem) => problem !== undefined);
  if (problems.length > 0) throw new CniError("invalidEnvironment", problems.join("; "));
  return environment;
}

/** "K8S_POD_NAME=web;IgnoreUnknown=1". Throws CniError for a part that is no pair. */
export function parseArgs(text: string): Readonly<Record<string, string>> {
  const args: Record<string, string> = {};
  for (const part of text.split(";")) {
    if (part === "") continue;
    const at = part.indexOf("=");
    if (at <= 0) throw new CniError("invalidEnvironment", `CNI_ARGS has the part ${JSON.stringify(part)}, which is no KEY=VALUE`);
    args[part.slice(0, at)] = part.slice(at + 1);
  }
  return args;
}

function containerIdProblem(text: string): string | undefined {
  return /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(text)
    ? undefined
    : `CNI_CONTAINERID ${JSON.stringify(text)} must begin with a letter or digit and have only letters, digits, _ . - after it`;
}

function ifnameProblem(text: string): string | undefined {
  if (text.length > IFNAME_MAX_LENGTH) return `CNI_IFNAME ${JSON.stringify(text)} is longer than ${IFNAME_MAX_LENGTH} characters`;
  if (text === "." || text === "..") return `CNI_IFNAME must not be ${text}`;
  return /[\s/:]/.test(text) ? `CNI_IFNAME ${JSON.stringify(text)} must have no space, slash or colon` : undefined;
}
