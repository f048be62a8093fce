/** Calls the compiled CNI executable as a container runtime does. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { exec } from "../../src/runtime/exec.ts";

export const cniExecutable = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), "dist", "cni", "sedge-cni");

/** False: `node scripts/build-cni.mjs` was not run. */
export function hasCniExecutable(): boolean {
  return existsSync(cniExecutable);
}

export interface CniCall {
  readonly command: string;
  readonly containerId?: string;
  readonly netns?: string;
  readonly ifname?: string;
  readonly pod?: string;
  readonly config?: Readonly<Record<string, unknown>>;
}

export interface CniReply {
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
  /** stdout parsed, {} when empty. */
  readonly json: Readonly<Record<string, unknown>> & {
    readonly code?: number;
    readonly msg?: string;
    readonly details?: string;
    readonly ips?: readonly { readonly address: string }[];
  };
}

/** What a runtime gives the executable. `directory` is the one of test/fakes/cni-agent.ts. */
export function cniInput(
  directory: string,
  { command, containerId, netns, ifname = "eth0", pod = containerId, config = {} }: CniCall,
): { readonly env: Readonly<Record<string, string | undefined>>; readonly stdin: string } {
  const env = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: containerId,
    CNI_NETNS: netns,
    CNI_IFNAME: ifname,
    CNI_PATH: "/opt/cni/bin",
    CNI_ARGS: pod === undefined ? undefined : `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${pod}`,
  };
  const stdin = JSON.stringify({
    cniVersion: "1.1.0",
    name: "k8s-pod-network",
    type: "sedge-cni",
    socket: join(directory, "agent.sock"),
    queueDir: join(directory, "cni-queue"),
    ...config,
  });
  return { env, stdin };
}

/** To its end; `directory` as for `cniInput`. */
export async function callCni(directory: string, call: CniCall): Promise<CniReply> {
  const { code, stdout, stderr } = await exec([cniExecutable], { ...cniInput(directory, call), timeoutMs: 60_000 });
  return { code, stdout, stderr, json: stdout === "" ? {} : (JSON.parse(stdout) as CniReply["json"]) };
}
