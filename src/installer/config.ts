/** Settings of `sedge cni-install`. Paths of the host are as the installer sees them; the socket and the queue are as the host does. */
import { z } from "zod";
import { LOG_LEVELS } from "../runtime/log.ts";
import { CHAINED_PLUGINS } from "./conflist.ts";

const path = z.string().regex(/^\//, "want an absolute path");
/** What `tuning` may be told: its own allow list is the administrator's; these are what Calico allows, and more can be given in a list of one's own. */
const sysctl = z.string().regex(/^net\.ipv4\.tcp_keepalive_(time|intvl|probes)=\d+$/, "want net.ipv4.tcp_keepalive_{time,intvl,probes}=N");

export const installConfigSchema = z
  .object({
    executable: path.optional().describe("The CNI executable to install (default: dist/cni/sedge-cni or cni/sedge-cni of this installation)"),
    binDir: path.default("/opt/cni/bin").describe("Where the container runtime looks for CNI executables"),
    confDir: path.default("/etc/cni/net.d").describe("Where the container runtime looks for CNI configurations"),
    confName: z
      .string()
      .regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*\.conflist$/, "want a file name that ends with .conflist")
      .default("10-sedge.conflist")
      .describe("Name of the configuration; runtimes take the first by name"),
    conflist: path.optional().describe("A network configuration list to install as it is, in place of one made of the settings below"),
    networkName: z
      .string()
      .regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/, "want letters, digits, _ . -")
      .default("k8s-pod-network")
      .describe("Name of the network in the configuration; attachments are known by it, so keep it for the life of a node"),
    socket: path.default("/run/sedge/agent.sock").describe("The agent's socket, on the host"),
    queueDir: path.default("/var/lib/sedge/cni-queue").describe("Where DELs are left while no agent answers, on the host: the agent's --cni-queue-dir"),
    mtu: z.number().int().min(0).max(65_535).default(0).describe("MTU of pods' interfaces; 0: the agent's --mtu"),
    cniLogFile: z
      .union([z.literal(""), path])
      .default("")
      .describe("File on the host to which the executable adds a line a command; empty: none"),
    chain: z
      .array(z.enum([...CHAINED_PLUGINS, "none"]))
      .default(["portmap"])
      .describe("Reference plugin beside ours: portmap (hostPorts), bandwidth, tuning (with --sysctl); repeat it; none for none"),
    sysctl: z.array(sysctl).default([]).describe("Set in every pod by tuning, as NAME=VALUE; repeat it"),
    pluginsFrom: z
      .union([z.literal(""), path])
      .default("")
      .describe("Directory with reference plugins that are copied where the host has none (default: cni/plugins of this installation, when it is there)"),
    uninstall: z.boolean().default(false).describe("Remove the configuration, then the executable"),
    logLevel: z.enum(LOG_LEVELS).default("info").describe("trace, debug, info, warn, error, fatal or silent"),
  })
  .strict();

export type InstallConfig = z.infer<typeof installConfigSchema>;

/** What the schema alone cannot say. Empty when the settings fit together. */
export function installConfigProblems({ chain, sysctl: sysctls }: InstallConfig): readonly string[] {
  return [
    ...(chain.includes("none") && chain.length > 1 ? ["--chain none: leave out the others"] : []),
    ...(sysctls.length > 0 && !chain.includes("tuning") ? ["--sysctl needs --chain tuning"] : []),
  ];
}
