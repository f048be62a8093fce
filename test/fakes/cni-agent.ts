/**
 * An agent's CNI side alone, as a process: real journal, addresses, pods and socket; a server and a policy that are pretended.
 *
 *   node test/fakes/cni-agent.ts '{"directory": "/tmp/x", "pools": ["10.65.0.0/28"], "hasKernel": true}'
 *
 * Socket, state, queue and the pretended API's file are in the directory, so that a second process finds what the first left. The pretended policy
 * routes a pod's addresses to its interface, as the reconcile loop does, and allows everything. Prints "ready" when the socket is there.
 */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { readBootTime } from "../../agent/addresses/boot-time.ts";
import { Journal } from "../../agent/addresses/journal.ts";
import { DiskJournalFiles } from "../../agent/addresses/journal-files.ts";
import { createAddressManager } from "../../agent/addresses/manager.ts";
import { RtnetlinkDriver } from "../../agent/drivers/rtnetlink/driver.ts";
import { createPodManager } from "../../agent/pods/manager.ts";
import { createPodLinks } from "../../agent/pods/pod-link.ts";
import { UnconnectedPodLinks } from "../../agent/pods/unconnected-pod-links.ts";
import { usedPodAddresses } from "../../agent/pods/used-addresses.ts";
import { CniService } from "../../agent/socket/cni-service.ts";
import { DeleteQueue } from "../../agent/socket/delete-queue.ts";
import { SocketServer } from "../../agent/socket/server.ts";
import type { Pool } from "../../src/model/record.ts";
import { cidrLength, parseCidr } from "../../src/net/cidr.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { createLogger, silentLogger } from "../../src/runtime/log.ts";
import { runAll } from "../../src/runtime/supervisor.ts";
import { FakeBlockApi } from "./fake-block-api.ts";
import { FaultPoints } from "./fault-points.ts";
import { OpenEndpoints } from "./open-endpoints.ts";
import { staticPolicy } from "./static-policy.ts";

export interface CniAgentOptions {
  readonly directory: string;
  readonly pools: readonly string[];
  /** Prefix lengths of blocks: 28 and 124 unless given. */
  readonly blockSize?: { readonly v4: number; readonly v6: number };
  readonly hasKernel: boolean;
  readonly cooldownMs?: number;
  readonly isVerbose?: boolean;
  /** The pretended API forgets with the process, and costs no file for each change. */
  readonly isApiInMemory?: boolean;
  /** Pods of namespace "shop" for which a view has records: the reconcile loop programs them, and ADDs of others wait for theirs. Needs hasKernel. */
  readonly policyFor?: readonly string[];
  /** Annotations of pods of `policyFor`. */
  readonly annotations?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Default 1500. */
  readonly mtu?: number;
  /** The next request that names this container is counted from when the file `die-at` is in the directory: the point in it ends the process; see fault-points.ts. */
  readonly victim?: string;
}

const PREFIX = "cali";
/** See `victim`. */
export const DIE_AT_FILE = "die-at";

export function poolOf(cidr: string, blockSize: { readonly v4: number; readonly v6: number } = { v4: 28, v6: 124 }): Pool {
  const parsed = parseCidr(cidr);
  const size = cidr.includes(":") ? blockSize.v6 : blockSize.v4;
  return {
    kind: "pool",
    name: `pool-${cidr.replaceAll(/[^0-9a-z]/g, "-")}`,
    cidr: parsed,
    natOutgoing: false,
    disabled: false,
    blockSize: Math.max(size, cidrLength(parsed)),
  };
}

/** Runs until the signal aborts; `onReady` when the socket is served. */
export async function runCniAgent(options: CniAgentOptions, signal: AbortSignal, onReady: () => void): Promise<void> {
  const { directory, cooldownMs = 0 } = options;
  const log = options.isVerbose === true ? createLogger({ level: "debug", program: "cni-agent" }) : silentLogger();
  const api = new FakeBlockApi({
    node: "n1",
    pools: options.pools.map((cidr) => poolOf(cidr, options.blockSize)),
    ...(options.isApiInMemory === true ? {} : { file: join(directory, "api.json") }),
  });
  const points = options.victim === undefined ? undefined : new FaultPoints();
  points?.watchNetlink();
  const host = options.hasKernel ? RtnetlinkDriver.open() : undefined;
  const files = await DiskJournalFiles.open(join(directory, "state"));
  const journal = await Journal.open({ files: points?.watchJournal(files) ?? files, node: "n1", time: await readBootTime() });
  for (const problem of journal.problems) process.stderr.write(`${problem}\n`);
  const common = { clock: systemClock, log, interfacePrefix: PREFIX };
  const usedAddresses = (): ReturnType<typeof usedPodAddresses> => (host === undefined ? [] : usedPodAddresses(host, PREFIX));
  const addresses = createAddressManager({ ...common, journal, claims: api, reports: api, pools: () => api.pools, usedAddresses, cooldownMs });
  const links = host === undefined ? new UnconnectedPodLinks(addresses.attachments()) : createPodLinks(host);
  const policy =
    host === undefined || options.policyFor === undefined
      ? undefined
      : staticPolicy({ pods: options.policyFor, annotations: options.annotations ?? {}, pools: api.pools, host, prefix: PREFIX, log });
  const endpoints = policy?.reconciler.endpoints ?? new OpenEndpoints(host);
  const pods = createPodManager({ ...common, addresses, links, endpoints, mtu: options.mtu ?? 1500, onConnected: () => policy?.shaper.apply() });
  const service: CniService = new CniService({ pods, addresses, limitation: () => undefined, settleDelete: (key) => queue.settle(key) });
  const cni: Pick<CniService, "answer"> = {
    async answer(verb, body, stop) {
      if (points !== undefined && JSON.stringify(body).includes(`"${options.victim}"`)) {
        const dieAt = takeDieAt(directory);
        if (dieAt !== undefined) points.arm(dieAt);
      }
      const answer = await service.answer(verb, body, stop);
      points?.reached("the answer");
      return answer;
    },
  };
  const socket = join(directory, "agent.sock");
  const server = new SocketServer({ path: socket, cni, status: () => ({ node: "n1", blocks: addresses.blocks() }), log, onListening: onReady });
  const queue = new DeleteQueue({ directory: join(directory, "cni-queue"), clock: systemClock, log, del: (request) => cni.answer("del", request, signal) });
  await runAll([...(policy === undefined ? [] : [policy.reconciler, policy.shaper]), addresses, pods, server, queue], { signal, log });
  policy?.close();
  await journal.close();
  host?.close();
}

function takeDieAt(directory: string): number | undefined {
  const file = join(directory, DIE_AT_FILE);
  if (!existsSync(file)) return undefined;
  const dieAt = Number(readFileSync(file, "utf8"));
  rmSync(file);
  return dieAt;
}

if (process.argv[1] === import.meta.filename) {
  const stop = new AbortController();
  process.on("SIGTERM", () => stop.abort());
  await runCniAgent(JSON.parse(process.argv[2] ?? "{}") as CniAgentOptions, stop.signal, () => process.stdout.write("ready\n"));
}
