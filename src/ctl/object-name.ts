/** How people name an object on the command line: KIND/NAME, KIND/NAMESPACE/NAME, NAMESPACE/NAME or NAME, with -n for the namespace. Pure. */
import { POLICY_KIND_NAMES, POLICY_KINDS, type PolicyKindName, policyKindOfWord } from "../model/policy-kinds.ts";
import { describeKind, RESOURCE_KINDS, type ResourceKind } from "../model/resource.ts";
import { policyKindOf } from "../policy/convert-policy.ts";

export interface PolicyName {
  /** undefined: any kind that has a policy of the name. */
  readonly kind: PolicyKindName | undefined;
  /** "" for any. */
  readonly namespace: string;
  readonly name: string;
}

/** Words that mean a policy of whichever kind. */
const ANY_POLICY: ReadonlySet<string> = new Set(["policy", "policies"]);

/** What is wrong with the name, and what to write instead. */
export interface NameProblem {
  readonly problem: string;
}

export function isNameProblem(value: object): value is NameProblem {
  return "problem" in value;
}

export function parsePolicyName(text: string, namespaceFlag = ""): PolicyName | NameProblem {
  const parts = text.split("/");
  const name = parts.at(-1) ?? "";
  if (parts.length > 3 || parts.some((part) => part === "")) return { problem: `${text}: want NAME, KIND/NAME, NAMESPACE/NAME or KIND/NAMESPACE/NAME` };
  const [first = ""] = parts;
  const kind = parts.length > 1 ? policyKindOfWord(first) : undefined;
  const isAny = parts.length > 1 && ANY_POLICY.has(first.toLowerCase());
  if (parts.length === 3 && kind === undefined && !isAny) return { problem: `${first} is no kind of policy; known: ${policyKindList()}` };
  const written = parts.length === 3 ? (parts[1] ?? "") : parts.length === 2 && kind === undefined && !isAny ? first : "";
  if (written !== "" && namespaceFlag !== "" && written !== namespaceFlag)
    return { problem: `${text} names namespace ${written}, and -n ${namespaceFlag}: give one` };
  const namespace = written === "" ? namespaceFlag : written;
  const found = isAny ? undefined : kind;
  if (found === undefined) return { kind: undefined, namespace, name };
  const { isNamespaced } = POLICY_KINDS[found];
  if (!isNamespaced && namespace !== "") return { problem: `${describeKind(found)} is cluster-wide: leave the namespace (${namespace}) away` };
  if (isNamespaced && namespace === "") return { problem: `${describeKind(found)} is in a namespace: ${first}/NAMESPACE/${name}, or -n NAMESPACE` };
  return { kind: found, namespace, name };
}

export interface ObjectName {
  readonly kind: ResourceKind;
  readonly namespace: string;
  readonly name: string;
}

/** Of a kind that is no policy: KIND/NAME or KIND/NAMESPACE/NAME. */
export function parseObjectName(text: string, namespaceFlag = ""): ObjectName | NameProblem {
  const [word = "", ...names] = text.split("/");
  const kind = RESOURCE_KINDS.find((known) => known.toLowerCase() === word.toLowerCase());
  const [namespace = "", name = ""] = names.length === 1 ? [namespaceFlag, ...names] : names;
  if (kind === undefined) return { problem: `${word} is no kind that the server watches; known: policy, ${RESOURCE_KINDS.map(describeKind).join(", ")}` };
  if (name === "" || names.length > 2) return { problem: `${text}: want ${word}/NAME or ${word}/NAMESPACE/NAME` };
  return { kind, namespace, name };
}

/**
 * Keys of the records that the name may stand for, likeliest first: the key itself, the policies of that name (as `sedge policy status` takes it), or for
 * pod/NAMESPACE/NAME the pod's endpoint.
 */
export function recordKeysOf(text: string, namespaceFlag = ""): readonly string[] {
  const [word = "", ...rest] = text.split("/");
  if (/^(pods?|po)$/i.test(word)) return [`endpoint/${rest.length === 1 && namespaceFlag !== "" ? `${namespaceFlag}/` : ""}${rest.join("/")}`];
  const policy = parsePolicyName(text, namespaceFlag);
  if (isNameProblem(policy)) return [text];
  const kinds = policy.kind === undefined ? POLICY_KIND_NAMES.filter((kind) => POLICY_KINDS[kind].isNamespaced === (policy.namespace !== "")) : [policy.kind];
  return [text, ...kinds.filter((kind) => !POLICY_KINDS[kind].isStaged).map((kind) => `policy/${policyKindOf(kind)}/${policy.namespace}/${policy.name}`)];
}

function policyKindList(): string {
  return POLICY_KIND_NAMES.map((kind) => `${describeKind(kind)} (${POLICY_KINDS[kind].words.at(-1) ?? ""})`).join(", ");
}
