/**
 * The network configuration list that makes a container runtime call us, and what it calls beside us. Pure.
 *
 * `portmap` carries hostPorts, as in Calico. `tuning` sets sysctls of pods. `bandwidth` shapes what a runtime asks for by its capability: without it the
 * agent shapes by a pod's annotations alone. Invariant: ours comes first, the others work on what it made.
 */

/** The reference plugins that can stand beside ours. */
export const CHAINED_PLUGINS = ["portmap", "bandwidth", "tuning"] as const;
export type ChainedPlugin = (typeof CHAINED_PLUGINS)[number];

export interface ConflistOptions {
  readonly name: string;
  readonly cniVersion: string;
  /** Path of the agent's socket on the host. */
  readonly socket: string;
  /** Where the executable leaves DELs while no agent answers, on the host. */
  readonly queueDir: string;
  /** 0: the agent's own. */
  readonly mtu: number;
  /** "" for none. */
  readonly logFile: string;
  readonly chained: readonly ChainedPlugin[];
  /** For `tuning`: "net.ipv4.tcp_keepalive_time" to its value. */
  readonly sysctls: Readonly<Record<string, string>>;
}

/** Newest last. */
const CNI_VERSIONS = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;

/** JSON text with a newline at its end. */
export function renderConflist({ name, cniVersion, socket, queueDir, mtu, logFile, chained, sysctls }: ConflistOptions): string {
  const own = { type: "sedge-cni", socket, queueDir, mtu, ...(logFile === "" ? {} : { logFile }) };
  const beside: Readonly<Record<ChainedPlugin, object>> = {
    portmap: { type: "portmap", snat: true, capabilities: { portMappings: true } },
    bandwidth: { type: "bandwidth", capabilities: { bandwidth: true } },
    tuning: { type: "tuning", sysctl: sysctls },
  };
  const plugins = [own, ...CHAINED_PLUGINS.filter((plugin) => chained.includes(plugin)).map((plugin) => beside[plugin])];
  return `${JSON.stringify({ cniVersion, name, plugins }, undefined, 2)}\n`;
}

/**
 * The newest version that each of the plugins can speak (their answers to VERSION): a list has one version for all, and a plugin that does not know it fails
 * every ADD. undefined: there is none.
 */
export function newestCommonVersion(supported: readonly (readonly string[])[]): string | undefined {
  return CNI_VERSIONS.findLast((version) => supported.every((versions) => versions.includes(version)));
}

/** What is wrong with a list that someone wrote by hand; empty when a runtime will call us by it. */
export function conflistProblems(text: string): readonly string[] {
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch (error) {
    return [`not JSON: ${error instanceof Error ? error.message : String(error)}`];
  }
  const { name, cniVersion, plugins } = (typeof list === "object" && list !== null ? list : {}) as Readonly<Record<string, unknown>>;
  const problems: string[] = [];
  if (typeof name !== "string" || name === "") problems.push("name is missing");
  if (!CNI_VERSIONS.some((version) => version === cniVersion)) problems.push(`cniVersion must be one of ${CNI_VERSIONS.join(", ")}`);
  if (!Array.isArray(plugins)) problems.push("plugins is missing: want a list");
  else if (!pluginTypes(plugins).includes("sedge-cni")) problems.push('plugins has none of type "sedge-cni"');
  return problems;
}

/** The types in a list's text, which was found to be right. */
export function conflistPlugins(text: string): readonly string[] {
  return pluginTypes((JSON.parse(text) as { readonly plugins: readonly unknown[] }).plugins);
}

function pluginTypes(plugins: readonly unknown[]): readonly string[] {
  return plugins.flatMap((plugin) => {
    const type = typeof plugin === "object" && plugin !== null ? (plugin as { readonly type?: unknown }).type : undefined;
    return typeof type === "string" ? [type] : [];
  });
}
