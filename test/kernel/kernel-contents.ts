/**
 * What a node's kernel holds of ours against what is to be there: nothing of pods and policies that are gone, nothing missing.
 *
 * Read with `nft` and `ip` and held against the API's blocks and the live pods, not against the agent's own plan: a plan that forgets something agrees
 * with itself.
 */
import { SEDGE_ROUTE_PROTOCOL } from "../../agent/drivers/rtnetlink/protocol.ts";
import type { JsonObject } from "../../src/datastore/json-object.ts";
import { NODES } from "../../src/demo/network.ts";
import type { Cluster } from "./cluster.ts";

export interface LivePod {
  readonly name: string;
  readonly node: string;
  readonly addresses: readonly string[];
}

export interface BlockFacts {
  readonly cidr: string;
  readonly node: string;
  /** Ordinals in use, and of whom. */
  readonly allocations: readonly { readonly ordinal: number; readonly owner: string }[];
}

/** The API's IPAMBlocks. */
export async function readBlocks(cluster: Cluster): Promise<readonly BlockFacts[]> {
  const { items = [] } = (await cluster.api.requestJson("GET", "/apis/projectcalico.org/v3/ipamblocks")) as { items?: readonly JsonObject[] };
  return items.map((item) => {
    const { cidr, affinity, allocations, attributes } = item["spec"] as {
      cidr: string;
      affinity: string;
      allocations: readonly (number | null)[];
      attributes: readonly { secondary?: Record<string, string> }[];
    };
    return {
      cidr,
      node: affinity.replace(/^host:/, ""),
      allocations: allocations.flatMap((attribute, ordinal) => {
        if (attribute === null) return [];
        const names = attributes[attribute]?.secondary;
        return [{ ordinal, owner: `${names?.["namespace"] ?? ""}/${names?.["pod"] ?? ""}` }];
      }),
    };
  });
}

/** Sentences about what is wrong; empty when all is as it should be. */
export async function kernelProblems(cluster: Cluster, pods: readonly LivePod[], policies: readonly string[]): Promise<readonly string[]> {
  const blocks = await readBlocks(cluster);
  const perNode = await Promise.all(
    cluster.nodes.map(async (node) => {
      const own = pods.filter((pod) => pod.node === node);
      return [...(await routeProblems(cluster, node, own, blocks)), ...(await tableProblems(cluster, node, own, policies))].map(
        (problem) => `${node}: ${problem}`,
      );
    }),
  );
  return [...addressProblems(pods, blocks), ...perNode.flat()];
}

/** Each address in use is one live pod's, and each live pod's addresses are in use under its name. */
function addressProblems(pods: readonly LivePod[], blocks: readonly BlockFacts[]): readonly string[] {
  const problems: string[] = [];
  const owners = new Map<string, string>();
  for (const { name, addresses } of pods) {
    for (const address of addresses) {
      const other = owners.get(address);
      if (other !== undefined) problems.push(`address ${address} is ${other}'s and ${name}'s`);
      owners.set(address, name);
    }
  }
  const inApi = blocks.flatMap(({ allocations }) => allocations.map(({ owner }) => owner)).sort();
  const expected = pods.flatMap(({ name, addresses }) => addresses.map(() => name)).sort();
  if (inApi.join() !== expected.join()) problems.push(`the API's blocks have addresses of ${diff(expected, inApi)}`);
  return problems;
}

async function routeProblems(cluster: Cluster, node: string, pods: readonly LivePod[], blocks: readonly BlockFacts[]): Promise<readonly string[]> {
  const found: string[] = [];
  for (const family of ["-4", "-6"]) {
    for (const line of (await cluster.ip(node, "-N", family, "route", "show", "table", "all", "proto", String(SEDGE_ROUTE_PROTOCOL))).split("\n")) {
      // With -N the type of the route is a number too: 6 is RTN_BLACKHOLE.
      const destination = /^(6 |blackhole )?(\S+)/.exec(line.trim());
      if (destination === null || line.trim() === "") continue;
      const via = /via (\S+)/.exec(line)?.[1];
      found.push(`${destination[2] ?? ""} ${destination[1] === undefined ? (via ?? "local") : "blackhole"}`);
    }
  }
  const expected = blocks.flatMap((block) => {
    if (block.node === node) return [`${block.cidr} blackhole`];
    const owner = NODES.find(({ name }) => name === block.node);
    return [`${block.cidr} ${block.cidr.includes(":") ? owner?.addressV6 : owner?.addressV4}`];
  });
  expected.push(...pods.flatMap(({ addresses }) => addresses.map((address) => `${address} local`)));
  const links = [...(await cluster.ip(node, "-o", "link", "show", "type", "veth")).matchAll(/^\d+: (cali[^@:]*)/gm)].map((match) => match[1] ?? "");
  const problems: string[] = [];
  if (found.sort().join("\n") !== expected.sort().join("\n")) problems.push(`routes: ${diff(expected, found)}`);
  if (links.length !== pods.length) problems.push(`${links.length} interfaces of pods (${links.join(" ")}) for ${pods.length} pods`);
  return problems;
}

async function tableProblems(cluster: Cluster, node: string, pods: readonly LivePod[], policies: readonly string[]): Promise<readonly string[]> {
  const text = await cluster.nft(node, "list", "table", "inet", "sedge");
  const problems: string[] = [];
  const [chains, sets] = [blocksOf(text, "chain"), new Map([...blocksOf(text, "set"), ...blocksOf(text, "map")])];
  for (const [name, body] of chains) {
    const isBase = /type \w+ hook/.test(body);
    if (!isBase && !new RegExp(`(jump|goto) "?${escape(name)}"?(\\s|,|$)`, "m").test(text)) problems.push(`chain ${name} is used by nothing`);
    const policy = /^policy\/KubernetesNetworkPolicy\/([^/]+\/[^/]+)\//.exec(name)?.[1];
    if (policy !== undefined && !policies.includes(policy)) problems.push(`chain ${name} is of a policy that is gone`);
  }
  for (const name of sets.keys()) if (!new RegExp(`@"?${escape(name)}"?(\\s|$)`, "m").test(text)) problems.push(`set ${name} is used by nothing`);
  const addresses = pods.flatMap((pod) => pod.addresses).sort();
  const allowed = ["allowed-v4", "allowed-v6"].flatMap((name) =>
    [...(sets.get(name) ?? "").matchAll(/"cali\S+" \. ([0-9a-f.:]+)/g)].map((match) => match[1] ?? ""),
  );
  if (allowed.sort().join() !== addresses.join()) problems.push(`allowed sources: ${diff(addresses, allowed)}`);
  return problems;
}

/** Name to body of each `chain`, `set` or `map` in nft's text. */
function blocksOf(text: string, keyword: string): Map<string, string> {
  return new Map(
    [...text.matchAll(new RegExp(`^\\t${keyword} "?([^\\s"]+)"? \\{\\n([\\s\\S]*?)^\\t\\}`, "gm"))].map((match) => [match[1] ?? "", match[2] ?? ""]),
  );
}

function escape(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\/]/g, "\\$&");
}

/** Of two lists in which a line may stand more than once. */
function diff(expected: readonly string[], found: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const line of expected) counts.set(line, (counts.get(line) ?? 0) + 1);
  for (const line of found) counts.set(line, (counts.get(line) ?? 0) - 1);
  const [missing, surplus] = [[...counts].filter(([, n]) => n > 0), [...counts].filter(([, n]) => n < 0)].map((lines) =>
    lines.slice(0, 20).map(([line]) => line),
  );
  return `missing ${JSON.stringify(missing)}, too many ${JSON.stringify(surplus)}`;
}

/** Our table and routes on the node as one text that does not depend on the order of sets and chains, on handles or counters. */
export async function nodeContents(cluster: Cluster, node: string): Promise<string> {
  const table = await cluster.nft(node, "list", "table", "inet", "sedge").catch(() => "no table");
  const protocol = String(SEDGE_ROUTE_PROTOCOL);
  const routes = await Promise.all(["-4", "-6"].map((family) => cluster.ip(node, "-N", family, "route", "show", "table", "all", "proto", protocol)));
  let chain = "";
  const lines = table
    .replaceAll(/counter packets \d+ bytes \d+/g, "counter")
    .split("\n")
    .flatMap((line) => {
      chain = /^\t(?:chain|set|map) (\S+)/.exec(line)?.[1] ?? chain;
      const elements = line
        .trim()
        .replace(/^elements = \{ ?/, "")
        .replace(/ \}$/, "");
      return elements.split(/,\s*(?=\S)/).map((part) => `${chain}: ${part}`);
    });
  // What stands between chains says only which of them is the last.
  const said = lines.filter((line) => !/: \}?$/.test(line));
  return [...said, ...routes.flatMap((text) => text.split("\n").map((line) => line.trim()))].sort().join("\n");
}

/** For the message of a failure. */
export function contentsDifference(before: string, after: string): string {
  return diff(before.split("\n"), after.split("\n"));
}
