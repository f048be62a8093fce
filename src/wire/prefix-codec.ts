/** Prefixes on the wire: address bytes and a length. */
import { type Cidr, cidrAddress, cidrFromBytes, cidrLength } from "../net/cidr.ts";
import { ipBytes } from "../net/ip.ts";
import type * as gen from "./gen/sedge/sync/v1/records.ts";

export function prefixToWire(cidr: Cidr): gen.Prefix {
  return { address: Buffer.from(ipBytes(cidrAddress(cidr))), length: cidrLength(cidr) };
}

/** Throws RangeError when it is no prefix or has host bits. */
export function prefixFromWire(prefix: gen.Prefix): Cidr {
  const cidr = cidrFromBytes(prefix.address, prefix.length);
  if (prefix.length > prefix.address.length * 8) throw new RangeError(`prefix ${cidr} is too long`);
  return cidr;
}
