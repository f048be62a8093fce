/**
 * One CNI command from environment and stdin to stdout and exit code. The agent and the queue are given, so that this runs in any test.
 *
 * Invariant: stdout gets exactly one JSON object, or nothing where the specification wants nothing; an error always has a code. A DEL whose agent is
 * away is written down and succeeds: a pod must not hang in termination because a node's agent restarts.
 */
import { type AgentAnswer, AgentCallError, type AgentVerb } from "./agent-call.ts";
import { isObject, type JsonObject, type NetworkConfig, parseConfig, parseJsonObject } from "./config.ts";
import { type CniEnvironment, type Command, parseEnvironment } from "./environment.ts";
import { CniError, errorObject } from "./errors.ts";
import { addResult } from "./result.ts";
import { type CniVersion, isSince, NEWEST_VERSION, SUPPORTED_VERSIONS } from "./versions.ts";

export interface CommandContext {
  readonly variables: Readonly<Record<string, string | undefined>>;
  /** Throws what reading does. */
  readonly readStdin: () => string;
  /** Throws AgentCallError. */
  readonly ask: (socket: string, verb: AgentVerb, request: object) => AgentAnswer;
  readonly queueDelete: (
    directory: string,
    key: { readonly containerId: string; readonly ifname: string; readonly network: string },
    request: object,
  ) => string;
  readonly unqueueDelete: (path: string) => void;
  /** A line for the configured file; never throws. */
  readonly log?: (file: string, line: JsonObject) => void;
}

export interface CommandOutcome {
  readonly exitCode: 0 | 1;
  /** With its newline; "" for none. */
  readonly stdout: string;
}

/** The first version that has the command. */
const SINCE: Readonly<Record<Command, CniVersion>> = { ADD: "0.3.1", DEL: "0.3.1", CHECK: "0.4.0", STATUS: "1.1.0", GC: "1.1.0", VERSION: "0.3.1" };
const REQUEST_VERSION = 1;

export function runCommand(context: CommandContext): CommandOutcome {
  let cniVersion: string = NEWEST_VERSION;
  let config: NetworkConfig | undefined;
  let environment: CniEnvironment | undefined;
  const done = (outcome: CommandOutcome, problem?: CniError): CommandOutcome => {
    if (config !== undefined && config.logFile !== "") {
      const { command, containerId, ifname, netns } = environment ?? {};
      context.log?.(config.logFile, {
        command,
        containerId,
        ifname,
        netns,
        network: config.name,
        ...(problem === undefined ? { ok: true } : { ok: false, code: problem.code, msg: problem.message, details: problem.details }),
      });
    }
    return outcome;
  };
  try {
    environment = parseEnvironment(context.variables);
    const text = readConfiguration(context);
    // A person who asks for the versions at a prompt gives no configuration; the reference plugins answer then too.
    const value = environment.command === "VERSION" && text.trim() === "" ? {} : parseJsonObject(text);
    if (typeof value["cniVersion"] === "string" && value["cniVersion"] !== "") cniVersion = value["cniVersion"];
    if (environment.command === "VERSION") return { exitCode: 0, stdout: line({ cniVersion, supportedVersions: SUPPORTED_VERSIONS }) };
    config = parseConfig(value);
    const since = SINCE[environment.command];
    if (!isSince(config.cniVersion, since))
      throw new CniError("incompatibleVersion", `cniVersion ${config.cniVersion} has no ${environment.command}`, `it came with ${since}`);
    const result = carryOut(environment, config, context);
    return done({ exitCode: 0, stdout: result === undefined ? "" : line(result) });
  } catch (error) {
    const problem =
      error instanceof CniError
        ? error
        : // A stack is without the message in some engines.
          new CniError("internal", "internal error", error instanceof Error ? `${String(error)}\n${error.stack ?? ""}` : String(error));
    return done({ exitCode: 1, stdout: line(errorObject(problem, cniVersion)) }, problem);
  }
}

function readConfiguration({ readStdin }: CommandContext): string {
  try {
    return readStdin();
  } catch (error) {
    throw new CniError("ioFailure", "the network configuration on stdin cannot be read", error instanceof Error ? error.message : String(error));
  }
}

function carryOut(environment: CniEnvironment, config: NetworkConfig, context: CommandContext): JsonObject | undefined {
  const { command } = environment;
  switch (command) {
    case "ADD": {
      const answer = ask("add", attachmentRequest(environment, config), config, context);
      if (answer.result === undefined) throw new CniError("ioFailure", "the agent's answer to ADD has no result");
      return addResult(answer.result, config);
    }
    case "DEL":
      deleteOrQueue(environment, config, context);
      return undefined;
    case "CHECK":
      if (config.prevResult === undefined)
        throw new CniError("invalidConfig", "the network configuration is wrong: prevResult is missing", "CHECK compares with the result of ADD");
      ask("check", attachmentRequest(environment, config), config, context);
      return undefined;
    case "GC":
      if (config.validAttachments === undefined)
        throw new CniError(
          "invalidConfig",
          "the network configuration is wrong: cni.dev/valid-attachments is missing",
          "GC removes all attachments that are not in it; without it nothing is removed",
        );
      ask("gc", { version: REQUEST_VERSION, config: { name: config.name, "cni.dev/valid-attachments": config.validAttachments } }, config, context);
      return undefined;
    case "STATUS":
      ask("status", { version: REQUEST_VERSION, config: { name: config.name } }, config, context);
      return undefined;
    case "VERSION":
      return undefined;
    default:
      return command satisfies never;
  }
}

function ask(verb: AgentVerb, request: object, config: NetworkConfig, context: CommandContext): Extract<AgentAnswer, { ok: true }> {
  let answer: AgentAnswer;
  try {
    answer = context.ask(config.socket, verb, request);
  } catch (error) {
    if (!(error instanceof AgentCallError)) throw error;
    if (error.code === "unreadable")
      throw new CniError("ioFailure", "the agent's answer is not understood", `${error.message}; are the executable and the agent of one release?`);
    throw new CniError(verb === "status" ? "notAvailable" : "tryAgainLater", "the agent of this node does not answer", error.message);
  }
  if (!answer.ok) throw new CniError(answer.error.code, answer.error.msg, answer.error.details);
  return answer;
}

function deleteOrQueue(environment: CniEnvironment, config: NetworkConfig, context: CommandContext): void {
  const request = attachmentRequest(environment, config);
  let away: CniError;
  try {
    ask("del", request, config, context);
    return;
  } catch (error) {
    if (!(error instanceof CniError) || error.code !== AWAY) throw error;
    away = error;
  }
  let path: string;
  try {
    path = context.queueDelete(config.queueDir, { containerId: environment.containerId, ifname: environment.ifname, network: config.name }, request);
  } catch (error) {
    throw new CniError(
      "ioFailure",
      `${away.message}, and the DEL could not be left for it`,
      `${away.details}; queueDir ${config.queueDir}: ${error instanceof Error ? error.message : String(error)}. Nothing is lost: the DEL works once the agent answers or the directory can be written`,
    );
  }
  // An agent that started in between has read the directory already.
  try {
    ask("del", request, config, context);
    context.unqueueDelete(path);
  } catch (error) {
    if (!(error instanceof CniError)) throw error;
  }
}

const AWAY = 11;

function attachmentRequest({ containerId, netns, ifname, args }: CniEnvironment, { name, mtu, prevResult }: NetworkConfig): object {
  const ips = Array.isArray(prevResult?.["ips"])
    ? (prevResult["ips"] as readonly unknown[]).filter((ip) => isObject(ip) && typeof ip["address"] === "string")
    : undefined;
  // Of the container's own interface alone: a plugin behind us in the chain may have given it another hardware address.
  const interfaces = Array.isArray(prevResult?.["interfaces"])
    ? (prevResult["interfaces"] as readonly unknown[]).filter((link) => isObject(link) && link["name"] === ifname && typeof link["mac"] === "string")
    : undefined;
  const previous = { ...(ips === undefined ? {} : { ips }), ...(interfaces === undefined ? {} : { interfaces }) };
  return {
    version: REQUEST_VERSION,
    containerId,
    netns,
    ifname,
    args,
    config: { name, ...(mtu === 0 ? {} : { mtu }), ...(ips === undefined && interfaces === undefined ? {} : { prevResult: previous }) },
  };
}

function line(value: object): string {
  return `${JSON.stringify(value)}\n`;
}
