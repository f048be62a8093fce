/** The network configuration list that makes a container runtime call us. `manifests/10-sedge.conflist` is its output with the defaults. */
import { DEFAULT_QUEUE_DIR, DEFAULT_SOCKET } from "./config.ts";
import { NEWEST_VERSION } from "./versions.ts";

export interface ConflistOptions {
  readonly name?: string;
  readonly socket?: string;
  readonly queueDir?: string;
  /** 0: the agent's own. */
  readonly mtu?: number;
  readonly logFile?: string;
  /** Chain the reference plugin `portmap` for hostPorts; its executable must be beside ours, or every ADD fails. */
  readonly withPortmap?: boolean;
}

/** JSON text with a newline at its end. */
export function renderConflist({
  name = "k8s-pod-network",
  socket = DEFAULT_SOCKET,
  queueDir = DEFAULT_QUEUE_DIR,
  mtu = 0,
  logFile = "",
  withPortmap = false,
}: ConflistOptions = {}): string {
  const plugin = { type: "sedge-cni", socket, queueDir, mtu, ...(logFile === "" ? {} : { logFile }) };
  const portmap = { type: "portmap", snat: true, capabilities: { portMappings: true } };
  return `${JSON.stringify({ cniVersion: NEWEST_VERSION, name, plugins: withPortmap ? [plugin, portmap] : [plugin] }, undefined, 2)}\n`;
}
