/** projectcalico.org/v3 IPReservation. */
import { hasHostBits, hostCidr, tryParseCidr } from "../net/cidr.ts";
import { tryParseIp } from "../net/ip.ts";
import type { Parsed } from "./event.ts";
import { type ParseOptions, parseFields } from "./field.ts";
import { readMetadata } from "./parse-metadata.ts";
import type { IpReservation } from "./resource.ts";

export function parseIpReservation(object: unknown, options: ParseOptions = {}): Parsed<IpReservation> {
  return parseFields(object, options, (root) => {
    const metadata = readMetadata(root);
    const reservedCidrs = root
      .child("spec")
      .object(["reservedCIDRs"])
      .child("reservedCIDRs")
      .items()
      .flatMap((item) => {
        const text = item.string() ?? "";
        const address = tryParseIp(text);
        const cidr = address === undefined ? tryParseCidr(text) : hostCidr(address);
        if (cidr === undefined) item.problem(`${JSON.stringify(text)} is not a prefix; write ADDRESS/LENGTH, for example 10.65.0.0/29`);
        else if (address === undefined && hasHostBits(text)) item.problem(`${JSON.stringify(text)} has host bits; write ${cidr}`);
        return cidr ?? [];
      });
    return { kind: "IPReservation", name: metadata.name, resourceVersion: metadata.resourceVersion, reservedCidrs };
  });
}
