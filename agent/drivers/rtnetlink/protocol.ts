/** Numbers of rtnetlink (include/uapi/linux/{rtnetlink,if_link,if_addr,neighbour}.h). */

/** Marks our routes, so that a process without memory recognises them: `ip route show proto 94`. */
export const SEDGE_ROUTE_PROTOCOL = 94;

export const RTM = {
  newLink: 16,
  delLink: 17,
  getLink: 18,
  setLink: 19,
  newAddress: 20,
  delAddress: 21,
  getAddress: 22,
  newRoute: 24,
  delRoute: 25,
  getRoute: 26,
  newNeighbour: 28,
  delNeighbour: 29,
  getNeighbour: 30,
  newQdisc: 36,
  delQdisc: 37,
  getQdisc: 38,
  newFilter: 44,
  setNeighbourTable: 67,
} as const;

export const RTNLGRP = { link: 1, ipv4Address: 5, ipv4Route: 7, ipv6Address: 9, ipv6Route: 11 } as const;

export const AF_INET = 2;
export const AF_INET6 = 10;

export const IFLA = {
  address: 1,
  name: 3,
  mtu: 4,
  link: 5,
  master: 10,
  info: 18,
  group: 27,
  netnsFd: 28,
  extMask: 29,
  txQueues: 31,
  rxQueues: 32,
  afSpec: 26,
} as const;
/** Of a listing: without the counters, which are most of its bytes. */
export const RTEXT_FILTER_SKIP_STATS = 1 << 3;
/** Inside IFLA_AF_SPEC, AF_INET: an attribute for each value of net.ipv4.conf.<name>, by its number in include/uapi/linux/ip.h. */
export const IFLA_INET_CONF = 1;
export const IPV4_DEVCONF = { forwarding: 1, proxyArp: 3 } as const;
export const IFLA_INFO = { kind: 1, data: 2 } as const;
export const VETH_INFO_PEER = 1;
export const IFF_UP = 0x1;
export const IFF_LOWER_UP = 0x10000;

export const IFA = { address: 1, local: 2, flags: 8 } as const;
/** An IPv6 address without duplicate address detection is usable at once. */
export const IFA_F_NODAD = 0x02;

export const RTA = { destination: 1, oif: 4, gateway: 5, priority: 6, preferredSource: 7, metrics: 8, multipath: 9, table: 15 } as const;
export const RTAX_MTU = 2;
export const RTNH_F_ONLINK = 4;
export const RT_TABLE_MAIN = 254;
export const RTN = { unicast: 1, local: 2, broadcast: 3, anycast: 4, multicast: 5, blackhole: 6, unreachable: 7, prohibit: 8, throw: 9 } as const;
export const RT_SCOPE = { universe: 0, site: 200, link: 253, host: 254, nowhere: 255 } as const;

export const NDA = { destination: 1, address: 2 } as const;
export const NDTA = { name: 1, parameters: 6 } as const;
export const NDTPA = { ifindex: 1, proxyDelay: 13 } as const;
export const NUD_PERMANENT = 0x80;

export function familyOf(address: string): typeof AF_INET | typeof AF_INET6 {
  return address.includes(":") ? AF_INET6 : AF_INET;
}

/** Four bytes, little endian, for the fixed headers. */
export function u32Bytes(value: number): [number, number, number, number] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, (value >>> 24) & 0xff];
}

/** "aa:bb:cc:00:11:22" to six bytes. */
export function macBytes(mac: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac)) throw new RangeError(`not a MAC address: ${JSON.stringify(mac)}`);
  return Uint8Array.from(mac.split(":"), (byte) => Number.parseInt(byte, 16));
}

export function macText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}
