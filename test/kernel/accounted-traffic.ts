/**
 * Packets between all pods, without a pause, and an account of each: what was denied and arrived, what was allowed and did not.
 *
 * A lane is (pod, pod, protocol, port, IP version) with a verdict: allow, deny, or open while changes are on their way. A packet is judged when the verdict
 * was the same from before it was sent until now: arrival is seen at the receiver's socket, and a denied one there is a failure at once.
 * Each probe is the first packet of a connection of its own; flows are TCP connections that stay, with every byte echoed and compared.
 * One process for both ends, so one clock, and no message between them that could be late.
 */
import { type IpAddress, ipVersion } from "../../src/net/ip.ts";
import {
  AF_INET,
  AF_INET6,
  allowReuse,
  bindSocket,
  closeSocket,
  connectSocket,
  listenOn,
  openSocket,
  type Peer,
  resetOnClose,
  SOCK_DGRAM,
  SOCK_STREAM,
  SocketError,
  sendTo,
  setReceiveBuffer,
  takeError,
  tryAccept,
  tryReceive,
} from "./sockets.ts";

export type Verdict = "allow" | "deny" | "open";

export interface TrafficPod {
  /** Of this incarnation alone. */
  readonly id: string;
  readonly netns: string;
  readonly addresses: readonly IpAddress[];
}

export interface LaneKey {
  readonly from: string;
  readonly to: string;
  readonly protocol: "TCP" | "UDP";
  readonly port: number;
}

export interface TrafficCounts {
  readonly sent: number;
  readonly passed: number;
  readonly deniedSilently: number;
  /** Sent or ended while changes were on their way. */
  readonly unjudged: number;
  readonly flowBytes: number;
  readonly flowsOpened: number;
  /** Connections that came about only after a SYN was sent again. */
  readonly slow: number;
}

export interface TrafficOptions {
  readonly tcpPorts: readonly number[];
  readonly udpPorts: readonly number[];
  readonly packetsPerSecond: number;
  readonly maxFlows: number;
  /** Called at once, with what happened to which packet. */
  readonly onFailure: (what: string) => void;
}

interface Lane extends LaneKey {
  readonly target: Peer;
  verdict: Verdict;
  /** Since when the verdict is this one. */
  since: number;
  /** Start of the last attempt that has ended. */
  endedStart: number;
  isGone: boolean;
}

interface Attempt {
  readonly id: number;
  readonly lane: Lane;
  readonly fd: number;
  readonly startedAt: number;
  readonly deadline: number;
  isGreeted: boolean;
  isOpen: boolean;
}

interface Flow {
  readonly lane: Lane;
  readonly fd: number;
  readonly startedAt: number;
  isGreeted: boolean;
  sent: number;
  echoed: number;
  sentAt: number;
  progressAt: number;
}

interface Receiver {
  readonly pod: TrafficPod;
  readonly sockets: readonly { readonly fd: number; readonly protocol: "TCP" | "UDP"; readonly port: number }[];
  readonly connections: Set<{ readonly fd: number; mode: "new" | "probe" | "flow" }>;
  nextPort: number;
}

/** Source ports are counted through: one that comes again soon would be of a connection that was allowed before, as conntrack remembers UDP for minutes. */
const FIRST_SOURCE_PORT = 10_000;
const LAST_SOURCE_PORT = 60_000;
const TICK_MS = 5;
const DENIED_WAIT_MS = 700;
const UDP_WAIT_MS = 2_000;
const TCP_WAIT_MS = 7_000;
/** The first retransmission of a SYN comes after a second. */
const SLOW_MS = 900;
const FLOW_INTERVAL_MS = 40;
/** What TCP mends after an outage of a second is mended by then. */
const FLOW_STALL_MS = 8_000;
const FORGET_MS = 20_000;

export class AccountedTraffic {
  readonly #options: TrafficOptions;
  readonly #pods = new Map<string, Receiver>();
  #lanes: Lane[] = [];
  #next = 0;
  #lastId = 0;
  #owed = 0;
  #tickedAt = 0;
  readonly #open = new Set<Attempt>();
  readonly #attempts = new Map<number, Attempt>();
  readonly #flows = new Set<Flow>();
  #timer: NodeJS.Timeout | undefined;
  #counts = { sent: 0, passed: 0, deniedSilently: 0, unjudged: 0, flowBytes: 0, flowsOpened: 0, slow: 0 };

  constructor(options: TrafficOptions) {
    this.#options = options;
  }

  get counts(): TrafficCounts {
    return this.#counts;
  }

  get laneCount(): number {
    return this.#lanes.length;
  }

  get flowCount(): number {
    return this.#flows.size;
  }

  start(): void {
    this.#tickedAt = performance.now();
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
    for (const id of this.#pods.keys()) this.removePod(id);
    for (const { fd, isOpen } of this.#attempts.values()) if (isOpen) closeSocket(fd);
    this.#attempts.clear();
    this.#open.clear();
  }

  /** Opens the pod's sockets; lanes to and from it begin open. */
  addPod(pod: TrafficPod): void {
    const { tcpPorts, udpPorts } = this.#options;
    const sockets = ([4, 6] as const).flatMap((version) => [
      ...tcpPorts.map((port) => ({ fd: listener(pod.netns, version, "TCP", port), protocol: "TCP" as const, port })),
      ...udpPorts.map((port) => ({ fd: listener(pod.netns, version, "UDP", port), protocol: "UDP" as const, port })),
    ]);
    for (const { pod: other } of this.#pods.values()) {
      this.#lanes.push(...this.#lanesBetween(pod, other), ...this.#lanesBetween(other, pod));
    }
    this.#pods.set(pod.id, { pod, sockets, connections: new Set(), nextPort: FIRST_SOURCE_PORT });
    shuffle(this.#lanes);
  }

  /** Nothing is sent to or from it any more, and its sockets are closed. Call it before the pod is taken down. */
  removePod(id: string): void {
    const receiver = this.#pods.get(id);
    if (receiver === undefined) return;
    this.#pods.delete(id);
    for (const lane of this.#lanes) if (lane.from === id || lane.to === id) lane.isGone = true;
    this.#lanes = this.#lanes.filter((lane) => !lane.isGone);
    for (const flow of this.#flows) if (flow.lane.isGone) this.#endFlow(flow);
    for (const attempt of this.#open) if (attempt.lane.isGone) this.#end(attempt);
    for (const { fd } of receiver.sockets) closeSocket(fd);
    for (const { fd } of receiver.connections) closeSocket(fd);
  }

  /** Each lane's verdict anew. Call it before a change is begun, and when one is known to be in force everywhere. */
  judge(verdictOf: (lane: LaneKey) => Verdict): void {
    const now = performance.now();
    for (const lane of this.#lanes) {
      const verdict = verdictOf(lane);
      if (verdict === lane.verdict) continue;
      lane.verdict = verdict;
      lane.since = now;
    }
  }

  /** Ends all flows, for a time in which nobody promises that they live; new ones are opened as lanes are allowed again. */
  endFlows(): void {
    for (const flow of this.#flows) this.#endFlow(flow);
  }

  /** Resolves when each lane has had an attempt that was begun after now and has ended. */
  async untilAllProbed(timeoutMs = 60_000): Promise<void> {
    const from = performance.now();
    while (this.#lanes.some((lane) => lane.endedStart < from)) {
      if (performance.now() - from > timeoutMs) throw new Error("the probes do not come round");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  #lanesBetween(from: TrafficPod, to: TrafficPod): Lane[] {
    const { tcpPorts, udpPorts } = this.#options;
    const now = performance.now();
    return to.addresses.flatMap((address) =>
      (["TCP", "UDP"] as const).flatMap((protocol) =>
        (protocol === "TCP" ? tcpPorts : udpPorts).map(
          (port): Lane => ({ from: from.id, to: to.id, protocol, port, target: { address, port }, verdict: "open", since: now, endedStart: 0, isGone: false }),
        ),
      ),
    );
  }

  #tick(): void {
    const now = performance.now();
    // After a stall of this process what was missed is not made up for: a burst would test buffers, not policy.
    this.#owed = Math.min(this.#owed + ((now - this.#tickedAt) * this.#options.packetsPerSecond) / 1_000, this.#options.packetsPerSecond / 10);
    this.#tickedAt = now;
    // What is there is read before anything is judged as missing.
    for (const receiver of this.#pods.values()) this.#receive(receiver);
    for (const attempt of this.#open) this.#advance(attempt);
    for (const flow of this.#flows) this.#advanceFlow(flow);
    for (; this.#owed >= 1; this.#owed--) this.#sendNext();
    for (const [id, attempt] of this.#attempts) {
      if (now - attempt.startedAt < FORGET_MS) break;
      this.#attempts.delete(id);
    }
  }

  #sendNext(): void {
    const lane = this.#lanes[this.#next++ % Math.max(1, this.#lanes.length)];
    if (lane === undefined) return;
    const sender = this.#pods.get(lane.from);
    if (sender === undefined) return;
    if (
      this.#flows.size < this.#options.maxFlows &&
      lane.protocol === "TCP" &&
      lane.verdict === "allow" &&
      ![...this.#flows].some((flow) => flow.lane === lane)
    )
      this.#openFlow(lane, sender);
    const isStream = lane.protocol === "TCP";
    const fd = openSocket(sender.pod.netns, familyOf(lane), isStream ? SOCK_STREAM : SOCK_DGRAM);
    if (isStream) resetOnClose(fd);
    bindNextPort(fd, sender, lane);
    const startedAt = performance.now();
    const wait = lane.verdict === "deny" ? DENIED_WAIT_MS : isStream ? TCP_WAIT_MS : UDP_WAIT_MS;
    const attempt: Attempt = { id: ++this.#lastId, lane, fd, startedAt, deadline: startedAt + wait, isGreeted: false, isOpen: true };
    this.#open.add(attempt);
    this.#attempts.set(attempt.id, attempt);
    this.#counts.sent++;
    const refusal = connectSocket(fd, lane.target);
    if (refusal !== undefined) return this.#refused(attempt, refusal);
    if (!isStream) this.#greet(attempt);
  }

  #greet(attempt: Attempt): void {
    const refusal = sendTo(attempt.fd, Buffer.from(`p ${attempt.id}`));
    if (refusal === undefined) attempt.isGreeted = true;
    else if (refusal !== "EAGAIN" && refusal !== "ENOTCONN") this.#refused(attempt, refusal);
  }

  #advance(attempt: Attempt): void {
    if (!attempt.isGreeted) this.#greet(attempt);
    if (!attempt.isOpen) return;
    const answer = attempt.isGreeted ? tryReceive(attempt.fd) : undefined;
    const now = performance.now();
    if (typeof answer === "string") return this.#refused(attempt, answer);
    if (answer !== undefined) {
      if (answer.bytes.length === 0) return this.#refused(attempt, "the connection was closed");
      const tookMs = now - attempt.startedAt;
      if (tookMs > SLOW_MS && isSteady(attempt, "allow")) this.#counts.slow++;
      this.#counts.passed++;
      return this.#end(attempt);
    }
    if (now < attempt.deadline) return;
    if (isSteady(attempt, "allow")) {
      this.#fail(`an allowed packet got no answer: ${describe(attempt)}`);
    } else if (isSteady(attempt, "deny")) this.#counts.deniedSilently++;
    else this.#counts.unjudged++;
    this.#end(attempt);
  }

  #refused(attempt: Attempt, reason: string): void {
    if (attempt.lane.verdict !== "open" && attempt.lane.since <= attempt.startedAt) this.#fail(`the network refused (${reason}): ${describe(attempt)}`);
    else this.#counts.unjudged++;
    this.#end(attempt);
  }

  #end(attempt: Attempt): void {
    if (!attempt.isOpen) return;
    attempt.isOpen = false;
    this.#open.delete(attempt);
    attempt.lane.endedStart = Math.max(attempt.lane.endedStart, attempt.startedAt);
    closeSocket(attempt.fd);
  }

  #receive({ pod, sockets, connections }: Receiver): void {
    for (const { fd, protocol } of sockets) {
      if (protocol === "TCP") {
        for (let accepted = tryAccept(fd); accepted !== undefined; accepted = tryAccept(fd)) connections.add({ fd: accepted.fd, mode: "new" });
        continue;
      }
      for (let datagram = tryReceive(fd); datagram !== undefined && typeof datagram !== "string"; datagram = tryReceive(fd)) {
        this.#arrived(pod, datagram.bytes);
        sendTo(fd, Buffer.from("ok"), datagram.from);
      }
    }
    for (const connection of connections) {
      const data = tryReceive(connection.fd);
      if (data === undefined) continue;
      if (typeof data === "string" || data.bytes.length === 0) {
        connections.delete(connection);
        closeSocket(connection.fd);
        continue;
      }
      if (connection.mode === "flow") sendTo(connection.fd, Buffer.from(data.bytes));
      else if (data.bytes[0] === 0x66) {
        connection.mode = "flow";
        sendTo(connection.fd, Buffer.from(data.bytes.subarray(1)));
      } else {
        connection.mode = "probe";
        this.#arrived(pod, data.bytes);
        sendTo(connection.fd, Buffer.from("ok"));
      }
    }
  }

  #arrived(pod: TrafficPod, bytes: Buffer): void {
    const attempt = this.#attempts.get(Number(bytes.toString("latin1").slice(2)));
    if (attempt === undefined) return this.#fail(`pod ${pod.id} received what nobody sent: ${bytes.toString("latin1")}`);
    if (attempt.lane.to !== pod.id) this.#fail(`pod ${pod.id} received another's packet: ${describe(attempt)}`);
    if (!attempt.lane.isGone && isSteady(attempt, "deny")) this.#fail(`a denied packet arrived: ${describe(attempt)}`);
  }

  #openFlow(lane: Lane, sender: Receiver): void {
    const fd = openSocket(sender.pod.netns, familyOf(lane), SOCK_STREAM);
    resetOnClose(fd);
    bindNextPort(fd, sender, lane);
    const now = performance.now();
    if (connectSocket(fd, lane.target) !== undefined) return closeSocket(fd);
    this.#flows.add({ lane, fd, startedAt: now, isGreeted: false, sent: 0, echoed: 0, sentAt: now, progressAt: now });
  }

  #advanceFlow(flow: Flow): void {
    const now = performance.now();
    if (!flow.isGreeted) {
      const refusal = sendTo(flow.fd, Buffer.from("f"));
      if (refusal === undefined) {
        flow.isGreeted = true;
        flow.progressAt = now;
        this.#counts.flowsOpened++;
      } else if ((refusal !== "EAGAIN" && refusal !== "ENOTCONN") || now - flow.startedAt > TCP_WAIT_MS) {
        // It never came about: that is for the probes of its lane to judge.
        this.#endFlow(flow);
      }
      return;
    }
    if (now - flow.sentAt >= FLOW_INTERVAL_MS) {
      flow.sentAt = now;
      const refusal = sendTo(flow.fd, flowBytes(flow.sent));
      if (refusal === undefined) flow.sent += 4;
      else if (refusal !== "EAGAIN") return this.#flowBroke(flow, refusal);
    }
    for (let data = tryReceive(flow.fd); data !== undefined; data = tryReceive(flow.fd)) {
      if (typeof data === "string") return this.#flowBroke(flow, data);
      if (data.bytes.length === 0) return this.#flowBroke(flow, takeError(flow.fd) || "closed by the other end");
      for (const byte of data.bytes) {
        if (byte !== flowBytes(flow.echoed - (flow.echoed % 4))[flow.echoed % 4]) return this.#flowBroke(flow, `byte ${flow.echoed} is wrong`);
        flow.echoed++;
      }
      this.#counts.flowBytes += data.bytes.length;
      flow.progressAt = now;
    }
    if (now - flow.progressAt > FLOW_STALL_MS) this.#flowBroke(flow, `nothing came for ${FLOW_STALL_MS} ms`);
  }

  #flowBroke(flow: Flow, reason: string): void {
    const { from, to, port, target, verdict } = flow.lane;
    this.#fail(
      `an established flow broke (${reason}): ${from} -> ${to} ${target.address} TCP ${port}, lane ${verdict}, open for ${Math.round(performance.now() - flow.startedAt)} ms, ${flow.echoed} of ${flow.sent} bytes echoed`,
    );
    this.#endFlow(flow);
  }

  #endFlow(flow: Flow): void {
    this.#flows.delete(flow);
    closeSocket(flow.fd);
  }

  #fail(what: string): void {
    this.#options.onFailure(what);
  }
}

/** The lane had the verdict when the packet was sent, and has had it ever since. */
function isSteady({ lane, startedAt }: Attempt, verdict: Verdict): boolean {
  return lane.verdict === verdict && lane.since <= startedAt;
}

function describe({ id, lane, startedAt }: Attempt): string {
  const now = performance.now();
  return `packet ${id}, ${lane.from} -> ${lane.to} ${lane.target.address} ${lane.protocol} ${lane.port}, sent ${Math.round(now - startedAt)} ms ago, ${lane.verdict} since ${Math.round(now - lane.since)} ms`;
}

function familyOf(lane: Lane): number {
  return ipVersion(lane.target.address) === 6 ? AF_INET6 : AF_INET;
}

function bindNextPort(fd: number, sender: Receiver, lane: Lane): void {
  const any = (ipVersion(lane.target.address) === 6 ? "::" : "0.0.0.0") as IpAddress;
  for (;;) {
    const port = sender.nextPort;
    sender.nextPort = port === LAST_SOURCE_PORT ? FIRST_SOURCE_PORT : port + 1;
    try {
      bindSocket(fd, { address: any, port });
      return;
    } catch (error) {
      // A flow that stays has it.
      if (!(error instanceof SocketError && error.code === "EADDRINUSE")) throw error;
    }
  }
}

function listener(netns: string, version: 4 | 6, protocol: "TCP" | "UDP", port: number): number {
  const fd = openSocket(netns, version === 6 ? AF_INET6 : AF_INET, protocol === "TCP" ? SOCK_STREAM : SOCK_DGRAM);
  allowReuse(fd);
  bindSocket(fd, { address: (version === 6 ? "::" : "0.0.0.0") as IpAddress, port });
  if (protocol === "TCP") listenOn(fd);
  else setReceiveBuffer(fd, 1 << 20);
  return fd;
}

function flowBytes(at: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE((at * 2_654_435_761) >>> 0);
  return bytes;
}

/** Neighbours in the list should not be of one pod; the order itself does not matter. */
function shuffle(list: unknown[]): void {
  for (let i = list.length - 1; i > 0; i--) {
    const j = (i * 7_919 + 13) % (i + 1);
    [list[i], list[j]] = [list[j], list[i]];
  }
}
