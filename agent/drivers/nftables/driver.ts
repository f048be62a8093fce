/**
 * Carries transactions of the nftables model into the kernel, reads a table back, and tells of foreign changes to it.
 *
 * Invariant: one transaction is one send(2) and one kernel commit; after `apply` returns the kernel has all of it, after it
 * throws none. The driver keeps no memory of what it applied: a process that starts anew reads the table. Operations name
 * their table, and nothing else is ever written.
 * Rejected: libnftables (re-reads every interval set of a table at each change, its errors do not name the operation) and
 * the `nft` executable (16 ms a call).
 */
import type { NftTable, NftTransaction } from "../../plan/nft/ruleset.ts";
import { Attributes } from "../netlink/attributes.ts";
import { NetlinkError } from "../netlink/error.ts";
import { errnoName, errnoNumber } from "../netlink/libc.ts";
import { decodeReply, type KernelReply, type NetlinkMessage, NLMSG_ERROR } from "../netlink/message.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../netlink/socket.ts";
import { type NftRuleCount, readRuleCounts } from "./counters.ts";
import { elementKeyAt } from "./element-at.ts";
import { type EncodedBatch, encodeTransaction } from "./encode.ts";
import { type NftFailure, NftTransactionError } from "./error.ts";
import { NFNL_SUBSYS_NFTABLES, NFNLGRP_NFTABLES, NFPROTO, NFT_MSG } from "./protocol.ts";
import { readGeneration, readTable } from "./read.ts";
import type { NftTableState } from "./state.ts";

/** What the agent needs of nftables; the driver and the fake in test/fakes implement it. */
export type Nftables = {
  /** Throws NftTransactionError (nothing was applied), RangeError or TypeError for a value that has no encoding. */
  apply(transaction: NftTransaction): Promise<void>;
  /** Undefined: no such table. */
  readTable(table: NftTable): Promise<NftTableState | undefined>;
  /** What the rules of a table, or of one of its chains, have counted. */
  ruleCounts(table: NftTable, chain?: string): Promise<readonly NftRuleCount[]>;
  /** The kernel's count of commits, of anyone, in this namespace. */
  generation(): Promise<number>;
  /** Report changes to the table that others made, until the signal aborts. */
  watch(table: NftTable, onChange: (change: NftForeignChange) => void, signal: AbortSignal): Promise<void>;
  close(): void;
};

export type NftForeignChange =
  /** Someone else changed our table; `objects` are NFT_MSG names such as "newRule", "delTable". */
  | { readonly kind: "changed"; readonly messages: readonly string[] }
  /** The kernel dropped notifications: anything may have changed. */
  | { readonly kind: "lost" };

export type NftDriverOptions = {
  /** Path of a network namespace; absent: the process's own. */
  readonly netns?: string;
};

const NFGENMSG = 4;
/** NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE and NFTA_SET_ELEM_LIST_TABLE are all 1. */
const TABLE_ATTRIBUTE = 1;
const SUBJECT = { operation: "apply", object: "nftables transaction" };
const MESSAGE_NAMES = new Map<number, string>(Object.entries(NFT_MSG).map(([name, number]) => [number, name]));

export class NftDriver implements Nftables {
  readonly #socket: NetlinkSocket;
  readonly #netns: string | undefined;

  private constructor(socket: NetlinkSocket, netns: string | undefined) {
    this.#socket = socket;
    this.#netns = netns;
  }

  /** Throws SystemCallError: EPERM without CAP_NET_ADMIN, ENOENT when the namespace is gone. */
  static open({ netns }: NftDriverOptions = {}): NftDriver {
    return new NftDriver(NetlinkSocket.open({ protocol: NETLINK_NETFILTER, netns }), netns);
  }

  async apply(transaction: NftTransaction): Promise<void> {
    if (transaction.operations.length === 0) return;
    const batch = encodeTransaction(transaction, this.#reserveSequences());
    if (batch.messages.length === 0) return;
    this.#socket.sendDatagram(batch.bytes);
    const failures = this.#collectReplies(transaction, batch);
    const [first, ...rest] = failures;
    if (first !== undefined) throw new NftTransactionError([first, ...rest]);
  }

  async readTable(table: NftTable): Promise<NftTableState | undefined> {
    return readTable(this.#socket, table);
  }

  async ruleCounts(table: NftTable, chain?: string): Promise<readonly NftRuleCount[]> {
    return readRuleCounts(this.#socket, table, chain);
  }

  async generation(): Promise<number> {
    return readGeneration(this.#socket);
  }

  async watch(table: NftTable, onChange: (change: NftForeignChange) => void, signal: AbortSignal): Promise<void> {
    using events = NetlinkSocket.open({ protocol: NETLINK_NETFILTER, netns: this.#netns, groups: [NFNLGRP_NFTABLES], ignorePortId: this.#socket.portId });
    await events.subscribe((messages) => {
      if (messages === "lost") return onChange({ kind: "lost" });
      const foreign = messages.filter((message) => concerns(message, table));
      if (foreign.length > 0) onChange({ kind: "changed", messages: [...new Set(foreign.map(({ type }) => MESSAGE_NAMES.get(type & 0xff) ?? String(type)))] });
    }, signal);
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Sequence numbers only have to differ between what is in flight, and nothing is when a new batch starts. */
  #reserveSequences(): number {
    return (this.#socket.nextSequence() & 0xff) << 20;
  }

  /** The kernel queued its answers before send returned: errors by sequence number, and success for the last message. */
  #collectReplies(transaction: NftTransaction, batch: EncodedBatch): NftFailure[] {
    const lastSequence = batch.firstSequence + batch.messages.length;
    const failures: NftFailure[] = [];
    let isConfirmed = false;
    for (;;) {
      const messages = this.#socket.tryReceiveDatagram(SUBJECT);
      if (messages === undefined) break;
      for (const message of messages) {
        if (message.type !== NLMSG_ERROR || message.sequence < batch.firstSequence || message.sequence > lastSequence + 1) continue;
        const reply = decodeReply(message);
        if (reply.errno !== 0) failures.push(failureOf(transaction, batch, message.sequence, reply));
        else if (message.sequence === lastSequence) isConfirmed = true;
      }
    }
    if (failures.length === 0 && !isConfirmed) throw new NetlinkError({ ...SUBJECT, errno: errnoNumber("ETIMEDOUT"), reason: "the kernel confirmed nothing" });
    return failures.sort((a, b) => a.index - b.index);
  }
}

function failureOf(transaction: NftTransaction, batch: EncodedBatch, sequence: number, reply: KernelReply): NftFailure {
  const message = batch.messages[sequence - batch.firstSequence - 1];
  const index = message?.operation ?? -1;
  const operation = transaction.operations[index];
  const isElements = operation?.kind === "add-elements" || operation?.kind === "delete-elements";
  const element = isElements && message !== undefined ? elementKeyAt(batch.bytes, message.offset, reply.offset, operation.set) : undefined;
  return { index, operation, element, errno: reply.errno, code: errnoName(reply.errno), reason: reply.reason };
}

function concerns(message: NetlinkMessage, table: NftTable): boolean {
  if (message.type >> 8 !== NFNL_SUBSYS_NFTABLES || (message.type & 0xff) === NFT_MSG.newGen) return false;
  if (message.payload[0] !== NFPROTO[table.family]) return false;
  return new Attributes(message.payload.subarray(NFGENMSG)).string(TABLE_ATTRIBUTE) === table.name;
}
