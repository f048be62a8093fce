/** The process of the simulated agents. */
import { addDigest, addTo, bucketBitsFor, bucketOfHash } from "../../src/wire/digest.ts";
import { View } from "../../src/wire/view.ts";
import { Acks, CheckingAgent, CountingAgent, type SimulatedAgent } from "./agent.ts";
import { isSharedKey } from "./light-view.ts";
import { type Received, Recorder } from "./recorder.ts";
import { serveCalls } from "./worker.ts";

/** Agents that may be without their view at once. A listener's backlog is 511: beyond it the kernel drops connections and tries again a second later. */
const UNANSWERED_AT_ONCE = 400;
const CONNECT_TIMEOUT_MS = 600_000;

const recorder = new Recorder();
const acks = new Acks();
let agents: SimulatedAgent[] = [];
let checking: CheckingAgent[] = [];
let bytesBefore = { received: 0, sent: 0 };

/** Makes the agents; nothing is connected. */
function create({ count, sample }: { readonly count: number; readonly sample: number }): void {
  const step = Math.max(1, Math.floor(count / sample));
  checking = [];
  agents = Array.from({ length: count }, (_, index) => {
    if (index % step !== 0 || checking.length >= sample) return new CountingAgent({ index, recorder, acks });
    const agent = new CheckingAgent({ index, recorder, acks, view: new View() });
    checking.push(agent);
    return agent;
  });
}

/** Connects all; resolves when each has its whole view. `isResume`: they have one already and say so. */
async function connect({ port, isResume }: { readonly port: number; readonly isResume: boolean }): Promise<{ readonly ms: number }> {
  const began = performance.now();
  bytesBefore = { received: 0, sent: 0 };
  const shared = isResume ? sharedDigests() : undefined;
  let next = 0;
  let answered = 0;
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(
      () =>
        reject(
          new Error(
            `${answered} of ${agents.length} agents have their view after ${CONNECT_TIMEOUT_MS / 1000} s; first ended stream: ${recorder.firstEnd || "none"}`,
          ),
        ),
      CONNECT_TIMEOUT_MS,
    );
    const connectNext = (): void => agents[next++]?.connect({ port, onAnswered, shared });
    const onAnswered = (): void => {
      connectNext();
      if (++answered < agents.length) return;
      clearTimeout(timer);
      resolve();
    };
    for (let i = 0; i < UNANSWERED_AT_ONCE; i++) connectNext();
  });
  return { ms: performance.now() - began };
}

function disconnect(): void {
  for (const agent of agents) agent.close();
}

/** Counting begins here. */
function begin(): void {
  recorder.reset();
  bytesBefore = totalBytes();
}

/** What was received since `begin`, and TCP bytes both ways (of the present connections). */
function finish(): Received & { readonly wire: { readonly received: number; readonly sent: number } } {
  const { received, sent } = totalBytes();
  return { ...recorder.received(), wire: { received: received - bytesBefore.received, sent: sent - bytesBefore.sent } };
}

/** Agents whose view does not have the digest that the server gives it. */
function wrongDigests({ digests }: { readonly digests: BigUint64Array }): number {
  let shared = 0n;
  for (const record of checking[0]?.view.records.values() ?? []) if (isSharedKey(record.key)) shared = addDigest(shared, record.hash);
  return agents.filter((agent, index) => agent.digest(shared) !== digests[index]).length;
}

function sharedDigests(): { readonly bits: number; readonly digests: BigUint64Array } {
  const view = checking[0]?.view ?? new View();
  const bits = bucketBitsFor(view.size);
  const digests = new BigUint64Array(2 ** bits);
  for (const { key, keyHash, hash } of view.records.values()) if (isSharedKey(key)) addTo(digests, bucketOfHash(keyHash, bits), hash);
  return { bits, digests };
}

function totalBytes(): { readonly received: number; readonly sent: number } {
  let received = 0;
  let sent = 0;
  for (const { bytes } of agents) {
    received += bytes.received;
    sent += bytes.sent;
  }
  return { received, sent };
}

const methods = { create, connect, disconnect, begin, finish, wrongDigests };
export type AgentsMethods = typeof methods;

serveCalls(methods);
