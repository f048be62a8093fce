/**
 * Where the members of one set come from, and where they go.
 *
 * Invariant: between `start` and `stop` the sink has each member as often as something states it.
 */
import type { SetMember } from "../model/record.ts";

export interface MemberSink {
  add(member: SetMember): void;
  remove(member: SetMember): void;
}

export interface MemberSource {
  /** Adds all members there are, and keeps the sink up to date from then on. */
  start(sink: MemberSink): void;
  stop(): void;
}
