/** Settings of `sedge agent`. The schema is the only home of name, type, range, default and meaning; see src/runtime/config.ts for the sources. */
import { z } from "zod";
import { isPortInRange } from "../src/runtime/host-port.ts";
import { LOG_LEVELS } from "../src/runtime/log.ts";
import { DEFAULT_FAILSAFE_INBOUND, DEFAULT_FAILSAFE_OUTBOUND, parseFailsafePort } from "./plan/failsafe.ts";
import { DEFAULT_LOG_PREFIX } from "./plan/names.ts";

/** Text without a number at its end is refused for its form. */
const PORT_RANGE = "the port must be 65535 or lower";

const hostAndPort = z
  .string()
  .regex(/^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/, "want HOST:PORT, for example 127.0.0.1:5473 or [::1]:5473")
  .refine(isPortInRange, PORT_RANGE);

const serverAddress = z
  .string()
  .regex(/^(unix:.+|(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5})$/, "want HOST:PORT, for example 10.0.0.1:5473 or [fd00::1]:5473, or unix:/PATH")
  .refine(isPortInRange, PORT_RANGE);

const failsafePort = z.string().refine((text) => parseFailsafePort(text) !== undefined, "want PROTOCOL:PORT or PROTOCOL:PREFIX:PORT, for example tcp:22");
const failsafe = (ports: readonly string[]) => z.array(failsafePort).default([...ports]);

export const agentConfigSchema = z
  .object({
    nodeName: z.string().min(1).describe("Name of the Node object that this machine is"),
    server: z
      .array(serverAddress)
      .min(1)
      .describe("Fan-out server as HOST:PORT (a name can stand for several) or unix:/PATH; repeat it. A server that is reached tells which others there are"),
    serverOrder: z
      .enum(["spread", "listed"])
      .default("spread")
      .describe(
        "spread: each node has a first choice of its own, by hash, so that servers share the nodes; listed: the order given, before what a server tells",
      ),
    tlsCert: z.string().optional().describe("File with the agent's certificate (PEM); its name is the node's"),
    tlsKey: z.string().optional().describe("File with the key of the certificate (PEM)"),
    tlsCa: z.string().optional().describe("File with the authority that signs the servers' certificates (PEM)"),
    enrollServer: z
      .array(hostAndPort)
      .default([])
      .describe(
        "Issuer of certificates (sedge issuer) as HOST:PORT; the agent then gets and renews its own, instead of --tls-cert and --tls-key. May be repeated",
      ),
    enrollTokenFile: z.string().optional().describe("File with the token that the first certificate is given for; read anew at each use"),
    insecure: z.boolean().default(false).describe("Plain text to the server, without identity: for one machine only"),
    stateDir: z.string().default("/var/lib/sedge").describe("Directory for the view, addresses and pods; one agent each"),
    socket: z.string().default("/run/sedge/agent.sock").describe("Unix socket for the CNI executable"),
    metricsListen: hostAndPort.default("127.0.0.1:9091").describe("Where /metrics is served"),
    healthListen: hostAndPort.default("127.0.0.1:9099").describe("Where /liveness and /readiness are served"),
    dataplane: z.boolean().default(true).describe("Program the kernel; --no-dataplane does everything else, for machines without root"),
    interfacePrefix: z
      .string()
      .regex(/^[a-z][a-z0-9]{1,7}$/, "want 2 to 8 lower-case letters and digits, so that a hash of 7 fits behind it")
      .default("cali")
      .describe("Interfaces with this prefix are ours: unknown ones are dropped"),
    endpointToHostAction: z
      .enum(["accept", "return", "drop"])
      .default("accept")
      .describe("What becomes of a pod's packet to its own host that its policy allows; accept and return leave it to other tables alike"),
    failsafeInbound: failsafe(DEFAULT_FAILSAFE_INBOUND).describe(
      "Ports of this host that no host endpoint closes, as PROTOCOL:PORT or PROTOCOL:PREFIX:PORT, for example tcp:22 or tcp:10.0.0.0/8:22",
    ),
    failsafeOutbound: failsafe(DEFAULT_FAILSAFE_OUTBOUND).describe("Ports elsewhere that this host always reaches"),
    cutDenied: z
      .boolean()
      .default(false)
      .describe("Cut connections that are established and that a change of policy denies; without it they live until they end"),
    policyMetrics: z.boolean().default(true).describe("Packets and bytes of each rule of each policy of this node in /metrics"),
    logPrefix: z
      .string()
      .min(1)
      .max(80)
      .regex(/^[ -~]+$/, "want printable ASCII")
      .default(DEFAULT_LOG_PREFIX)
      .describe("What a line of a Log rule begins with, as Calico's logPrefix: %t is the policy's tier, %k its kind, %n its name, %p its namespace and name"),
    mtu: z.number().int().min(1_280).max(65_535).default(1_500).describe("MTU of pods' interfaces, unless the CNI configuration says another"),
    policyWaitMs: z
      .number()
      .int()
      .min(0)
      .max(30_000)
      .default(5_000)
      .describe("How long an ADD waits for the server to tell the pod's policy; after that the pod is closed until it is told"),
    withoutPolicy: z
      .enum(["closed", "refuse"])
      .default("closed")
      .describe("An ADD whose policy has not come in --policy-wait-ms: succeeds, the pod closed until it comes (closed), or fails and is tried again (refuse)"),
    cniQueueDir: z
      .string()
      .optional()
      .describe("Where the CNI executable leaves DELs while no agent answers: its queueDir (default: cni-queue under the state directory)"),
    checkIntervalMs: z
      .number()
      .int()
      .min(1_000)
      .max(600_000)
      .default(30_000)
      .describe("How often everything is compared with the kernel even if nothing was heard"),
    staleAfterMs: z
      .number()
      .int()
      .min(1_000)
      .default(120_000)
      .describe(
        "Upstream data older than this is reported as stale; nothing is deleted for it. A server of an earlier release says up to a minute of a quiet cluster",
      ),
    logLevel: z.enum(LOG_LEVELS).default("info").describe("trace, debug, info, warn, error, fatal or silent"),
  })
  .strict();

export type AgentConfig = z.infer<typeof agentConfigSchema>;

/** What the schema alone cannot say. Empty when the settings fit together. */
export function configProblems(config: AgentConfig): readonly string[] {
  const pair = [config.tlsCert, config.tlsKey].filter((file) => file !== undefined).length;
  const isEnrolling = config.enrollServer.length > 0;
  if (config.insecure) {
    if (pair > 0 || config.tlsCa !== undefined) return ["--insecure: leave it out, or leave out --tls-cert, --tls-key and --tls-ca"];
    return isEnrolling ? ["--insecure: leave it out, or leave out --enroll-server"] : [];
  }
  if (isEnrolling) {
    if (pair > 0) return ["--enroll-server: leave it out, or leave out --tls-cert and --tls-key, which it brings"];
    return config.tlsCa === undefined ? ["--enroll-server: --tls-ca is needed, the authority that signs the issuer's and the servers' certificates"] : [];
  }
  if (config.enrollTokenFile !== undefined) return ["--enroll-token-file: --enroll-server is needed too"];
  if (pair < 2 || config.tlsCa === undefined)
    return ["--tls-cert, --tls-key and --tls-ca: all three are needed (or --enroll-server and --tls-ca; or --insecure, for one machine only)"];
  return [];
}
