/**
 * What the journal of addresses says: blocks, attachments, releases; and how one entry changes it. Pure.
 *
 * Invariants: replay of the same entries gives the same state, and `toSnapshot` then `fromSnapshot` is the identity, the order of releases included; an address that
 * is remembered has a release.
 */
import { z } from "zod";
import { type Cidr, cidrContains, tryParseCidr } from "../../src/net/cidr.ts";
import { type IpAddress, tryParseIp } from "../../src/net/ip.ts";
import { type Attachment, attachmentId, lastingIdOf } from "./attachment.ts";
import { Remembered } from "./remembered.ts";

export interface JournalBlock {
  readonly pool: string;
  /** Grows with every change of the block's content. */
  readonly generation: number;
  /** Names this holding of the block in the API. */
  readonly claim?: string;
  /** It is one address, borrowed out of this block. */
  readonly of?: Cidr;
}

export interface JournalState {
  /** In the order in which they were claimed. */
  readonly blocks: Map<Cidr, JournalBlock>;
  readonly attachments: Map<string, Attachment>;
  /** Time (ms, see `timeline`) of the last release, in order of release. */
  readonly released: Map<IpAddress, number>;
  /** Pods that released addresses were the last of. */
  readonly remembered: Remembered;
  /** Forgotten, and the API is to be told; nothing in them is given any more. */
  readonly releasing: Map<Cidr, JournalBlock>;
  /** Ids of loans, by addresses of blocks of this node that others have. */
  readonly lent: Map<IpAddress, string>;
  /** False: entries may be missing (nothing was there, or it was damaged), and no address is given before the API and the kernel were asked. */
  isTrusted: boolean;
  /** Times of one boot are monotonic time plus this (ms): the wall clock at the first start in it, and what it was set to since is not in them. */
  timeline?: { readonly bootId: string; readonly aheadMs: number };
}

export type JournalEntry =
  | { readonly op: "block"; readonly cidr: Cidr; readonly pool: string; readonly generation: number; readonly claim?: string; readonly of?: Cidr }
  | { readonly op: "release"; readonly cidr: Cidr }
  | { readonly op: "lend"; readonly address: IpAddress; readonly id: string }
  | { readonly op: "unlend"; readonly address: IpAddress; readonly at: number }
  | { readonly op: "drop-block"; readonly cidr: Cidr }
  | { readonly op: "attach"; readonly attachment: Attachment }
  | { readonly op: "detach"; readonly id: string; readonly at: number }
  | { readonly op: "trust" };

const cidr = z.string().transform((text, context) => tryParseCidr(text) ?? invalid(context, `not a prefix: ${text}`));
const address = z.string().transform((text, context) => tryParseIp(text) ?? invalid(context, `not an address: ${text}`));
const attachment = z.object({
  network: z.string(),
  containerId: z.string(),
  ifname: z.string(),
  namespace: z.string(),
  pod: z.string(),
  podUid: z.string().exactOptional(),
  interfaceName: z.string(),
  mac: z.string(),
  netns: z.string(),
  addresses: z.array(address),
  mtu: z.int().exactOptional(),
});
const entry = z.discriminatedUnion("op", [
  z.object({ op: z.literal("block"), cidr, pool: z.string(), generation: z.int(), claim: z.string().exactOptional(), of: cidr.exactOptional() }),
  z.object({ op: z.literal("release"), cidr }),
  z.object({ op: z.literal("lend"), address, id: z.string() }),
  z.object({ op: z.literal("unlend"), address, at: z.number() }),
  z.object({ op: z.literal("drop-block"), cidr }),
  z.object({ op: z.literal("attach"), attachment }),
  z.object({ op: z.literal("detach"), id: z.string(), at: z.number() }),
  z.object({ op: z.literal("trust") }),
]);
const batch = z.object({ entries: z.array(entry) });
const block = z.object({ pool: z.string(), generation: z.int(), claim: z.string().exactOptional(), of: cidr.exactOptional() });
const snapshot = z.object({
  blocks: z.array(z.tuple([cidr, block])),
  releasing: z.array(z.tuple([cidr, block])),
  lent: z.array(z.tuple([address, z.string()])),
  attachments: z.array(attachment),
  released: z.array(z.tuple([address, z.number()])),
  /** Absent: written by a version that did not remember. */
  remembered: z.array(z.tuple([address, z.string()])).exactOptional(),
  isTrusted: z.boolean(),
  timeline: z.object({ bootId: z.string(), aheadMs: z.number() }).exactOptional(),
});

export function emptyState(): JournalState {
  return {
    blocks: new Map(),
    attachments: new Map(),
    released: new Map(),
    remembered: new Remembered(),
    releasing: new Map(),
    lent: new Map(),
    isTrusted: false,
  };
}

export function applyEntry(state: JournalState, change: JournalEntry): void {
  switch (change.op) {
    case "block": {
      const { cidr: prefix, claim, of, pool } = change;
      const generation = Math.max(change.generation, (state.blocks.get(prefix)?.generation ?? state.releasing.get(prefix)?.generation ?? 0) + 1);
      state.blocks.set(prefix, { pool, generation, ...(claim === undefined ? {} : { claim }), ...(of === undefined ? {} : { of }) });
      state.releasing.delete(prefix);
      return;
    }
    case "release": {
      const released = state.blocks.get(change.cidr);
      if (released === undefined) return;
      state.blocks.delete(change.cidr);
      state.releasing.set(change.cidr, released);
      return;
    }
    case "lend":
      state.lent.set(change.address, change.id);
      forget(state, change.address);
      touch(state, [change.address]);
      return;
    case "unlend":
      if (!state.lent.delete(change.address)) return;
      forget(state, change.address);
      state.released.set(change.address, change.at);
      touch(state, [change.address]);
      return;
    case "drop-block":
      state.blocks.delete(change.cidr);
      state.releasing.delete(change.cidr);
      for (const lent of state.lent.keys()) if (cidrContains(change.cidr, lent)) state.lent.delete(lent);
      for (const released of state.released.keys()) if (cidrContains(change.cidr, released)) forget(state, released);
      return;
    case "attach":
      state.attachments.set(attachmentId(change.attachment), change.attachment);
      for (const used of change.attachment.addresses) forget(state, used);
      touch(state, change.attachment.addresses);
      return;
    case "detach": {
      const gone = state.attachments.get(change.id);
      if (gone === undefined) return;
      state.attachments.delete(change.id);
      const pod = lastingIdOf(gone);
      for (const freed of gone.addresses) {
        forget(state, freed);
        state.released.set(freed, change.at);
        if (pod !== undefined) state.remembered.set(freed, pod);
      }
      touch(state, gone.addresses);
      return;
    }
    case "trust":
      state.isTrusted = true;
      return;
    default:
      change satisfies never;
  }
}

/** The head of a log frame; undefined when it is none. */
export function parseBatch(head: unknown): readonly JournalEntry[] | undefined {
  return batch.safeParse(head).data?.entries;
}

export function toSnapshot({ blocks, attachments, released, remembered, releasing, lent, isTrusted, timeline }: JournalState): object {
  return {
    blocks: [...blocks],
    releasing: [...releasing],
    lent: [...lent],
    attachments: [...attachments.values()],
    released: [...released],
    remembered: remembered.entries(),
    isTrusted,
    ...(timeline === undefined ? {} : { timeline }),
  };
}

/** undefined when the head is no snapshot. */
export function fromSnapshot(head: unknown): JournalState | undefined {
  const { data } = snapshot.safeParse(head);
  if (data === undefined) return undefined;
  return {
    blocks: new Map(data.blocks),
    releasing: new Map(data.releasing),
    lent: new Map(data.lent),
    attachments: new Map(data.attachments.map((found) => [attachmentId(found), found])),
    released: new Map(data.released),
    remembered: new Remembered(data.remembered),
    isTrusted: data.isTrusted,
    ...(data.timeline === undefined ? {} : { timeline: data.timeline }),
  };
}

/** Of an address that is another's, or in no block, by now. */
function forget(state: JournalState, address: IpAddress): void {
  state.released.delete(address);
  state.remembered.delete(address);
}

function touch(state: JournalState, addresses: readonly IpAddress[]): void {
  for (const [block, value] of state.blocks) {
    if (addresses.some((used) => cidrContains(block, used))) state.blocks.set(block, { ...value, generation: value.generation + 1 });
  }
}

function invalid(context: z.RefinementCtx, message: string): never {
  context.addIssue({ code: "custom", message });
  return z.NEVER;
}
