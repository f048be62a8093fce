/** Agents of the stuck-clients bench: `agents-process.ts PORT FIRST COUNT`. Tells its parent when all have their view; the parent stops the process as a whole. */
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { AgentSession, encodeAck } from "../../src/wire/agent-protocol.ts";
import { View } from "../../src/wire/view.ts";
import { nodeName } from "../fanout/cluster.ts";
import { frameMessage, GrpcStream } from "../fanout/grpc-stream.ts";

const [, , port = "0", first = "0", count = "0"] = process.argv;
/** HTTP/2's own default. */
const WINDOW_BYTES = 65_535;
let live = 0;

for (let i = 0; i < Number(count); i++) {
  const session = new AgentSession({
    identity: {
      node: nodeName(Number(first) + i),
      version: "bench",
      features: ["zstd", "gzip"],
      unpack: ({ compression, data, size }) => (compression === "zstd" ? zstdDecompressSync : gunzipSync)(data, { maxOutputLength: size }),
    },
    view: new View(),
  });
  const stream = new GrpcStream({
    port: Number(port),
    path: "/sedge.sync.v1.SyncService/Sync",
    // As gRPC clients have it: the kernel's buffers alone would take an hour's changes.
    windowBytes: WINDOW_BYTES,
    events: { onMessage: (bytes) => carryOut(session.receive(Uint8Array.from(bytes))), onEnd: (reason) => process.send?.({ ended: reason }) },
  });
  const carryOut = (outputs: ReturnType<AgentSession["receive"]>): void => {
    for (const output of outputs) {
      if (output.kind === "send") stream.send(frameMessage(output.bytes));
      if (output.kind !== "commit") continue;
      const { revision } = output.delta;
      stream.send(frameMessage(encodeAck({ receivedRevision: revision, programmedRevision: revision, failed: [] })));
      if (output.isAnswer && ++live === Number(count)) process.send?.({ live });
    }
  };
  carryOut(session.open());
}
process.on("disconnect", () => process.exit(0));
