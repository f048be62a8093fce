/** Numbers of the nf_tables protocol (include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h) and of nft's user data. */
import type { NftValueType } from "../../plan/nft/values.ts";

export const NFNL_SUBSYS_NFTABLES = 10;
export const NFNLGRP_NFTABLES = 7;
export const NFNL_MSG_BATCH_BEGIN = 0x10;
export const NFNL_MSG_BATCH_END = 0x11;

export const NFPROTO = { unspec: 0, inet: 1, ip: 2, netdev: 5, ip6: 10 } as const;

/** Message types within the subsystem. */
export const NFT_MSG = {
  newTable: 0,
  getTable: 1,
  delTable: 2,
  newChain: 3,
  getChain: 4,
  delChain: 5,
  newRule: 6,
  getRule: 7,
  delRule: 8,
  newSet: 9,
  getSet: 10,
  delSet: 11,
  newSetElem: 12,
  getSetElem: 13,
  delSetElem: 14,
  newGen: 15,
  getGen: 16,
} as const;

/** The message type on the wire. */
export function nftMessageType(message: number): number {
  return (NFNL_SUBSYS_NFTABLES << 8) | message;
}

export const NFTA_LIST_ELEM = 1;
export const NFTA_TABLE = { name: 1, userdata: 6 } as const;
export const NFTA_CHAIN = { table: 1, handle: 2, name: 3, hook: 4, policy: 5, type: 7, userdata: 12 } as const;
export const NFTA_HOOK = { number: 1, priority: 2, device: 3 } as const;
export const NFTA_RULE = { table: 1, chain: 2, handle: 3, expressions: 4, userdata: 7 } as const;
export const NFTA_SET = {
  table: 1,
  name: 2,
  flags: 3,
  keyType: 4,
  keyLength: 5,
  dataType: 6,
  dataLength: 7,
  description: 9,
  id: 10,
  userdata: 13,
} as const;
export const NFTA_SET_DESC = { size: 1, concat: 2 } as const;
export const NFTA_SET_FIELD_LEN = 1;
export const NFTA_SET_ELEM_LIST = { table: 1, set: 2, elements: 3, setId: 4 } as const;
export const NFTA_SET_ELEM = { key: 1, data: 2, flags: 3, timeout: 4, userdata: 6, keyEnd: 10 } as const;
export const NFTA_DATA = { value: 1, verdict: 2 } as const;
export const NFTA_VERDICT = { code: 1, chain: 2 } as const;
export const NFTA_EXPR = { name: 1, data: 2 } as const;
export const NFTA_GEN_ID = 1;

export const NFT_SET_FLAG = { anonymous: 0x1, constant: 0x2, interval: 0x4, map: 0x8, timeout: 0x10, concat: 0x80 } as const;
export const NFT_SET_ELEM_INTERVAL_END = 0x1;
/** Data type of a verdict map. */
export const NFT_DATA_VERDICT = 0xffff_ff00;

/** Numbers of nft's data types (include/datatype.h of nftables): they tell `nft list` how to print a set. */
export const NFT_DATATYPE: Readonly<Record<NftValueType, number>> = {
  nf_proto: 2,
  ipv4_addr: 7,
  ipv6_addr: 8,
  ether_addr: 9,
  inet_proto: 12,
  inet_service: 13,
  icmp_type: 14,
  mark: 19,
  icmpv6_type: 29,
  ifname: 41,
  tcp_flag: 15,
  ct_state: 26,
  ct_dir: 27,
  ct_status: 28,
  pkt_type: 31,
  icmp_code: 32,
  icmpv6_code: 33,
  fib_addrtype: 38,
  boolean: 39,
};
/** A concatenation's type is its fields' types, six bits each. */
export const NFT_CONCAT_TYPE_BITS = 6;

/** nft's user data: type, length, value; a comment is type 0, except in sets, which use 7. */
export const NFT_UDATA = { comment: 0, setKeyByteOrder: 0, setDataByteOrder: 1, setComment: 7 } as const;
export const NFT_BYTE_ORDER = { host: 1, big: 2 } as const;

/** Hook numbers of the ip, ip6 and inet families; netdev has only ingress, which is 0 there. */
export const NF_HOOK = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4, ingress: 5 } as const;

export const VERDICT_CODE = { accept: 1, drop: 0, continue: -1, jump: -3, goto: -4, return: -5 } as const;
