import { expect, it } from "vitest";
import { recordName } from "./record-name.ts";

it.each([
  ["policy/KubernetesNetworkPolicy/shop/web", "NetworkPolicy shop/web"],
  ["policy/NetworkPolicy/shop/web", "NetworkPolicy.projectcalico.org shop/web"],
  ["policy/GlobalNetworkPolicy//deny", "GlobalNetworkPolicy deny"],
  ["policy/ClusterNetworkPolicy//x", "ClusterNetworkPolicy x"],
  ["policy/Profile//p", "Profile p"],
  ["endpoint/shop/web-1", "pod shop/web-1"],
  ["host/n1-eth0", "HostEndpoint n1-eth0"],
  ["node/n1", "node n1"],
  ["pool/main", "IPPool main"],
  ["set/abc/01", "set/abc/01"],
  ["stack/abc", "stack/abc"],
  ["", ""],
])("recordName: %s → %s", (key, name) => expect(recordName(key)).toBe(name));
