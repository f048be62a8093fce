/**
 * `sedge ipam`: the cluster's addresses, straight from the API (as kubectl would reach it), so that it helps when servers and agents do not.
 *
 * migrate and split are in `ipam-pools.ts`. check and doctor find the same; doctor --fix frees what the collector would free, without its grace periods, and asks the API again before each step.
 */
import { z } from "zod";
import { AddressRepair, readAddresses } from "../datastore/address-repair.ts";
import { ApiClient } from "../datastore/api-client.ts";
import { DatastoreError } from "../datastore/api-error.ts";
import { findConnection } from "../datastore/kubeconfig.ts";
import { AddressWriter } from "../datastore/writer.ts";
import { type AddressSnapshot, auditAddresses, describeFinding, type Finding } from "../ipam/audit.ts";
import { blockAddressCount, blockCount } from "../ipam/block.ts";
import { cidrContainsCidr } from "../net/cidr.ts";
import { tryParseIp } from "../net/ip.ts";
import { systemClock } from "../runtime/clock.ts";
import { ConfigError, describeFlags, loadConfig } from "../runtime/config.ts";
import { expandShortFlags } from "./config.ts";
import { migrateCommand, splitCommand } from "./ipam-pools.ts";
import { json, print, table } from "./output.ts";

const schema = z.strictObject({
  kubeconfig: z.string().optional().describe("Kubeconfig; without it KUBECONFIG, ~/.kube/config or the pod's service account"),
  output: z.enum(["table", "json"]).default("table").describe("output format: table or json (also -o)"),
  ip: z.string().optional().describe("show, release: one address"),
  handle: z.string().optional().describe("release: free the address only if this handle has it"),
  showBlocks: z.boolean().default(false).describe("show: every block"),
  showBorrowed: z.boolean().default(false).describe("show: every address that a node has out of another's block"),
  name: z.string().optional().describe("split: the pool's name"),
  cidr: z.string().optional().describe("split: the pool's prefix"),
  apply: z.boolean().default(false).describe("migrate, split: do it; without it only the plan is shown"),
  evict: z.boolean().default(false).describe("migrate: evict pods that have addresses of the old pool"),
  delete: z.boolean().default(false).describe("migrate: delete the old pool when nothing of it is in use"),
  fix: z.boolean().default(false).describe("doctor: free what nobody has"),
  help: z.boolean().default(false).describe("print the flags"),
});
type Config = z.infer<typeof schema>;

const USAGE = `usage: sedge ipam show [--show-blocks | --show-borrowed | --ip A] | check | doctor [--fix] | release --ip A --handle H
       sedge ipam migrate FROM-POOL TO-POOL [--apply] [--evict] [--delete] | split N (--name POOL | --cidr CIDR) [--apply]`;
const VERBS = ["show", "check", "doctor", "release", "migrate", "split"];
/** How many words a verb takes. */
const WORDS: Readonly<Record<string, number>> = { migrate: 2, split: 1 };
/** Flags that only some verbs take; the others refuse them. */
const FLAG_VERBS: Readonly<Record<string, readonly string[]>> = {
  ip: ["show", "release"],
  handle: ["release"],
  showBlocks: ["show"],
  showBorrowed: ["show"],
  name: ["split"],
  cidr: ["split"],
  apply: ["migrate", "split"],
  evict: ["migrate"],
  delete: ["migrate"],
  fix: ["doctor"],
};
/** Kinds that nothing but a person can put right. */
const FOR_PEOPLE: readonly Finding["kind"][] = ["duplicate", "untracked", "overlap", "no-pool", "two-owners"];

/** Exit codes: 0 all is well or done; 1 something is wrong with the addresses, or the API cannot be asked; 2 wrong usage. */
export async function ipamCommand(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): Promise<number> {
  const { config, positional } = loadConfig(schema, { argv: expandShortFlags(argv), env, program: "ctl" });
  const [verb = "", ...surplus] = positional;
  if (config.help || !VERBS.includes(verb)) {
    (config.help ? process.stdout : process.stderr).write(`${USAGE}\n\n${describeFlags(schema)}\n`);
    return config.help ? 0 : 2;
  }
  checkUsage(verb, surplus, config);
  const client = new ApiClient({ connection: await findConnection({ file: config.kubeconfig, environment: env }), userAgent: "sedge-ipam" });
  try {
    const snapshot = await readAddresses(client);
    if (verb === "show") return show(snapshot, config);
    const options = { client, snapshot, isApply: config.apply, isJson: config.output === "json" };
    if (verb === "migrate") return await migrateCommand(surplus, { ...options, isEvict: config.evict, isDelete: config.delete });
    if (verb === "split") return await splitCommand(surplus, { ...options, name: config.name, cidr: config.cidr });
    const repair = new AddressRepair({ client, writer: new AddressWriter({ client, clock: systemClock }) });
    if (verb === "release") return await release(snapshot, repair, config);
    return await check(snapshot, verb === "doctor" && config.fix ? repair : undefined, config);
  } catch (error) {
    if (!(error instanceof DatastoreError)) throw error;
    process.stderr.write(`sedge ipam: ${error.message}\n`);
    return 1;
  } finally {
    client.close();
  }
}

/** Throws ConfigError. */
function checkUsage(verb: string, surplus: readonly string[], config: Config): void {
  const words = WORDS[verb] ?? 0;
  const problems = surplus.slice(words).map((word) => `unexpected argument ${word}`);
  if (surplus.length < words) problems.push(verb === "migrate" ? "migrate takes two pools: FROM-POOL TO-POOL" : "split takes a number: into how many pools");
  for (const [flag, verbs] of Object.entries(FLAG_VERBS)) {
    const value = (config as Readonly<Record<string, unknown>>)[flag];
    if (value === undefined || value === false || verbs.includes(verb)) continue;
    problems.push(`--${flag.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} is for sedge ipam ${verbs.join(" and ")}, not for ${verb}`);
  }
  if (config.ip !== undefined && tryParseIp(config.ip) === undefined) problems.push(`--ip ${config.ip} is not an address`);
  if (problems.length > 0) throw new ConfigError(problems);
}

function show({ pools, blocks }: AddressSnapshot, { ip, output, showBlocks, showBorrowed }: Config): number {
  if (ip !== undefined) {
    const found = blocks.flatMap((block) => block.allocations.filter(({ address }) => address === tryParseIp(ip)).map((allocation) => ({ block, allocation })));
    if (output === "json") print(json(found.map(({ block, allocation }) => ({ ...allocation, block: block.cidr }))));
    else if (found.length === 0) print(`${ip} is not in use`);
    else
      for (const { block, allocation } of found)
        print(`${ip}: pod ${allocation.pod ?? "none"}, node ${allocation.node ?? block.node ?? "none"}, handle ${allocation.handle}, block ${block.cidr}`);
    return 0;
  }
  if (showBorrowed) return tellBorrowed(blocks, output);
  const rows = pools.flatMap((pool) => {
    const own = blocks.filter(({ cidr }) => cidrContainsCidr(pool.cidr, cidr));
    const used = own.reduce((sum, { allocations }) => sum + allocations.length, 0);
    const total = blockCount(pool) * BigInt(2 ** ((pool.cidr.includes(":") ? 128 : 32) - pool.blockSize));
    const line = [`pool ${pool.name}`, pool.cidr, String(total), String(used), String(own.length), pool.disabled ? "disabled" : ""];
    if (!showBlocks) return [line];
    const borrowed = (node: string | undefined, nodes: readonly (string | undefined)[]): number =>
      nodes.filter((other) => other !== undefined && other !== node).length;
    return [
      line,
      ...own.map(({ cidr, node, allocations }) => {
        const others = borrowed(
          node,
          allocations.map((allocation) => allocation.node),
        );
        return [
          `  block`,
          cidr,
          String(blockAddressCount(cidr)),
          String(allocations.length),
          "",
          `${node === undefined ? "no node" : `node ${node}`}${others === 0 ? "" : `, ${others} borrowed`}`,
        ];
      }),
    ];
  });
  if (output === "json") print(json(rows.map(([what, cidr, total, used, count, note]) => ({ what, cidr, total, used, blocks: count, note }))));
  else print(table([["", "CIDR", "ADDRESSES", "USED", "BLOCKS", ""], ...rows]));
  return 0;
}

/** As calicoctl's --show-borrowed: address, who has it, whose block it is of. */
function tellBorrowed(blocks: AddressSnapshot["blocks"], output: Config["output"]): number {
  const borrowed = blocks.flatMap((block) =>
    block.allocations.flatMap(({ address, loan, node, pod }) =>
      loan === undefined
        ? []
        : { address, node: node ?? "", pod: pod ?? "", block: block.cidr, owner: block.node ?? "", state: loan.isAgreed ? "on loan" : "asked" },
    ),
  );
  if (output === "json") print(json(borrowed));
  else if (borrowed.length === 0) print("no address is borrowed");
  else
    print(
      table([
        ["ADDRESS", "BORROWER", "POD", "BLOCK", "OF NODE", ""],
        ...borrowed.map((one) => [one.address, one.node, one.pod, one.block, one.owner, one.state]),
      ]),
    );
  return 0;
}

async function check(snapshot: AddressSnapshot, repair: AddressRepair | undefined, { output }: Config): Promise<number> {
  const findings = auditAddresses(snapshot);
  const lines: { readonly kind: string; readonly what: string; readonly outcome: string }[] = [];
  let left = 0;
  for (const finding of findings) {
    let outcome = FOR_PEOPLE.includes(finding.kind) ? "look at it" : "can be freed (sedge ipam doctor --fix)";
    if (repair !== undefined && !FOR_PEOPLE.includes(finding.kind)) {
      const result = await repair.repair(finding);
      outcome = result.kind === "done" ? "freed" : `kept: ${result.reason}`;
    }
    if (outcome !== "freed") left++;
    lines.push({ kind: finding.kind, what: describeFinding(finding), outcome });
  }
  const inUse = snapshot.blocks.reduce((sum, { allocations }) => sum + allocations.length, 0);
  if (output === "json") print(json({ blocks: snapshot.blocks.length, addressesInUse: inUse, findings: lines }));
  else {
    for (const { what, outcome } of lines) print(`${what}: ${outcome}`);
    print(`${snapshot.blocks.length} blocks, ${inUse} addresses in use, ${snapshot.pods.length} pods: ${findings.length} problems, ${left} left`);
  }
  return left === 0 ? 0 : 1;
}

async function release({ blocks }: AddressSnapshot, repair: AddressRepair, { ip, handle }: Config): Promise<number> {
  const address = tryParseIp(ip ?? "");
  if (address === undefined || handle === undefined) {
    process.stderr.write(
      `${USAGE}\nrelease needs an address, and the handle that sedge ipam show --ip prints: so that one that was given again is not freed\n`,
    );
    return 2;
  }
  const block = blocks.find(({ allocations }) => allocations.some((allocation) => allocation.address === address && allocation.handle === handle));
  if (block === undefined) {
    process.stderr.write(`sedge ipam release: ${handle} does not have ${address}\n`);
    return 1;
  }
  const outcome = await repair.release(block.name, address, handle);
  if (outcome.kind === "done") print(`${address} is free. An agent that still has it for a pod reports it again`);
  else process.stderr.write(`sedge ipam release: ${outcome.reason}\n`);
  return outcome.kind === "done" ? 0 : 1;
}
