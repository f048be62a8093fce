/**
 * Probes by real packets: for each, whether it arrived at its destination, whether the answer came back, and whether anybody refused.
 *
 * One process holds the sockets of all places. At every place raw sockets see what arrives, and servers answer: TCP and UDP by the kernel's sockets,
 * echo by the kernel, SCTP by hand (an INIT is answered by an INIT ACK), as there are no SCTP sockets here.
 * Silence is not waited for: when nothing moves any more, echoes between the hosts (which no policy touches, and which queue behind whatever is still
 * under way) tell that nothing is on the way either. A packet that comes later still is counted in `late`: it is never lost from the account.
 * Each probe has a source port of its own, so that none rides on a connection that was allowed before.
 */
import { inNetns } from "../../agent/drivers/netlink/libc.ts";
import { type IpAddress, ipVersion } from "../../src/net/ip.ts";
import {
  echoRequest,
  type Flow,
  ipPacket,
  PROTOCOL,
  payloadOf,
  refusedFlow,
  SCTP_DATA,
  SCTP_INIT,
  SCTP_INIT_ACK,
  sctpPacket,
  udpPacket,
} from "./packet-bytes.ts";
import {
  AF_INET,
  AF_INET6,
  allowReuse,
  bindSocket,
  closeSocket,
  connectSocket,
  listenOn,
  openSocketHere,
  POLLOUT,
  PollList,
  resetOnClose,
  SOCK_DGRAM,
  SOCK_RAW,
  SOCK_STREAM,
  sendTo,
  setReceiveBuffer,
  takeError,
  tryAccept,
  tryReceive,
} from "./sockets.ts";

export interface PlaceSpec {
  readonly name: string;
  /** Path of the namespace. */
  readonly netns: string;
  /** One of each family. */
  readonly addresses: readonly IpAddress[];
  /** Behind no policy: echoes between these places are the barrier. */
  readonly isUnguarded: boolean;
}

export type ProbeProtocol = "TCP" | "UDP" | "SCTP" | "ICMP";

export interface PacketProbe {
  readonly from: string;
  readonly to: string;
  readonly version: 4 | 6;
  readonly protocol: ProbeProtocol;
  /** 0 for ICMP. */
  readonly port: number;
  /** Bytes of UDP data; above the MTU it goes in fragments. */
  readonly size?: number;
  /** A source that is not its own (UDP): only arrival counts then, as the answer goes elsewhere. */
  readonly source?: IpAddress;
  /** In place of a proper INIT. Only arrival counts then. */
  readonly sctp?: SctpOddity;
}

export type SctpOddity = "checksum left out" | "chunk of an unknown association" | "header alone";

export interface PacketOutcome {
  /** "allow": arrived and answered. "deny": silence. Anything else is wrong whatever the policy says. */
  readonly verdict: "allow" | "deny" | "arrived, no answer" | "refused";
  readonly detail: string;
}

interface Pending {
  readonly probe: PacketProbe;
  readonly key: string;
  readonly sourcePort: number;
  /** TCP and UDP have a socket of their own. */
  fd: number | undefined;
  arrived: boolean;
  answered: boolean;
  refusal: string;
  isJudged: boolean;
}

interface Place extends PlaceSpec {
  readonly raw: Map<string, number>;
  nextPort: number;
}

interface Reader {
  readonly fd: number;
  readonly read: () => boolean;
}

const PROBES_AT_ONCE = 400;
const FIRST_PORT = 10_000;
const LAST_PORT = 60_000;
const REMEMBERED_PROBES = 50_000;
const RECEIVE_BUFFER_BYTES = 4 << 20;
const BARRIER_DEADLINE_MS = 10_000;
const GRACE_MS = 20;
const WARM_UP_TRIES = 50;
/** Longest path of a packet and of its answer, in queues, over that of an echo between hosts. */
const BARRIER_ROUNDS = 2;
const DATA = Buffer.from("probe");

export class PacketProber implements Disposable {
  readonly #places = new Map<string, Place>();
  readonly #placeOf = new Map<IpAddress, Place>();
  readonly #fds: number[] = [];
  readonly #readers: Reader[] = [];
  readonly #flows = new Map<string, Pending>();
  readonly #late: PacketProbe[] = [];
  #poll: PollList;
  #barrier = 0;
  #echoes = new Set<string>();

  constructor(places: readonly PlaceSpec[], ports: readonly number[]) {
    for (const spec of places) {
      const place: Place = { ...spec, raw: new Map(), nextPort: FIRST_PORT };
      this.#places.set(spec.name, place);
      for (const address of spec.addresses) this.#placeOf.set(address, place);
      inNetns(spec.netns, () => {
        for (const address of spec.addresses) this.#openPlace(place, address, ports);
      });
    }
    this.#poll = new PollList(this.#readers.map(({ fd }) => fd));
  }

  /** Probes whose packet came after they had been judged. */
  get late(): readonly PacketProbe[] {
    return this.#late;
  }

  /** In order of the probes. */
  probe(probes: readonly PacketProbe[]): PacketOutcome[] {
    const outcomes: PacketOutcome[] = [];
    for (let at = 0; at < probes.length; at += PROBES_AT_ONCE) outcomes.push(...this.#probeSome(probes.slice(at, at + PROBES_AT_ONCE)));
    return outcomes;
  }

  /** Makes the probes again and again until all pass, as neighbours may have to be found first; false when some never do. */
  passesAll(probes: readonly PacketProbe[]): boolean {
    let missing = probes;
    for (let tries = 0; tries < WARM_UP_TRIES && missing.length > 0; tries++) {
      const outcomes = this.probe(missing);
      missing = missing.filter((_, i) => outcomes[i]?.verdict !== "allow");
      if (missing.length > 0) this.settle();
    }
    return missing.length === 0;
  }

  /** Waits longer for what may still be on the way; then `late` is final. */
  settle(): void {
    for (let round = 0; round < 3; round++) {
      this.#poll.wait(GRACE_MS);
      this.#drain();
      this.#passBarrier();
    }
    this.#drain();
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.splice(0)) closeSocket(fd);
  }

  #openPlace(place: Place, address: IpAddress, ports: readonly number[]): void {
    const version = ipVersion(address);
    const family = version === 4 ? AF_INET : AF_INET6;
    const open = (type: number, protocol: number, port: number): number => {
      const fd = openSocketHere(family, type, protocol);
      this.#fds.push(fd);
      if (type === SOCK_STREAM) allowReuse(fd);
      else setReceiveBuffer(fd, RECEIVE_BUFFER_BYTES);
      bindSocket(fd, { address, port });
      return fd;
    };
    const icmp = version === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6;
    const raw = (name: string, protocol: number, read: (from: IpAddress, payload: Buffer, fd: number) => void): void => {
      const fd = open(SOCK_RAW, protocol, 0);
      place.raw.set(`${name}${version}`, fd);
      this.#readers.push({ fd, read: () => readAll(fd, (from, bytes) => read(from, payloadOf(version, bytes), fd)) });
    };
    raw("TCP", PROTOCOL.tcp, (from, segment) => {
      if (((segment[13] ?? 0) & 0x12) === 0x02) this.#arrived(flowKey("TCP", from, segment.readUInt16BE(0), place.name, segment.readUInt16BE(2)));
    });
    raw("UDP", PROTOCOL.udp, (from, packet) => this.#arrived(flowKey("UDP", from, packet.readUInt16BE(0), place.name, packet.readUInt16BE(2))));
    raw("SCTP", PROTOCOL.sctp, (from, packet, fd) => this.#sctp(place, from, packet, fd));
    raw("ICMP", icmp, (from, message) => this.#icmp(place, version, from, message));
    for (const port of ports) {
      const listener = open(SOCK_STREAM, 0, port);
      listenOn(listener);
      this.#readers.push({ fd: listener, read: () => acceptAll(listener) });
      const udp = open(SOCK_DGRAM, 0, port);
      this.#readers.push({ fd: udp, read: () => readAll(udp, (from, bytes, port) => sendTo(udp, Buffer.from(bytes), { address: from, port })) });
    }
  }

  #arrived(key: string): void {
    const pending = this.#flows.get(key);
    if (pending === undefined) return;
    if (pending.isJudged && !pending.arrived) this.#late.push(pending.probe);
    pending.arrived = true;
  }

  #answered(key: string): void {
    const pending = this.#flows.get(key);
    if (pending !== undefined) pending.answered = true;
  }

  #sctp(place: Place, from: IpAddress, packet: Buffer, fd: number): void {
    const [sourcePort, destinationPort, type] = [packet.readUInt16BE(0), packet.readUInt16BE(2), packet[12]];
    if (type === SCTP_INIT_ACK) return this.#answered(this.#answerKey("SCTP", place, from, { own: destinationPort, peer: sourcePort }));
    this.#arrived(flowKey("SCTP", from, sourcePort, place.name, destinationPort));
    if (type !== SCTP_INIT) return;
    const answer = sctpPacket({ sourcePort: destinationPort, destinationPort: sourcePort, type: SCTP_INIT_ACK, tag: packet.readUInt32BE(16), initiateTag: 7 });
    sendTo(fd, answer, { address: from, port: 0 });
  }

  #icmp(place: Place, version: 4 | 6, from: IpAddress, message: Buffer): void {
    const refused = refusedFlow(version, message);
    if (refused !== undefined) {
      const name =
        Object.entries({ TCP: PROTOCOL.tcp, UDP: PROTOCOL.udp, SCTP: PROTOCOL.sctp }).find(([, number]) => number === refused.protocol)?.[0] ?? "ICMP";
      const to = this.#placeOf.get(refused.destination);
      const pending = this.#flows.get(flowKey(name, refused.source, refused.sourcePort, to?.name ?? "", refused.destinationPort));
      if (pending !== undefined) pending.refusal = `ICMP error type ${message[0]} code ${message[1]} from ${from}`;
      return;
    }
    const [id, sequence] = [message.readUInt16BE(4), message.readUInt16BE(6)];
    if (message[0] === (version === 4 ? 8 : 128)) this.#arrived(flowKey("ICMP", from, id, place.name, sequence));
    if (message[0] !== (version === 4 ? 0 : 129)) return;
    this.#echoes.delete(`${place.name} ${id} ${sequence}`);
    this.#answered(this.#answerKey("ICMP", place, from, { own: id, peer: sequence }));
  }

  /** The key of the probe that an answer from `from` at `place` belongs to. */
  #answerKey(protocol: string, place: Place, from: IpAddress, { own, peer }: { readonly own: number; readonly peer: number }): string {
    const address = place.addresses.find((candidate) => ipVersion(candidate) === ipVersion(from));
    return flowKey(protocol, address ?? from, own, this.#placeOf.get(from)?.name ?? "", peer);
  }

  #probeSome(probes: readonly PacketProbe[]): PacketOutcome[] {
    const bySource = new Map<string, Pending[]>();
    for (const probe of probes) {
      const list = bySource.get(probe.from) ?? [];
      bySource.set(probe.from, list);
      list.push(this.#begin(probe));
    }
    const all = new Map<PacketProbe, Pending>();
    for (const [from, list] of bySource) {
      inNetns(this.#place(from).netns, () => {
        for (const pending of list) {
          all.set(pending.probe, pending);
          this.#send(pending);
        }
      });
    }
    const waiting = [...all.values()];
    this.#untilQuiet(waiting);
    const outcomes = probes.map((probe) => outcomeOf(all.get(probe)));
    for (const pending of waiting) {
      pending.isJudged = true;
      if (pending.fd !== undefined) closeSocket(pending.fd);
    }
    this.#drain();
    this.#forget();
    return outcomes;
  }

  #place(name: string): Place {
    const place = this.#places.get(name);
    if (place === undefined) throw new RangeError(`no place ${name}`);
    return place;
  }

  #begin(probe: PacketProbe): Pending {
    const place = this.#place(probe.from);
    const sourcePort = place.nextPort;
    place.nextPort = sourcePort === LAST_PORT ? FIRST_PORT : sourcePort + 1;
    const key = flowKey(probe.protocol, probe.source ?? addressOf(place, probe.version), sourcePort, probe.to, probe.port);
    const pending: Pending = { probe, key, sourcePort, fd: undefined, arrived: false, answered: false, refusal: "", isJudged: false };
    this.#flows.set(key, pending);
    return pending;
  }

  /** In the namespace of its source. */
  #send(pending: Pending): void {
    const { probe, sourcePort } = pending;
    const source = this.#place(probe.from);
    const destination = addressOf(this.#place(probe.to), probe.version);
    const raw = source.raw.get(`${probe.protocol}${probe.version}`) ?? -1;
    let refusal: string | undefined;
    if (probe.source !== undefined) {
      pending.refusal = sendForged({ source: probe.source, destination, sourcePort, destinationPort: probe.port }) ?? "";
      return;
    }
    switch (probe.protocol) {
      case "TCP":
      case "UDP": {
        const isTcp = probe.protocol === "TCP";
        const fd = openSocketHere(probe.version === 4 ? AF_INET : AF_INET6, isTcp ? SOCK_STREAM : SOCK_DGRAM);
        pending.fd = fd;
        if (isTcp) resetOnClose(fd);
        bindSocket(fd, { address: addressOf(source, probe.version), port: sourcePort });
        refusal = connectSocket(fd, { address: destination, port: probe.port });
        if (!isTcp) refusal ??= sendTo(fd, probe.size === undefined ? DATA : Buffer.alloc(probe.size, DATA));
        break;
      }
      case "SCTP":
        refusal = sendTo(raw, sctpBytes(probe, sourcePort), { address: destination, port: 0 });
        break;
      case "ICMP":
        refusal = sendTo(raw, echoRequest(probe.version, { id: sourcePort, sequence: probe.port }), { address: destination, port: 0 });
        break;
    }
    pending.refusal ||= refusal ?? "";
  }

  /** Serves everybody until nothing moves and nothing is on the way. What arrived and was not answered yet gets a little longer. */
  #untilQuiet(waiting: readonly Pending[]): void {
    const sockets = waiting.filter(({ fd }) => fd !== undefined);
    const state = (): string => waiting.map(({ arrived, answered, refusal }) => `${Number(arrived)}${Number(answered)}${refusal}`).join();
    let before = "";
    for (let rounds = 0; ; rounds++) {
      this.#drain();
      this.#passBarrier();
      this.#drain();
      readAnswers(sockets);
      const now = state();
      if (now !== before) {
        before = now;
        continue;
      }
      const isOpen = waiting.some(({ probe, arrived, answered, refusal }) => arrived !== answered && refusal === "" && isAnswerDue(probe));
      if (!isOpen || rounds > 50) return;
      this.#poll.wait(GRACE_MS);
    }
  }

  /** Reads until nothing is there. */
  #drain(): void {
    for (;;) {
      let isIdle = true;
      for (const index of this.#poll.wait(0)) if (this.#readers[index]?.read() === true) isIdle = false;
      if (isIdle) return;
    }
  }

  #passBarrier(): void {
    const hosts = [...this.#places.values()].filter(({ isUnguarded }) => isUnguarded);
    for (let round = 0; round < BARRIER_ROUNDS; round++) {
      this.#barrier = (this.#barrier + 1) & 0xffff;
      for (const [i, host] of hosts.entries()) {
        const next = hosts[(i + 1) % hosts.length];
        if (next === undefined || next === host) continue;
        for (const version of [4, 6] as const) {
          const id = version;
          this.#echoes.add(`${host.name} ${id} ${this.#barrier}`);
          sendTo(host.raw.get(`ICMP${version}`) ?? -1, echoRequest(version, { id, sequence: this.#barrier }), { address: addressOf(next, version), port: 0 });
        }
      }
      const deadline = performance.now() + BARRIER_DEADLINE_MS;
      while (this.#echoes.size > 0) {
        if (performance.now() > deadline) throw new Error(`hosts do not reach each other: ${[...this.#echoes].join(", ")}`);
        this.#poll.wait(5);
        this.#drain();
      }
    }
  }

  #forget(): void {
    for (const key of this.#flows.keys()) {
      if (this.#flows.size <= REMEMBERED_PROBES) return;
      this.#flows.delete(key);
    }
  }
}

export function describeProbe({ from, to, version, protocol, port }: PacketProbe): string {
  return `${from} > ${to} ${protocol === "ICMP" ? "" : `${port}/`}${protocol}${version === 6 ? " v6" : ""}`;
}

function outcomeOf(pending: Pending | undefined): PacketOutcome {
  if (pending === undefined) throw new Error("a probe was not sent");
  const { probe, arrived, answered, refusal } = pending;
  if (!isAnswerDue(probe)) return { verdict: arrived ? "allow" : "deny", detail: refusal };
  if (refusal !== "") return { verdict: "refused", detail: refusal };
  if (arrived && answered) return { verdict: "allow", detail: "" };
  return arrived || answered ? { verdict: "arrived, no answer", detail: `arrived ${arrived}, answered ${answered}` } : { verdict: "deny", detail: "" };
}

function isAnswerDue({ source, sctp }: PacketProbe): boolean {
  return source === undefined && sctp === undefined;
}

function sctpBytes({ port, sctp }: PacketProbe, sourcePort: number): Buffer {
  const ports = { sourcePort, destinationPort: port };
  const init = sctpPacket({ ...ports, type: SCTP_INIT, tag: 0, initiateTag: sourcePort });
  switch (sctp) {
    case undefined:
      return init;
    case "checksum left out":
      return init.fill(0, 8, 12);
    case "chunk of an unknown association":
      return sctpPacket({ ...ports, type: SCTP_DATA, tag: 77, initiateTag: 0 });
    case "header alone":
      return init.subarray(0, 12);
    default:
      throw new RangeError(`no SCTP packet is called ${String(sctp satisfies never)}`);
  }
}

/** In the namespace of the sender; a raw socket of IPPROTO_RAW takes the IP header as it is given. */
function sendForged(flow: Flow): string | undefined {
  const fd = openSocketHere(ipVersion(flow.source) === 4 ? AF_INET : AF_INET6, SOCK_RAW, PROTOCOL.raw);
  try {
    return sendTo(fd, ipPacket({ ...flow, protocol: PROTOCOL.udp }, udpPacket(flow, DATA)), { address: flow.destination, port: 0 });
  } finally {
    closeSocket(fd);
  }
}

function readAnswers(sockets: readonly Pending[]): void {
  const open = sockets.filter(({ answered, refusal }) => !answered && refusal === "");
  const ready = new PollList(
    open.map(({ fd }) => fd ?? -1),
    POLLOUT,
  ).wait(0);
  for (const index of ready) {
    const pending = open[index];
    if (pending?.fd === undefined) continue;
    if (pending.probe.protocol === "TCP") {
      pending.refusal = takeError(pending.fd);
      pending.answered = pending.refusal === "";
      continue;
    }
    const received = tryReceive(pending.fd);
    if (typeof received === "string") pending.refusal = received;
    else if (received !== undefined) pending.answered = true;
  }
}

function acceptAll(listener: number): boolean {
  let isAny = false;
  for (let accepted = tryAccept(listener); accepted !== undefined; accepted = tryAccept(listener)) {
    isAny = true;
    closeSocket(accepted.fd);
  }
  return isAny;
}

function readAll(fd: number, take: (from: IpAddress, bytes: Buffer, port: number) => void): boolean {
  let isAny = false;
  for (let received = tryReceive(fd); typeof received === "object"; received = tryReceive(fd)) {
    isAny = true;
    take(received.from.address, received.bytes, received.from.port);
  }
  return isAny;
}

function addressOf(place: Place, version: 4 | 6): IpAddress {
  const address = place.addresses.find((candidate) => ipVersion(candidate) === version);
  if (address === undefined) throw new RangeError(`${place.name} has no IPv${version} address`);
  return address;
}

function flowKey(protocol: string, source: IpAddress, sourcePort: number, to: string, destinationPort: number): string {
  return `${protocol} ${source} ${sourcePort} ${to} ${destinationPort}`;
}
