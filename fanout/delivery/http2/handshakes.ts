/**
 * The pace of TLS handshakes: so many at once, the others wait in the order in which their first bytes came. Thousands of nodes that connect at the same moment
 * would otherwise be served in one turn of the event loop, a millisecond each, and deliveries to those already connected would wait behind all of them.
 *
 * A connection takes a place only when it has sent something, and keeps it for a limited time, so that silent peers do not keep others out. Invariants: at most
 * `atOnce` places are taken; every connection is begun, or ended by its own close or by `sweep`. Rejected: a rate in handshakes a second (right on one
 * machine only), a place from the first packet on (a few silent peers would take all of them).
 */
export interface HandshakePaceOptions {
  readonly atOnce: number;
  /** A handshake that takes longer goes on without its place. */
  readonly placeMs: number;
  /** From the connection to the first bytes, and from there to its turn. */
  readonly timeoutMs: number;
  /** Monotonic ms. */
  readonly now: () => number;
}

interface Waiting {
  readonly name: string;
  readonly since: number;
}

/** What is needed of a socket that nobody reads yet. */
interface Unread {
  once(event: "readable" | "close", listener: () => void): unknown;
  destroy(): unknown;
}

export class HandshakePace<S extends Unread> {
  readonly #options: HandshakePaceOptions;
  readonly #begin: (socket: S) => void;
  readonly #onTimeout: () => void;
  /** Nothing has come of these. */
  readonly #silent = new Map<S, Waiting>();
  /** These have sent something, the first first. */
  readonly #line = new Map<S, Waiting>();
  /** Until when each has its place, in the order of their beginning; by a name that both ends of a handshake can tell. */
  readonly #places = new Map<string, number>();
  readonly #nameOf: (socket: S) => string;

  constructor(
    options: HandshakePaceOptions,
    act: {
      /** Starts the handshake: the bytes that came are in the socket. */
      readonly begin: (socket: S) => void;
      readonly nameOf: (socket: S) => string;
      readonly onTimeout: () => void;
    },
  ) {
    this.#options = options;
    this.#begin = act.begin;
    this.#nameOf = act.nameOf;
    this.#onTimeout = act.onTimeout;
  }

  /** Handshakes that have a place. */
  get begun(): number {
    return this.#places.size;
  }

  get waiting(): number {
    return this.#line.size;
  }

  /** A connection that was just accepted, of which nothing has been read. */
  add(socket: S): void {
    // While it is connected: afterwards its address is not known.
    const name = this.#nameOf(socket);
    this.#silent.set(socket, { name, since: this.#options.now() });
    socket.once("readable", () => {
      if (!this.#silent.delete(socket)) return;
      this.#line.set(socket, { name, since: this.#options.now() });
      this.#next();
    });
    socket.once("close", () => {
      this.#silent.delete(socket);
      this.#line.delete(socket);
      this.finished(name);
    });
  }

  /** A handshake has ended, well or not. */
  finished(name: string): void {
    if (this.#places.delete(name)) this.#next();
  }

  /** Ends those that have waited too long, and takes places back. Called regularly. */
  sweep(): void {
    const now = this.#options.now();
    const { timeoutMs } = this.#options;
    for (const sockets of [this.#silent, this.#line]) {
      for (const [socket, { since }] of sockets) {
        if (now - since < timeoutMs) break;
        this.#end(socket);
      }
    }
    this.#next();
  }

  #end(socket: S): void {
    this.#silent.delete(socket);
    this.#line.delete(socket);
    this.#onTimeout();
    socket.destroy();
  }

  #next(): void {
    const { atOnce, placeMs, now } = this.#options;
    for (const [name, until] of this.#places) {
      if (until > now()) break;
      this.#places.delete(name);
    }
    while (this.#places.size < atOnce) {
      const [first] = this.#line;
      if (first === undefined) return;
      const [socket, { name }] = first;
      this.#line.delete(socket);
      this.#places.set(name, now() + placeMs);
      this.#begin(socket);
    }
  }
}
