/**
 * The node agent: a DaemonSet whose first container puts the CNI executable and its configuration on the node (src/installer).
 *
 * What it needs of the node, and why:
 * - the node's network: it programs that one's nftables, routes and neighbours;
 * - NET_ADMIN: nftables, routes, interfaces and connection tracking by netlink; SYS_ADMIN: setns(2) into a pod's network namespace, and to make its own
 *   /proc/sys writable, which runtimes mount read-only (forwarding, and settings of pods' interfaces);
 * - /run/netns: the namespaces of pods, also those made later (HostToContainer); /run/sedge: the socket; its state, with the certificate that the issuer gives it.
 * No token that the API takes, no process namespace, no modules, no devices. Rejected: `privileged: true`, which is all of that and every device.
 */
import { AUTHORITY_NAME, TOKEN_AUDIENCE } from "./issuer.ts";
import { CONFINED, type KubeObject, metadata, nameOf, PORTS, probes, selectorLabels } from "./object.ts";
import type { RenderInput } from "./values.ts";

const BIN_MOUNT = "/host/cni-bin";
const CONF_MOUNT = "/host/cni-conf";
const TLS_MOUNT = "/etc/sedge/tls";

const START = 'mount -o remount,rw,bind /proc/sys && exec node /opt/sedge/bin/sedge.ts agent "$@"';

export function renderAgent({ namespace, values }: RenderInput): readonly KubeObject[] {
  const { agent, images } = values;
  const image = { image: images.agent, imagePullPolicy: images.pullPolicy };
  const install = {
    name: "install-cni",
    ...image,
    command: ["node", "/opt/sedge/bin/sedge.ts", "cni-install"],
    args: [
      `--bin-dir=${BIN_MOUNT}`,
      `--conf-dir=${CONF_MOUNT}`,
      `--socket=${agent.runDir}/agent.sock`,
      `--queue-dir=${agent.stateDir}/cni-queue`,
      `--cni-log-file=${agent.cniLogFile}`,
      `--log-level=${agent.logLevel}`,
    ],
    env: [{ name: "SEDGE_CNI_INSTALL_CHAIN", value: agent.cniChain }],
    resources: agent.resources,
    // Root, because the directories are root's; without any capability.
    securityContext: { ...CONFINED, runAsNonRoot: false, runAsUser: 0, runAsGroup: 0 },
    volumeMounts: [
      { name: "cni-bin", mountPath: BIN_MOUNT },
      { name: "cni-conf", mountPath: CONF_MOUNT },
    ],
  };
  const container = {
    name: "agent",
    ...image,
    command: ["/bin/sh", "-c", START, "agent"],
    args: [
      "--node-name=$(NODE_NAME)",
      `--server=$(SEDGE_SYNC_SERVICE_HOST):${PORTS.sync}`,
      `--server-order=${agent.serverOrder}`,
      `--enroll-server=$(SEDGE_ISSUER_SERVICE_HOST):${PORTS.enroll}`,
      `--enroll-token-file=${TLS_MOUNT}/token`,
      `--tls-ca=${TLS_MOUNT}/ca.crt`,
      "--state-dir=/var/lib/sedge",
      "--socket=/run/sedge/agent.sock",
      `--metrics-listen=0.0.0.0:${PORTS.agentMetrics}`,
      `--health-listen=127.0.0.1:${PORTS.agentHealth}`,
      `--mtu=${agent.mtu}`,
      `--log-level=${agent.logLevel}`,
    ],
    env: [{ name: "NODE_NAME", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } }],
    ports: [
      { name: "metrics", containerPort: PORTS.agentMetrics },
      { name: "health", containerPort: PORTS.agentHealth },
    ],
    ...probes(PORTS.agentHealth, "127.0.0.1"),
    resources: agent.resources,
    securityContext: {
      runAsUser: 0,
      runAsGroup: 0,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"], add: ["NET_ADMIN", "SYS_ADMIN"] },
      seccompProfile: { type: "RuntimeDefault" },
      // The runtimes' profile forbids writing below /proc/sys whatever the capabilities.
      appArmorProfile: { type: "Unconfined" },
    },
    volumeMounts: [
      { name: "state", mountPath: "/var/lib/sedge" },
      { name: "run", mountPath: "/run/sedge" },
      { name: "netns", mountPath: "/run/netns", readOnly: true, mountPropagation: "HostToContainer" },
      { name: "tls", mountPath: TLS_MOUNT, readOnly: true },
    ],
  };
  const hostPath = (name: string, path: string, type: string): Readonly<Record<string, unknown>> => ({ name, hostPath: { path, type } });
  const podSpec = {
    serviceAccountName: nameOf("agent"),
    automountServiceAccountToken: false,
    // Brings SEDGE_SYNC_SERVICE_HOST: an address, since names cannot be resolved before pods have a network.
    enableServiceLinks: true,
    hostNetwork: true,
    dnsPolicy: "Default",
    priorityClassName: "system-node-critical",
    terminationGracePeriodSeconds: 10,
    tolerations: [{ operator: "Exists" }],
    initContainers: [install],
    containers: [container],
    volumes: [
      hostPath("state", agent.stateDir, "DirectoryOrCreate"),
      hostPath("run", agent.runDir, "DirectoryOrCreate"),
      hostPath("netns", "/run/netns", "DirectoryOrCreate"),
      {
        name: "tls",
        projected: {
          defaultMode: 0o440,
          sources: [
            // For the issuer alone: the API server does not take a token of another audience.
            { serviceAccountToken: { audience: TOKEN_AUDIENCE, expirationSeconds: 3_600, path: "token" } },
            { configMap: { name: AUTHORITY_NAME, items: [{ key: "ca.crt", path: "ca.crt" }] } },
          ],
        },
      },
      hostPath("cni-bin", agent.cniBinDir, "DirectoryOrCreate"),
      hostPath("cni-conf", agent.cniConfDir, "DirectoryOrCreate"),
    ],
  };
  return [
    {
      apiVersion: "apps/v1",
      kind: "DaemonSet",
      metadata: metadata("agent", namespace),
      spec: {
        selector: { matchLabels: selectorLabels("agent") },
        updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: agent.maxUnavailable } },
        template: { metadata: { labels: selectorLabels("agent") }, spec: podSpec },
      },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: metadata("agent", namespace, "sedge-agent-metrics"),
      spec: { clusterIP: "None", selector: selectorLabels("agent"), ports: [{ name: "metrics", port: PORTS.agentMetrics, targetPort: "metrics" }] },
    },
  ];
}
