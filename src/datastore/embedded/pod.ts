/**
 * Pod (v1): the defaults of the API and the checks that matter to networking: names, containers, ports, and what an update may not change.
 * What only a kubelet or a scheduler reads (probes, volumes' sources, resources' quantities) is checked by type alone.
 */
import type { JsonObject, JsonValue } from "./json.ts";
import { arrayAt, cloneJson, ensureObject, equalJson, isObject, objectAt, stringAt, valueAt } from "./json.ts";
import { dnsLabelProblems, dnsSubdomainProblems, portNameProblems, portNumberProblems } from "./names.ts";
import type { KindRules } from "./resource-type.ts";
import type { Cause } from "./status.ts";
import { fieldDuplicate, fieldForbidden, fieldInvalid, fieldNotSupported, fieldRequired } from "./status.ts";

export const podRules: KindRules = { nameProblems: dnsSubdomainProblems, defaults: fillIn, prepareForCreate, validate: problems };

const LISTS_OF_CONTAINERS = ["containers", "initContainers", "ephemeralContainers"] as const;

/** podIP is the first of podIPs; when the two disagree podIP counts, as in kube-apiserver's conversion. */
function agreeOnAddresses(status: JsonObject): void {
  const first = stringAt(status, "podIPs", 0, "ip");
  const single = stringAt(status, "podIP");
  if (single === "" && first !== "") status["podIP"] = first;
  else if (single !== "" && single !== first) status["podIPs"] = [{ ip: single }];
}

function fillIn(pod: JsonObject): void {
  if (isObject(pod["status"])) agreeOnAddresses(pod["status"]);
  const spec = ensureObject(pod, "spec");
  spec["restartPolicy"] ??= "Always";
  spec["dnsPolicy"] ??= "ClusterFirst";
  spec["schedulerName"] ??= "default-scheduler";
  spec["terminationGracePeriodSeconds"] ??= 30;
  spec["enableServiceLinks"] ??= true;
  ensureObject(spec, "securityContext");
  if (typeof spec["serviceAccountName"] === "string") spec["serviceAccount"] ??= spec["serviceAccountName"];
  for (const list of LISTS_OF_CONTAINERS) {
    for (const container of arrayAt(spec, list)) {
      if (!isObject(container)) continue;
      const image = stringAt(container, "image");
      container["imagePullPolicy"] ??= /:(?!latest$)[^/]+$|@/.test(image) ? "IfNotPresent" : "Always";
      container["terminationMessagePath"] ??= "/dev/termination-log";
      container["terminationMessagePolicy"] ??= "File";
      if (list !== "ephemeralContainers") ensureObject(container, "resources");
      for (const port of arrayAt(container, "ports")) {
        if (!isObject(port)) continue;
        port["protocol"] ??= "TCP";
        if (spec["hostNetwork"] === true && port["containerPort"] !== undefined) port["hostPort"] ??= port["containerPort"];
      }
    }
  }
}

/** What admission adds to every new pod: five minutes of tolerance for a node that is not ready or not reachable, and the priority. */
function prepareForCreate(pod: JsonObject): void {
  const spec = ensureObject(pod, "spec");
  const tolerations = arrayAt(spec, "tolerations");
  for (const key of ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]) {
    const isTolerated = tolerations.some(
      (toleration) => ["", key].includes(stringAt(toleration, "key")) && ["", "NoExecute"].includes(stringAt(toleration, "effect")),
    );
    if (!isTolerated) tolerations.push({ key, operator: "Exists", effect: "NoExecute", tolerationSeconds: 300 });
  }
  spec["tolerations"] = tolerations;
  spec["priority"] ??= 0;
  spec["preemptionPolicy"] ??= "PreemptLowerPriority";
  pod["status"] = { phase: "Pending", qosClass: "BestEffort" };
}

function problems(pod: JsonObject, before: JsonObject | undefined): Cause[] {
  const spec = objectAt(pod, "spec");
  if (before !== undefined) return updateProblems(spec, objectAt(before, "spec"));
  const causes: Cause[] = [];
  if (arrayAt(spec, "containers").length === 0) causes.push(fieldRequired("spec.containers"));
  const names = new Set<string>();
  for (const list of LISTS_OF_CONTAINERS) {
    const portNames = new Set<string>();
    for (const [index, container] of arrayAt(spec, list).entries()) causes.push(...containerProblems(container, `spec.${list}[${index}]`, names, portNames));
  }
  const restart = valueAt(spec, "restartPolicy");
  if (restart !== "Always" && restart !== "OnFailure" && restart !== "Never")
    causes.push(fieldNotSupported("spec.restartPolicy", restart, ["Always", "OnFailure", "Never"]));
  const node = stringAt(spec, "nodeName");
  if (node !== "") causes.push(...dnsSubdomainProblems(node).map((problem) => fieldInvalid("spec.nodeName", node, problem)));
  const account = stringAt(spec, "serviceAccountName");
  if (account !== "") causes.push(...dnsSubdomainProblems(account).map((problem) => fieldInvalid("spec.serviceAccountName", account, problem)));
  return causes;
}

function containerProblems(container: JsonValue, path: string, names: Set<string>, portNames: Set<string>): Cause[] {
  const causes: Cause[] = [];
  const name = stringAt(container, "name");
  if (name === "") causes.push(fieldRequired(`${path}.name`));
  else causes.push(...dnsLabelProblems(name).map((problem) => fieldInvalid(`${path}.name`, name, problem)));
  if (name !== "" && names.has(name)) causes.push(fieldDuplicate(`${path}.name`, name));
  names.add(name);
  if (stringAt(container, "image").trim() === "") causes.push(fieldRequired(`${path}.image`));
  for (const [index, port] of arrayAt(container, "ports").entries()) {
    const at = `${path}.ports[${index}]`;
    const portName = stringAt(port, "name");
    if (portName !== "") {
      causes.push(...portNameProblems(portName).map((problem) => fieldInvalid(`${at}.name`, portName, problem)));
      if (
        portNames.has(portName) &&
        arrayAt(container, "ports")
          .slice(0, index)
          .some((other) => stringAt(other, "name") === portName)
      )
        causes.push(fieldDuplicate(`${at}.name`, portName));
      portNames.add(portName);
    }
    const number = valueAt(port, "containerPort");
    if (number === undefined || number === 0) causes.push(fieldRequired(`${at}.containerPort`));
    else if (typeof number === "number") causes.push(...portNumberProblems(number).map((problem) => fieldInvalid(`${at}.containerPort`, number, problem)));
    const protocol = valueAt(port, "protocol");
    if (protocol !== "TCP" && protocol !== "UDP" && protocol !== "SCTP") causes.push(fieldNotSupported(`${at}.protocol`, protocol, ["SCTP", "TCP", "UDP"]));
  }
  return causes;
}

/** Only images, deadlines, added tolerations and a shorter grace period may change after a pod is made. */
function updateProblems(spec: JsonObject, before: JsonObject): Cause[] {
  const comparable = (from: JsonObject): JsonObject => {
    const copy = cloneJson(from);
    for (const field of ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates", "ephemeralContainers"]) delete copy[field];
    for (const list of LISTS_OF_CONTAINERS) for (const container of arrayAt(copy, list)) if (isObject(container)) delete container["image"];
    return copy;
  };
  if (equalJson(comparable(spec), comparable(before))) return [];
  return [
    fieldForbidden(
      "spec",
      "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
    ),
  ];
}
