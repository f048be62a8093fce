/** Which addresses the kernel routes to pods now: what is left to know when the journal is lost. */
import { cidrAddress, cidrLength, cidrVersion } from "../../src/net/cidr.ts";
import { ipBits } from "../../src/net/ip.ts";
import type { UsedAddress } from "../addresses/recovery.ts";
import type { Rtnetlink } from "../drivers/rtnetlink/driver.ts";
import { SEDGE_ROUTE_PROTOCOL } from "../drivers/rtnetlink/protocol.ts";

/** Our routes of one address to interfaces with the prefix. */
export function usedPodAddresses(host: Pick<Rtnetlink, "links" | "routes">, interfacePrefix: string): readonly UsedAddress[] {
  const names = new Map(host.links().map(({ index, name }) => [index, name]));
  const used: UsedAddress[] = [];
  for (const { destination, linkIndex } of host.routes({ protocol: SEDGE_ROUTE_PROTOCOL })) {
    const interfaceName = linkIndex === undefined ? undefined : names.get(linkIndex);
    const isHost = cidrLength(destination) === ipBits(cidrVersion(destination));
    if (isHost && interfaceName?.startsWith(interfacePrefix) === true) used.push({ address: cidrAddress(destination), interfaceName });
  }
  return used;
}
