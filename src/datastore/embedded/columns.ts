/** What `kubectl get` shows of the built-in kinds: the columns of kube-apiserver (pkg/printers/internalversion), the cells computed here. */
import type { JsonObject, JsonValue } from "./json.ts";
import { arrayAt, objectAt, plainText, stringAt, valueAt } from "./json.ts";
import type { Column } from "./resource-type.ts";

export function column(
  name: string,
  cell: Column["cell"],
  options: { readonly type?: string; readonly format?: string; readonly priority?: number; readonly description?: string } = {},
): Column {
  return {
    name,
    type: options.type ?? "string",
    ...(options.format === undefined ? {} : { format: options.format }),
    description: options.description ?? "",
    priority: options.priority ?? 0,
    cell,
  };
}

/** Age as kubectl writes it: "5s", "3m12s", "4h", "2d3h", "47d". */
export function ageText(timestamp: string, nowMs: number): string {
  const from = Date.parse(timestamp);
  if (Number.isNaN(from)) return "<unknown>";
  const seconds = Math.floor((nowMs - from) / 1000);
  if (seconds < -1) return "<invalid>";
  if (seconds < 0) return "0s";
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return seconds % 60 === 0 ? `${minutes}m` : `${minutes}m${seconds % 60}s`;
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 8) return minutes % 60 === 0 ? `${hours}h` : `${hours}h${minutes % 60}m`;
  if (hours < 48) return `${hours}h`;
  const days = Math.floor(hours / 24);
  if (days < 8) return hours % 24 === 0 ? `${days}d` : `${days}d${hours % 24}h`;
  if (days < 365 * 2) return `${days}d`;
  const years = Math.floor(days / 365);
  return years < 8 && days % 365 !== 0 ? `${years}y${days % 365}d` : `${years}y`;
}

export const NAME = column("Name", (object) => stringAt(object, "metadata", "name"), {
  format: "name",
  description: "Name must be unique within a namespace.",
});
export const AGE = column("Age", (object, now) => ageText(stringAt(object, "metadata", "creationTimestamp"), now), {
  description: "CreationTimestamp is when the object was created.",
});

const wide = { priority: 1 } as const;
const orNone = (text: string): string => (text === "" ? "<none>" : text);

function selectorText(selector: JsonObject): string {
  const labels = Object.entries(objectAt(selector, "matchLabels")).map(([key, value]) => `${key}=${plainText(value)}`);
  const expressions = arrayAt(selector, "matchExpressions").map((expression) => {
    const key = stringAt(expression, "key");
    const values = arrayAt(expression, "values").map(String).sort().join(",");
    switch (stringAt(expression, "operator")) {
      case "In":
        return `${key} in (${values})`;
      case "NotIn":
        return `${key} notin (${values})`;
      case "Exists":
        return key;
      default:
        return `!${key}`;
    }
  });
  return orNone([...labels.sort(), ...expressions].join(","));
}

function nodeStatus(node: JsonObject): string {
  const ready = arrayAt(node, "status", "conditions").find((condition) => stringAt(condition, "type") === "Ready");
  const parts = [ready === undefined ? "Unknown" : stringAt(ready, "status") === "True" ? "Ready" : "NotReady"];
  if (valueAt(node, "spec", "unschedulable") === true) parts.push("SchedulingDisabled");
  return parts.join(",");
}

function nodeRoles(node: JsonObject): string {
  const prefix = "node-role.kubernetes.io/";
  const roles = Object.keys(objectAt(node, "metadata", "labels"))
    .filter((key) => key.startsWith(prefix))
    .map((key) => key.slice(prefix.length));
  return orNone(roles.sort().join(","));
}

function nodeAddress(node: JsonObject, type: string): string {
  return orNone(
    stringAt(
      arrayAt(node, "status", "addresses").find((address) => stringAt(address, "type") === type),
      "address",
    ),
  );
}

function podStatus(pod: JsonObject): string {
  const phase = stringAt(pod, "status", "reason") || stringAt(pod, "status", "phase") || "Unknown";
  if (valueAt(pod, "metadata", "deletionTimestamp") !== undefined) return "Terminating";
  for (const status of arrayAt(pod, "status", "containerStatuses")) {
    const reason = stringAt(status, "state", "waiting", "reason") || stringAt(status, "state", "terminated", "reason");
    if (reason !== "") return reason;
  }
  return phase;
}

function podReady(pod: JsonObject): string {
  const ready = arrayAt(pod, "status", "containerStatuses").filter((status) => valueAt(status, "ready") === true).length;
  return `${ready}/${arrayAt(pod, "spec", "containers").length}`;
}

function podRestarts(pod: JsonObject): string {
  return String(arrayAt(pod, "status", "containerStatuses").reduce<number>((sum, status) => sum + Number(valueAt(status, "restartCount") ?? 0), 0));
}

function servicePorts(service: JsonObject): string {
  return orNone(
    arrayAt(service, "spec", "ports")
      .map(
        (port) =>
          `${plainText(valueAt(port, "port"))}${valueAt(port, "nodePort") === undefined ? "" : `:${plainText(valueAt(port, "nodePort"))}`}/${stringAt(port, "protocol") || "TCP"}`,
      )
      .join(","),
  );
}

function field(...path: readonly string[]): Column["cell"] {
  return (object) => orNone(stringAt(object, ...path));
}

export const NODE_COLUMNS: readonly Column[] = [
  NAME,
  column("Status", nodeStatus),
  column("Roles", nodeRoles),
  AGE,
  column("Version", (node) => stringAt(node, "status", "nodeInfo", "kubeletVersion")),
  column("Internal-IP", (node) => nodeAddress(node, "InternalIP"), wide),
  column("External-IP", (node) => nodeAddress(node, "ExternalIP"), wide),
  column("OS-Image", (node) => stringAt(node, "status", "nodeInfo", "osImage") || "<unknown>", wide),
  column("Kernel-Version", (node) => stringAt(node, "status", "nodeInfo", "kernelVersion") || "<unknown>", wide),
  column("Container-Runtime", (node) => stringAt(node, "status", "nodeInfo", "containerRuntimeVersion") || "<unknown>", wide),
];

export const NAMESPACE_COLUMNS: readonly Column[] = [NAME, column("Status", field("status", "phase")), AGE];

export const POD_COLUMNS: readonly Column[] = [
  NAME,
  column("Ready", podReady),
  column("Status", podStatus),
  column("Restarts", podRestarts),
  AGE,
  column("IP", (pod) => orNone(arrayAt(pod, "status", "podIPs").map((item) => stringAt(item, "ip"))[0] ?? stringAt(pod, "status", "podIP")), wide),
  column("Node", field("spec", "nodeName"), wide),
  column("Nominated Node", field("status", "nominatedNodeName"), wide),
  column("Readiness Gates", () => "<none>", wide),
];

export const NETWORK_POLICY_COLUMNS: readonly Column[] = [NAME, column("Pod-Selector", (policy) => selectorText(objectAt(policy, "spec", "podSelector"))), AGE];

export const SERVICE_ACCOUNT_COLUMNS: readonly Column[] = [
  NAME,
  column("Secrets", (account): JsonValue => arrayAt(account, "secrets").length, { type: "integer" }),
  AGE,
];

export const SERVICE_COLUMNS: readonly Column[] = [
  NAME,
  column("Type", (service) => stringAt(service, "spec", "type") || "ClusterIP"),
  column("Cluster-IP", field("spec", "clusterIP")),
  column("External-IP", () => "<none>"),
  column("Port(s)", servicePorts),
  AGE,
  column("Selector", (service) => selectorText({ matchLabels: objectAt(service, "spec", "selector") }), wide),
];

export const LEASE_COLUMNS: readonly Column[] = [NAME, column("Holder", (lease) => stringAt(lease, "spec", "holderIdentity")), AGE];

export const CRD_COLUMNS: readonly Column[] = [NAME, column("Created At", (crd) => stringAt(crd, "metadata", "creationTimestamp"), { type: "date" })];

export const EVENT_COLUMNS: readonly Column[] = [
  column("Last Seen", (event, now) => ageText(stringAt(event, "lastTimestamp") || stringAt(event, "eventTime"), now)),
  column("Type", (event) => stringAt(event, "type")),
  column("Reason", (event) => stringAt(event, "reason")),
  column("Object", (event) => `${stringAt(event, "involvedObject", "kind").toLowerCase()}/${stringAt(event, "involvedObject", "name")}`),
  column("Message", (event) => stringAt(event, "message").trim()),
  column("Name", (event) => stringAt(event, "metadata", "name"), { ...wide, format: "name" }),
];
