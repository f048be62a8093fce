/**
 * ADD's result in the shape of each CNI version, joined to the result of the plugin before in a chain. Pure.
 *
 * 0.3.1 and 0.4.0 name the family of an address ("version"); 1.0.0 dropped that; 1.1.0 added the interface's mtu.
 */

import type { JsonObject } from "./config.ts";
import { type CniVersion, isSince } from "./versions.ts";

/** What the agent answers an ADD. */
export interface Connection {
  readonly hostInterface: { readonly name: string; readonly mac: string };
  readonly containerInterface: { readonly name: string; readonly mac: string; readonly sandbox: string };
  readonly mtu: number;
  readonly ips: readonly { readonly address: string; readonly gateway: string }[];
  readonly routes: readonly { readonly dst: string; readonly gw: string }[];
}

export function addResult(
  connection: Connection,
  { cniVersion, prevResult = {} }: { readonly cniVersion: CniVersion; readonly prevResult?: JsonObject | undefined },
): JsonObject {
  const { hostInterface, containerInterface, mtu, ips, routes } = connection;
  const before = list(prevResult["interfaces"]);
  const mtuField = isSince(cniVersion, "1.1.0") ? { mtu } : {};
  const container = before.length + 1;
  return {
    ...prevResult,
    cniVersion,
    interfaces: [...before, { ...hostInterface, ...mtuField }, { ...containerInterface, ...mtuField }],
    ips: [
      ...list(prevResult["ips"]),
      ...ips.map(({ address, gateway }) => ({
        ...(isSince(cniVersion, "1.0.0") ? {} : { version: address.includes(":") ? "6" : "4" }),
        interface: container,
        address,
        gateway,
      })),
    ],
    routes: [...list(prevResult["routes"]), ...routes],
    dns: prevResult["dns"] ?? {},
  };
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
