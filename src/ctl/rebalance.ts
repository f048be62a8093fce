/** `sedge rebalance [--dry-run]`: agents go to the server that is their first choice, at a pace. */
import type { RebalanceResponse } from "../wire/gen/sedge/sync/v1/introspection.ts";
import type { CtlConfig } from "./config.ts";
import { duration, json, print } from "./output.ts";
import { askServers, exitCodeOf } from "./servers.ts";

export async function rebalanceCommand(config: CtlConfig): Promise<number> {
  const request = { movesPerSecond: config.movesPerSecond ?? 0, dryRun: config.dryRun === true };
  const { answers, failed } = await askServers(config, (connection) =>
    connection.call<RebalanceResponse>((done) => connection.client.rebalance(request, connection.metadata, connection.deadline, done)),
  );
  if (config.output === "json") print(json(answers.map(({ server, value }) => ({ server, ...value }))));
  else
    for (const { server, value } of answers)
      print(
        `${server}: ${value.moving} agents ${config.dryRun === true ? "would be" : "are"} asked to move to their first choice, the last in ${duration(Number(value.spanMs))}; ${value.staying} stay`,
      );
  return exitCodeOf("rebalance", failed);
}
