/**
 * Relays: `sedge fanout --upstream`, between the servers and agents, for more nodes than servers that each hold the whole cluster should carry (docs/servers.md).
 *
 * On the nodes' network as the servers are, with no right in the API and no token. The parent is the servers' Service, by the address that the kubelet puts in a
 * variable: names cannot be resolved before agents have brought the pods' network. A relay whose server is lost comes to another one behind that address, and its
 * agents keep their streams. None by default; agents come to them with `agent.servedBy: relay`. Rejected: EndpointSlices, which would be a right in the API.
 */
import { serverObjects } from "./fanout.ts";
import { type KubeObject, PORTS } from "./object.ts";
import type { RenderInput } from "./values.ts";

export function renderRelay({ namespace, values }: RenderInput): readonly KubeObject[] {
  const { relay, images } = values;
  return serverObjects({
    component: "relay",
    namespace,
    images,
    values: relay,
    args: [`--upstream=$(SEDGE_FANOUT_SERVICE_HOST):${PORTS.sync}`, `--upstream-nodes=${relay.nodes}`],
    hasToken: false,
    hasServiceLinks: true,
  });
}
