/** The fan-out server, over both deliveries, judged by foreign gRPC libraries: grpc-go (a node, and grpcurl) and the C core from Python. */
import { execFile } from "node:child_process";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import type { TlsFiles } from "../../fanout/delivery/certificate-files.ts";
import { DELIVERY_KINDS } from "../../fanout/delivery/delivery.ts";
import type { NodeName } from "../../src/model/names.ts";
import { findGoTool } from "../apiserver/start.ts";
import { certificates, type FanoutFixture, namespace, node, pod, policy, pool, startFanout, upsert } from "../fakes/fanout-fixture.ts";
import { foreignClients, runForeignClient } from "./foreign-client.ts";

const run = promisify(execFile);
const UNARY = fileURLToPath(new URL("python/unary.py", import.meta.url));
const WORLD = upsert(
  node("n1", 1),
  node("n2", 2),
  namespace("shop"),
  pool(),
  pod("shop", "web", { node: "n1" as NodeName }),
  policy("shop", "allow-web", "web"),
  ...Array.from({ length: 300 }, (_, n) => pod("shop", `p${n}-${"x".repeat(150)}`, { node: "n1" as NodeName })),
);
const grpcurl = findGoTool("grpcurl");
const clients = foreignClients();
const python = clients.find(({ name }) => name === "python")?.command?.[0];

/** A server with both listeners, and a certificate of node n1 and of an operator. */
async function fixture(delivery: (typeof DELIVERY_KINDS)[number]): Promise<{ f: FanoutFixture; n1: TlsFiles; operator: TlsFiles } & AsyncDisposable> {
  const pki = await certificates();
  const n1 = await pki.files("n1", { commonName: "n1", uris: ["spiffe://sedge/node/n1"] });
  const operator = await pki.files("operator", { commonName: "sedge-operator" });
  const f = await startFanout({ events: WORLD, delivery, tls: pki.tls });
  return {
    f,
    n1,
    operator,
    [Symbol.asyncDispose]: async () => {
      await f.stop();
      await pki[Symbol.asyncDispose]();
    },
  };
}

const tlsFlags = ({ ca, cert, key }: TlsFiles): string[] => ["-cacert", ca, "-cert", cert, "-key", key, "-authority", "localhost"];

describe.each(DELIVERY_KINDS)("foreign clients of the server over %s", (delivery) => {
  for (const client of clients) {
    it.skipIf(client.command === undefined)(
      `${client.name}: a view, a live commit, and a second session, plain and with mTLS${client.command === undefined ? ` (${client.reason})` : ""}`,
      async () => {
        await using all = await fixture(delivery);
        const { f, n1 } = all;
        for (const where of [{ address: f.address }, { address: f.secureAddress, tls: n1 }]) {
          let version = 1;
          const first = await runForeignClient(client, {
            ...where,
            node: "n1",
            commits: 1,
            onLine: ({ inSync }) => {
              if (inSync === true) f.server.sink(upsert(policy("shop", "allow-web", where.address, String(++version))));
            },
          });
          expect(first).toMatchObject({ exitCode: 0 });
          expect(first.end.keys).toHaveLength(f.server.table.viewSize(f.server.table.nodes.idOf("n1" as NodeName)));
          expect(first.lines.filter(({ kind }) => kind === "update").length).toBeGreaterThan(2);
          expect(await runForeignClient(client, { ...where, node: "n1", sessions: 2 })).toMatchObject({ exitCode: 0, end: { keys: first.end.keys } });
        }
      },
    );
  }

  it.skipIf(grpcurl === undefined)("grpcurl: reflection, health, unary and streamed calls, plain and with mTLS", async () => {
    await using all = await fixture(delivery);
    const { f, n1, operator } = all;
    const call = async (flags: readonly string[], address: string, ...words: string[]): Promise<string> =>
      (await run(grpcurl ?? "grpcurl", [...flags, address, ...words])).stdout;
    for (const [address, asOperator, asNode] of [
      [f.address, ["-plaintext"], ["-plaintext"]],
      [f.secureAddress, tlsFlags(operator), tlsFlags(n1)],
    ] as const) {
      expect((await call(asOperator, address, "list")).split("\n")).toContain("sedge.sync.v1.SyncService");
      expect(await call(asOperator, address, "describe", "sedge.sync.v1.SyncService")).toContain("rpc ClaimBlock");
      expect(await call(asOperator, address, "grpc.health.v1.Health/Check")).toContain("SERVING");
      expect(await call(["-d", '{"node":"n1"}', ...asNode], address, "sedge.sync.v1.SyncService/ListBlocks")).toContain("{");
      expect(await call(["-d", '{"keyPrefix":"endpoint/"}', ...asOperator], address, "sedge.sync.v1.IntrospectionService/ListRecords")).toContain(
        "endpoint/shop/web",
      );
      await expect(call(["-d", '{"node":"n9"}', ...tlsFlags(n1)], f.secureAddress, "sedge.sync.v1.SyncService/ListBlocks")).rejects.toThrow("PermissionDenied");
    }
  });

  it.skipIf(python === undefined)("the C core: unary, gzip, reflection, deadlines and refusals, plain and with mTLS", async () => {
    await using all = await fixture(delivery);
    const { f, n1 } = all;
    for (const args of [[f.address], [f.secureAddress, n1.ca, n1.cert, n1.key]]) {
      const { stdout } = await run(python ?? "python3", [UNARY, ...args], { cwd: dirname(UNARY) });
      expect(JSON.parse(stdout)).toEqual({
        health: "0801",
        zipped: "0801",
        reflection: [true, true],
        blocks: "",
        unknown: ["NOT_FOUND", 'no service "nope" here'],
        unimplemented: "UNIMPLEMENTED",
        deadline: "DEADLINE_EXCEEDED",
      });
    }
  });
});
