/** `sedge policy status NAMESPACE/NAME`: on how many of the nodes concerned the object's present state is in the kernel, and which lag and why. */
import type { GetObjectStatusResponse } from "../wire/gen/sedge/sync/v1/introspection.ts";
import type { CtlConfig } from "./config.ts";
import type { Connection } from "./connection.ts";
import { json, print } from "./output.ts";

export async function policyStatusCommand(connection: Connection, config: CtlConfig, [name]: readonly string[]): Promise<number> {
  const [namespace = "", policy = ""] = (name ?? "").split("/");
  if (namespace === "" || policy === "") {
    process.stderr.write("usage: sedge policy status NAMESPACE/NAME\n");
    return 2;
  }
  const request = { kind: "NetworkPolicy", namespace, name: policy };
  const status = await connection.call<GetObjectStatusResponse>((done) =>
    connection.client.getObjectStatus(request, connection.metadata, connection.deadline, done),
  );
  if (config.output === "json") {
    print(json({ ...request, ...status }));
    return 0;
  }
  const ms = Number(status.programmedAtUnixUs - status.committedAtUnixUs) / 1000;
  print(
    `NetworkPolicy ${namespace}/${policy} (resourceVersion ${status.resourceVersion}, revision ${status.revision}): in force on ${status.nodesProgrammed} of ${status.nodes} nodes${
      status.programmedAtUnixUs > 0n ? `, ${ms.toFixed(1)} ms after its commit` : ""
    }`,
  );
  for (const { node, reason } of status.lagging) print(`  ${node}: ${reason}`);
  return 0;
}
