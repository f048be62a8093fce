/**
 * The nftables model: what the planner produces and what drivers carry out.
 *
 * Words and values are those of `nft list` ("ip saddr", "10.65.0.0/26", "established,related"), so that a reader of the
 * kernel's listing, a golden file and this model sees one language. Two renderers read it: `nftText` (text.ts) and the
 * netlink encoder of the driver (agent/drivers/nftables). As in nft, protocol dependencies are implied: "ip saddr" in an
 * inet table matches IPv4 packets only, "tcp dport" matches TCP only; do not add them as matches of their own.
 *
 * Invariant: pure values, no handles, no defaults that depend on the kernel; equal values mean equal kernel objects.
 * Rejected: the raw expression level (registers and payload offsets) as the planner's language: unreadable in review,
 * and every reader of a golden file would have to disassemble it.
 */

export type NftFamily = "inet" | "ip" | "ip6" | "netdev";

/** A table by identity. Every operation names its table; drivers never touch any other. */
export type NftTable = {
  readonly family: NftFamily;
  readonly name: string;
};

export type NftHook = "prerouting" | "input" | "forward" | "output" | "postrouting" | "ingress";

export type NftBaseChain = {
  readonly type: "filter" | "nat" | "route";
  readonly hook: NftHook;
  /** Signed hook priority; 0 is "filter", -300 "raw", -150 "mangle", -100 "dstnat", 100 "srcnat". */
  readonly priority: number;
  readonly policy: "accept" | "drop";
  /** Interface of an ingress chain (netdev family only). */
  readonly device?: string;
};

export type NftChain = {
  readonly name: string;
  /** Present for a chain attached to a hook; absent for a chain that is only jumped to. */
  readonly base?: NftBaseChain;
  readonly comment?: string;
};

export type NftDataType = "ipv4_addr" | "ipv6_addr" | "inet_proto" | "inet_service" | "ifname" | "mark" | "ether_addr" | "icmp_type" | "icmpv6_type";

/** A set, or a map when `data` is present. */
export type NftSet = {
  readonly name: string;
  /** One entry per field; more than one is a concatenation ("ipv4_addr . inet_proto . inet_service"). */
  readonly key: readonly NftDataType[];
  /** What a map's elements carry. */
  readonly data?: "verdict" | NftDataType;
  /** Elements may be prefixes or ranges. */
  readonly intervals?: boolean;
  /** Elements may carry `timeoutMs`. */
  readonly timeouts?: boolean;
  readonly comment?: string;
};

/**
 * A member of a set or map. `key` is nft's own text and the element's identity: "10.65.0.1", "10.65.0.0/26",
 * "10.65.0.1-10.65.0.9", "10.65.0.1 . tcp . 80", "sdg0a1b2c". Interface names are written without quotes, addresses
 * canonical (RFC 5952, host bits zero), ports as decimal numbers.
 */
export type NftElement = {
  readonly key: string;
  /** For maps: the verdict, or the value as text. */
  readonly data?: NftVerdict | string;
  readonly timeoutMs?: number;
  readonly comment?: string;
};

export type NftVerdict =
  | { readonly kind: "accept" }
  | { readonly kind: "drop" }
  | { readonly kind: "continue" }
  | { readonly kind: "return" }
  | { readonly kind: "jump"; readonly chain: string }
  | { readonly kind: "goto"; readonly chain: string };

/** What a rule can look at, spelled as `nft list` spells it. */
export type NftField =
  | "iifname"
  | "oifname"
  | "meta mark"
  | "meta nfproto"
  | "meta l4proto"
  | "meta pkttype"
  | "ip saddr"
  | "ip daddr"
  | "ip protocol"
  | "ip6 saddr"
  | "ip6 daddr"
  | "ip6 nexthdr"
  | "ether saddr"
  | "ether daddr"
  | "tcp sport"
  | "tcp dport"
  | "tcp flags"
  | "udp sport"
  | "udp dport"
  | "sctp sport"
  | "sctp dport"
  | "th sport"
  | "th dport"
  | "icmp type"
  | "icmp code"
  | "icmpv6 type"
  | "icmpv6 code"
  | "arp saddr ip"
  | "arp daddr ip"
  | "ct state"
  | "ct status"
  | "ct mark"
  | "ct direction"
  | "fib daddr type"
  | "fib saddr type"
  | "fib saddr . iif oif"
  | "fib saddr . mark . iif oif";

export type NftCompare = "==" | "!=" | "<" | ">" | "<=" | ">=";

/**
 * A value of a field: an address, prefix ("10.0.0.0/8") or range ("10.0.0.1-10.0.0.9"), port or port range ("80-90"),
 * protocol ("tcp", "udp", "sctp", "icmp", "ipv6-icmp" or a number), interface name (a trailing "*" matches a prefix),
 * "ipv4" | "ipv6" for nfproto, comma-joined flags for "ct state", "ct status" and "tcp flags" (any of them), a number for marks.
 */
export type NftValue = string | number;

export type NftMatch =
  /** One comparison. `mask` (marks only): compare after a bitwise and. */
  | {
      readonly kind: "match";
      readonly field: NftField;
      /** Default "==". Prefixes, ranges and flags take "==" and "!=" only. */
      readonly op?: NftCompare;
      readonly value: NftValue;
      readonly mask?: number;
    }
  /** One of a fixed list, through an anonymous set: `tcp dport { 80, 443 }`. */
  | {
      readonly kind: "match-any";
      readonly field: NftField;
      readonly negate?: boolean;
      readonly values: readonly NftValue[];
    }
  /** Member of a named set: `ip saddr . meta l4proto . th dport @web`. */
  | {
      readonly kind: "lookup";
      readonly fields: readonly NftField[];
      /** Of one address field: only so many leading bits are looked for, the rest is cleared: `ip saddr & 255.255.255.0 == @nets`. */
      readonly prefixLength?: number;
      readonly negate?: boolean;
      readonly set: string;
    }
  /** Verdict from a named map; no entry: the next rule. Last statement of a rule: `iifname vmap @pods`. */
  | {
      readonly kind: "vmap";
      readonly fields: readonly NftField[];
      readonly map: string;
    };

export type NftRejectReason =
  | "tcp reset"
  | "icmp port-unreachable"
  | "icmp admin-prohibited"
  | "icmpx port-unreachable"
  | "icmpx admin-prohibited"
  | "icmpx host-unreachable"
  | "icmpx no-route"
  | "icmpv6 port-unreachable"
  | "icmpv6 admin-prohibited";

export type NftAction =
  | { readonly kind: "counter" }
  | {
      readonly kind: "log";
      readonly prefix?: string;
      /** Present: to this nflog group; absent: to the kernel log. */
      readonly group?: number;
      readonly snaplen?: number;
    }
  | {
      readonly kind: "limit";
      readonly rate: number;
      readonly per: "second" | "minute" | "hour" | "day";
      /** Packets; nft's default is 5. */
      readonly burst: number;
      /** Match what exceeds the rate instead of what stays within. */
      readonly over?: boolean;
    }
  /** `ct count over`: more tracked connections than `count` pass through this rule. Behind "ct state new", so that each is counted once. */
  | { readonly kind: "ct-count-over"; readonly count: number }
  /** `ip dscp set` and `ip6 dscp set`: 0 to 63 (RFC 2474), of packets of that family alone. */
  | { readonly kind: "set-dscp"; readonly version: 4 | 6; readonly dscp: number }
  /** `meta mark set`; with `mask` only the bits of the mask change (value must lie within it). */
  | { readonly kind: "set-mark"; readonly value: number; readonly mask?: number }
  /** `ct mark set` to a value, or to the packet's mark. */
  | { readonly kind: "set-ct-mark"; readonly value: number | "meta mark" }
  /** `meta mark set ct mark`. */
  | { readonly kind: "restore-mark" }
  | { readonly kind: "notrack" }
  | { readonly kind: "masquerade"; readonly fullyRandom?: boolean }
  /** `dnat ip to ip daddr map @name`: the address (destination or source) becomes the map's value of the key; no entry: the next rule. Last of a rule. */
  | { readonly kind: "nat-map"; readonly nat: "dnat" | "snat"; readonly version: 4 | 6; readonly fields: readonly NftField[]; readonly map: string }
  | { readonly kind: "reject"; readonly reason: NftRejectReason };

export type NftStatement = NftMatch | NftAction | NftVerdict;

/** Statements run left to right; the first match that fails ends the rule. */
export type NftRule = {
  readonly statements: readonly NftStatement[];
  /** Shown by `nft list`; at most 128 bytes. */
  readonly comment?: string;
};

/**
 * One step of a transaction. "add" of a table, chain or set that exists is no error; of an element neither, unless
 * `exclusive`. "delete" of what is missing fails the whole transaction. A chain or set in use cannot be deleted.
 */
export type NftOperation =
  | { readonly kind: "add-table"; readonly table: NftTable }
  | { readonly kind: "delete-table"; readonly table: NftTable }
  /** Remove all rules of all chains; chains and sets stay. */
  | { readonly kind: "flush-table"; readonly table: NftTable }
  | { readonly kind: "add-chain"; readonly table: NftTable; readonly chain: NftChain }
  | { readonly kind: "delete-chain"; readonly table: NftTable; readonly chain: string }
  | { readonly kind: "flush-chain"; readonly table: NftTable; readonly chain: string }
  /** Append to the chain. */
  | { readonly kind: "add-rule"; readonly table: NftTable; readonly chain: string; readonly rule: NftRule }
  /** `handle` as read back from the kernel. */
  | { readonly kind: "delete-rule"; readonly table: NftTable; readonly chain: string; readonly handle: bigint }
  | { readonly kind: "add-set"; readonly table: NftTable; readonly set: NftSet }
  | { readonly kind: "delete-set"; readonly table: NftTable; readonly set: string }
  | { readonly kind: "flush-set"; readonly table: NftTable; readonly set: string }
  /** The set's declaration comes along because element bytes depend on its key and flags. */
  | {
      readonly kind: "add-elements";
      readonly table: NftTable;
      readonly set: NftSet;
      readonly elements: readonly NftElement[];
      readonly exclusive?: boolean;
    }
  | {
      readonly kind: "delete-elements";
      readonly table: NftTable;
      readonly set: NftSet;
      readonly elements: readonly NftElement[];
    };

/** All of it or nothing, in this order, in one kernel commit. */
export type NftTransaction = {
  readonly operations: readonly NftOperation[];
};

/** The content of one table, as desired or as read back. Maps keep the order of creation. */
export type NftRuleset = {
  readonly table: NftTable;
  readonly chains: ReadonlyMap<string, { readonly chain: NftChain; readonly rules: readonly NftRule[] }>;
  readonly sets: ReadonlyMap<string, { readonly set: NftSet; readonly elements: readonly NftElement[] }>;
};
