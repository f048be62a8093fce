import type { PeerCertificate } from "node:tls";
import { describe, expect, it } from "vitest";
import { verifyServer } from "./server-identity.ts";

const check = (address: string, subjectaltname: string | undefined): Error | undefined =>
  verifyServer(address).checkServerIdentity?.("sedge-fanout", { subject: { CN: "x" }, subjectaltname } as PeerCertificate);

describe("verifyServer", () => {
  it.each([
    ["a server by its URI, whatever was dialled", "10.0.0.1:5473", "URI:spiffe://sedge/fanout", true],
    ["a relay by its URI", "10.0.0.1:5473", "URI:spiffe://sedge/relay/r1", true],
    ["the URI on a unix socket", "unix:/run/x", "DNS:x, URI:spiffe://sedge/fanout", true],
    ["the address dialled", "10.0.0.1:5473", "IP Address:10.0.0.1", true],
    ["the name dialled", "fanout.example:5473", "DNS:fanout.example", true],
    ["another address", "10.0.0.1:5473", "IP Address:10.0.0.2", false],
    ["an IPv6 address", "[fd00::1]:5473", "IP Address:FD00:0:0:0:0:0:0:1", true],
    ["a node", "10.0.0.1:5473", "URI:spiffe://sedge/node/n1", false],
    ["an operator", "10.0.0.1:5473", "URI:spiffe://sedge/operator", false],
    ["a URI that only begins so", "10.0.0.1:5473", "URI:spiffe://sedge/fanout2", false],
    ["a URI inside a quoted name", "10.0.0.1:5473", 'DNS:"a, URI:spiffe://sedge/fanout"', false],
    ["no name on a unix socket", "unix:/run/x", "DNS:x", false],
    ["no names", "10.0.0.1:5473", undefined, false],
  ])("%s", (_what, address, names, isServer) => {
    expect(check(address, names) === undefined).toBe(isServer);
  });
});
