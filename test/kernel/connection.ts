/** One connection between two places that stays open, to see what policies that come later do to it. */
import { inNetns } from "../../agent/drivers/netlink/libc.ts";
import { type IpAddress, ipVersion } from "../../src/net/ip.ts";
import type { PlaceSpec } from "./packets.ts";
import {
  AF_INET,
  AF_INET6,
  bindSocket,
  closeSocket,
  connectSocket,
  listenOn,
  openSocketHere,
  PollList,
  SOCK_DGRAM,
  SOCK_STREAM,
  sendTo,
  takeError,
  tryAccept,
  tryReceive,
} from "./sockets.ts";

export interface ConnectionSpec {
  readonly from: PlaceSpec;
  readonly to: PlaceSpec;
  readonly version: 4 | 6;
  readonly protocol: "TCP" | "UDP";
  readonly port: number;
  /** Where the client connects to, when that is not the server's own address. */
  readonly dialled?: IpAddress;
  /** For each message. Absent: DEADLINE_MS. */
  readonly deadlineMs?: number;
}

const DEADLINE_MS = 5_000;

export class Connection implements Disposable {
  readonly #server: number;
  readonly #client: number;
  readonly #isTcp: boolean;
  #accepted: number | undefined;
  readonly #deadlineMs: number;
  #sent = 0;

  constructor({ from, to, version, protocol, port, dialled, deadlineMs = DEADLINE_MS }: ConnectionSpec) {
    this.#deadlineMs = deadlineMs;
    const family = version === 4 ? AF_INET : AF_INET6;
    const address = addressOf(to, version);
    this.#isTcp = protocol === "TCP";
    const type = this.#isTcp ? SOCK_STREAM : SOCK_DGRAM;
    this.#server = inNetns(to.netns, () => {
      const fd = openSocketHere(family, type);
      bindSocket(fd, { address, port });
      if (this.#isTcp) listenOn(fd);
      return fd;
    });
    this.#client = inNetns(from.netns, () => {
      const fd = openSocketHere(family, type);
      connectSocket(fd, { address: dialled ?? address, port });
      return fd;
    });
  }

  /** Data goes to the server and an answer comes back. Lost data of TCP is sent again by the kernel, later than this waits. */
  passes(): boolean {
    const message = Buffer.from(`message ${++this.#sent}`);
    if (this.#isTcp && this.#accepted === undefined) {
      new PollList([this.#server]).wait(this.#deadlineMs);
      this.#accepted = tryAccept(this.#server)?.fd;
      if (this.#accepted === undefined) return false;
    }
    if (sendTo(this.#client, message) !== undefined) return false;
    const server = this.#accepted ?? this.#server;
    new PollList([server]).wait(this.#deadlineMs);
    const received = tryReceive(server);
    if (typeof received !== "object" || !received.bytes.includes(message)) return false;
    if (sendTo(server, message, this.#isTcp ? undefined : received.from) !== undefined) return false;
    new PollList([this.#client]).wait(this.#deadlineMs);
    const answer = tryReceive(this.#client);
    return typeof answer === "object" && answer.bytes.includes(message);
  }

  /** The client's pending error ("ECONNREFUSED", "EMSGSIZE"), once one comes; "" when none does. */
  error(): string {
    new PollList([this.#client], 0).wait(this.#deadlineMs);
    return takeError(this.#client);
  }

  /** Sends without an answer; the own kernel's refusal. */
  send(bytes: Uint8Array): string | undefined {
    return sendTo(this.#client, bytes);
  }

  /** The server goes away: what comes then is refused by its kernel. */
  closeServer(): void {
    closeSocket(this.#server);
    this.#isServerClosed = true;
  }

  [Symbol.dispose](): void {
    closeSocket(this.#client);
    if (this.#accepted !== undefined) closeSocket(this.#accepted);
    if (!this.#isServerClosed) closeSocket(this.#server);
  }

  #isServerClosed = false;
}

function addressOf(place: PlaceSpec, version: 4 | 6): IpAddress {
  const address = place.addresses.find((candidate) => ipVersion(candidate) === version);
  if (address === undefined) throw new RangeError(`${place.name} has no IPv${version} address`);
  return address;
}
