/**
 * Sessions that have nothing to do but to be sent what all are sent. What they get is kept once for all of them, and a session takes it into its own account when
 * somebody looks at it (`catchUp`): a change for everybody costs each of them one call to the transport, and no look at the session.
 *
 * Invariants: a follower is live, has nothing dirty and nothing in flight; it is sent each message of the log from where it began, or it leaves before. The log
 * has at most MAX_LOGGED messages: then all catch up, and it begins anew.
 */
import type { RecordKey } from "../../src/model/record.ts";
import type { Lane } from "../delivery/delivery.ts";
import type { SharedChanges, SharedMessage } from "./shared-changes.ts";

const MAX_LOGGED = 64;

export interface Follower {
  catchUp(): void;
  /** It goes its own way from now on. */
  leave(): void;
  /** Of the message that it was sent last, something is in flight. */
  holdsRest(): void;
}

/** A message that all followers were sent. */
export interface Followed {
  readonly message: SharedMessage;
  readonly keys: ReadonlySet<RecordKey>;
}

export class Followers<F extends Follower> {
  /** What they are to be sent with the next flush. */
  pending: SharedChanges | undefined;
  readonly #members: F[] = [];
  /** In step with the members: a flush reads nothing else of them. */
  readonly #lanes: Lane[] = [];
  readonly #places = new Map<F, number>();
  #log: Followed[] = [];
  /** The number of the first message in the log. */
  #first = 0;

  get size(): number {
    return this.#members.length;
  }

  /** The number that the next message gets. */
  get end(): number {
    return this.#first + this.#log.length;
  }

  /** Its account begins with the message `end`. */
  add(member: F, lane: Lane): void {
    this.#places.set(member, this.#members.length);
    this.#members.push(member);
    this.#lanes.push(lane);
  }

  remove(member: F): void {
    const place = this.#places.get(member);
    const lastMember = this.#members.pop();
    const lastLane = this.#lanes.pop();
    if (place === undefined || lastMember === undefined || lastLane === undefined) throw new Error("not a follower");
    this.#places.delete(member);
    if (lastMember === member) return;
    this.#members[place] = lastMember;
    this.#lanes[place] = lastLane;
    this.#places.set(lastMember, place);
  }

  /** Messages from this number on. */
  since(number: number): readonly Followed[] {
    return number === this.#first ? this.#log : this.#log.slice(number - this.#first);
  }

  /** Sends the pending changes; undefined: each of those that follow has to send them itself. How many were sent it; the others have left. */
  flush(message: SharedMessage | undefined): number {
    const changes = this.pending;
    if (changes === undefined) return 0;
    const frame = message?.frames.length === 1 ? message.frames[0] : undefined;
    if (message === undefined || frame === undefined) {
      for (let member = this.#members.at(-1); member !== undefined; member = this.#members.at(-1)) member.leave();
      this.pending = undefined;
      return 0;
    }
    const [refused, partly] = this.#offer(frame);
    // While it is pending still: that is what they have to send then.
    for (const member of refused) member.leave();
    this.pending = undefined;
    this.#append({ message, keys: changes.keys });
    const sent = this.#members.length;
    for (const member of partly) {
      member.leave();
      member.holdsRest();
    }
    return sent;
  }

  #offer(frame: Uint8Array): readonly [refused: readonly F[], partly: readonly F[]] {
    const refused: F[] = [];
    const partly: F[] = [];
    const lanes = this.#lanes;
    for (let place = 0; place < lanes.length; place++) {
      const result = lanes[place]?.offer(frame);
      if (result === "taken") continue;
      const member = this.#members[place];
      if (member !== undefined) (result === "partly" ? partly : refused).push(member);
    }
    return [refused, partly];
  }

  #append(followed: Followed): void {
    if (this.#log.length === MAX_LOGGED) {
      for (const member of this.#members) member.catchUp();
      this.#first = this.end;
      this.#log = [];
    }
    this.#log.push(followed);
  }
}
