/** `sedge why NODE KEY`: by which policies and pods a record is in a node's view, as a tree from the record down to the node. */
import type { ExplainRecordResponse, Reason } from "../wire/gen/sedge/sync/v1/introspection.ts";
import type { CtlConfig } from "./config.ts";
import type { Connection } from "./connection.ts";
import { json, print } from "./output.ts";

/** Exit code 1: the record is there and the node does not have it. */
export async function whyCommand(connection: Connection, config: CtlConfig, [node, key]: readonly string[]): Promise<number> {
  if (node === undefined || key === undefined) {
    process.stderr.write("usage: sedge why NODE KEY   (sedge get records --node NODE lists the keys)\n");
    return 2;
  }
  const answer = await connection.call<ExplainRecordResponse>((done) =>
    connection.client.explainRecord({ node, key }, connection.metadata, connection.deadline, done),
  );
  if (config.output === "json") print(json({ node, key, ...answer }));
  else print(explanation(node, key, answer));
  return answer.inView ? 0 : 1;
}

/** A record that several others lead to is unfolded once. */
function explanation(node: string, key: string, { inView, allNodes, audience, revision, reasons, truncated }: ExplainRecordResponse): string {
  const has = allNodes ? "every node has it" : `${audience} ${audience === 1 ? "node has" : "nodes have"} it`;
  const head = `${key} (revision ${revision}, ${has})`;
  if (!inView) return `${head}\nis not in the view of ${node}: nothing on that node needs it\n`;
  const byKey = new Map<string, Reason[]>();
  for (const reason of reasons) byKey.set(reason.by, [...(byKey.get(reason.by) ?? []), reason]);
  const lines: string[] = [head];
  const seen = new Set<string>();
  const unfold = (of: string, indent: string): void => {
    for (const { because, how } of byKey.get(of) ?? []) {
      const isKnown = seen.has(because) && byKey.has(because);
      lines.push(`${indent}← ${because}: ${how}${isKnown ? " (see above)" : ""}`);
      if (isKnown) continue;
      seen.add(because);
      unfold(because, `${indent}  `);
    }
  };
  unfold(key, "  ");
  if (truncated) lines.push("  … and more");
  return `${lines.join("\n")}\n`;
}
