/**
 * A record as people call what it is of: "NetworkPolicy shop/web", "pod shop/web-1", in the words of kubectl. Keys are for machines, and for
 * `sedge get`; what has no name but its key (a stack, a set) is called by that.
 */
import type { RecordKey } from "./record.ts";

/** Kinds of policies in keys whose users know them by another word. Calico's NetworkPolicy is written with its group, as kubectl takes it. */
const POLICY_WORDS: Readonly<Record<string, string>> = { KubernetesNetworkPolicy: "NetworkPolicy", NetworkPolicy: "NetworkPolicy.projectcalico.org" };

const WORDS: Readonly<Record<string, string>> = { host: "HostEndpoint", node: "node", pool: "IPPool" };

export function recordName(key: RecordKey): string {
  const [kind = "", first = "", ...rest] = key.split("/");
  if (kind === "policy" && rest.length === 2) {
    const [namespace = "", name = ""] = rest;
    return `${POLICY_WORDS[first] ?? first} ${namespace === "" ? "" : `${namespace}/`}${name}`;
  }
  if (kind === "endpoint" && rest.length === 1) return `pod ${first}/${rest[0] ?? ""}`;
  const word = WORDS[kind];
  if (word !== undefined && first !== "") return `${word} ${[first, ...rest].join("/")}`;
  return key;
}
