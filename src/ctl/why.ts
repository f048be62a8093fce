/**
 * `sedge why NODE OBJECT`: by which policies and pods a record is in a node's view, as a tree from the record down to the node. The object is the record's key,
 * or a policy or pod as people call it: shop/web, gnp/deny-all, pod/shop/web-1.
 */

import { recordName } from "../model/record-name.ts";
import type { ExplainRecordResponse, Reason } from "../wire/gen/sedge/sync/v1/introspection.ts";
import type { CtlConfig } from "./config.ts";
import { CallError, type Connection } from "./connection.ts";
import { recordKeysOf } from "./object-name.ts";
import { json, print } from "./output.ts";

/** Exit code 1: the record is there and the node does not have it. */
export async function whyCommand(connection: Connection, config: CtlConfig, [node, name]: readonly string[]): Promise<number> {
  if (node === undefined || name === undefined) {
    process.stderr.write("usage: sedge why NODE OBJECT   (a policy's name, pod/NAMESPACE/NAME, or a key of sedge get records --node NODE)\n");
    return 2;
  }
  const { key, answer } = await explain(connection, node, recordKeysOf(name, config.namespace));
  if (config.output === "json") print(json({ node, key, ...answer }));
  else print(explanation(node, key, answer));
  return answer.inView ? 0 : 1;
}

/** Of the first key that there is a record of; rejects as for the first when there is none. */
async function explain(
  connection: Connection,
  node: string,
  keys: readonly string[],
): Promise<{ readonly key: string; readonly answer: ExplainRecordResponse }> {
  let notFound: unknown;
  for (const key of keys) {
    try {
      const answer = await connection.call<ExplainRecordResponse>((done) =>
        connection.client.explainRecord({ node, key }, connection.metadata, connection.deadline, done),
      );
      return { key, answer };
    } catch (error) {
      if (!(error instanceof CallError && error.code === "NOT_FOUND")) throw error;
      notFound ??= error;
    }
  }
  throw notFound;
}

/** A record that several others lead to is unfolded once. */
function explanation(node: string, key: string, { inView, allNodes, audience, revision, reasons, truncated }: ExplainRecordResponse): string {
  const has = allNodes ? "every node has it" : `${audience} ${audience === 1 ? "node has" : "nodes have"} it`;
  const head = `${recordName(key)} (revision ${revision}, ${has})`;
  if (!inView) return `${head}\nis not in the view of ${node}: nothing on that node needs it\n`;
  const byKey = new Map<string, Reason[]>();
  for (const reason of reasons) byKey.set(reason.by, [...(byKey.get(reason.by) ?? []), reason]);
  const lines: string[] = [head];
  const seen = new Set<string>();
  const unfold = (of: string, indent: string): void => {
    for (const { because, how } of byKey.get(of) ?? []) {
      const isKnown = seen.has(because) && byKey.has(because);
      lines.push(`${indent}← ${recordName(because)}: ${how}${isKnown ? " (see above)" : ""}`);
      if (isKnown) continue;
      seen.add(because);
      unfold(because, `${indent}  `);
    }
  };
  unfold(key, "  ");
  if (truncated) lines.push("  … and more");
  return `${lines.join("\n")}\n`;
}
