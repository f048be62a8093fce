/**
 * The node agent: DaemonSet and the CNI configuration that it installs.
 *
 * What it needs of the node, and why:
 * - the node's network: it programs that one's nftables, routes and neighbours;
 * - NET_ADMIN: nftables, routes, interfaces and connection tracking by netlink; SYS_ADMIN: setns(2) into a pod's network namespace, and to make its own
 *   /proc/sys writable, which runtimes mount read-only (forwarding, and settings of pods' interfaces);
 * - /run/netns: the namespaces of pods, also those made later (HostToContainer); /run/sedge: the socket; its state; its certificate.
 * No token of the API, no process namespace, no modules, no devices. Rejected: `privileged: true`, which is all of that and every device.
 */
import { CONFINED, type KubeObject, metadata, nameOf, PORTS, probes, selectorLabels } from "./object.ts";
import type { RenderInput } from "./values.ts";

const CNI_CONFIG = "sedge-cni-config";
const CONFLIST = "10-sedge.conflist";
const BIN_MOUNT = "/host/cni-bin";
const CONF_MOUNT = "/host/cni-conf";

/** Each is renamed into place, since the runtime may be reading or running what is there. The configuration last: with it the node counts as connected. */
const INSTALL = [
  "set -eu",
  `cp /opt/sedge/cni/sedge-cni ${BIN_MOUNT}/.sedge-cni.new`,
  `mv -f ${BIN_MOUNT}/.sedge-cni.new ${BIN_MOUNT}/sedge-cni`,
  `cp /config/${CONFLIST} ${CONF_MOUNT}/.${CONFLIST}.new`,
  `mv -f ${CONF_MOUNT}/.${CONFLIST}.new ${CONF_MOUNT}/${CONFLIST}`,
].join("\n");

const START = 'mount -o remount,rw,bind /proc/sys && exec node /opt/sedge/bin/sedge.ts agent "$@"';

export function renderAgent({ namespace, values }: RenderInput): readonly KubeObject[] {
  const { agent, images } = values;
  const image = { image: images.agent, imagePullPolicy: images.pullPolicy };
  const install = {
    name: "install-cni",
    ...image,
    command: ["/bin/sh", "-c", INSTALL],
    resources: agent.resources,
    // Root, because the directories are root's; without any capability.
    securityContext: { ...CONFINED, runAsNonRoot: false, runAsUser: 0, runAsGroup: 0 },
    volumeMounts: [
      { name: "cni-bin", mountPath: BIN_MOUNT },
      { name: "cni-conf", mountPath: CONF_MOUNT },
      { name: "cni-config", mountPath: "/config", readOnly: true },
    ],
  };
  const container = {
    name: "agent",
    ...image,
    command: ["/bin/sh", "-c", START, "agent"],
    args: [
      "--node-name=$(NODE_NAME)",
      `--server=$(SEDGE_FANOUT_SERVICE_HOST):${PORTS.sync}`,
      "--tls-cert=/etc/sedge/tls/tls.crt",
      "--tls-key=/etc/sedge/tls/tls.key",
      "--tls-ca=/etc/sedge/tls/ca.crt",
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
      { name: "tls", mountPath: "/etc/sedge/tls", readOnly: true },
    ],
  };
  const hostPath = (name: string, path: string, type: string): Readonly<Record<string, unknown>> => ({ name, hostPath: { path, type } });
  const podSpec = {
    serviceAccountName: nameOf("agent"),
    automountServiceAccountToken: false,
    // Brings SEDGE_FANOUT_SERVICE_HOST: an address, since names cannot be resolved before pods have a network.
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
      hostPath("tls", agent.tlsDir, "Directory"),
      hostPath("cni-bin", agent.cniBinDir, "DirectoryOrCreate"),
      hostPath("cni-conf", agent.cniConfDir, "DirectoryOrCreate"),
      { name: "cni-config", configMap: { name: CNI_CONFIG } },
    ],
  };
  return [
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: metadata("agent", namespace, CNI_CONFIG),
      data: { [CONFLIST]: renderConflist({ runDir: agent.runDir, stateDir: agent.stateDir }) },
    },
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

/** The container runtime's configuration. mtu 0: the agent's. */
export function renderConflist({ runDir, stateDir }: { readonly runDir: string; readonly stateDir: string }): string {
  const plugin = { type: "sedge-cni", socket: `${runDir}/agent.sock`, queueDir: `${stateDir}/cni-queue`, mtu: 0 };
  return `${JSON.stringify({ cniVersion: "1.1.0", name: "k8s-pod-network", plugins: [plugin] }, undefined, 2)}\n`;
}
