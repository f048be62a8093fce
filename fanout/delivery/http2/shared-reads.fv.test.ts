import { type AddressInfo, connect as connectTcp, createServer, type Server, type Socket } from "node:net";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type CertificateAuthority, createCertificateAuthority } from "../../../src/runtime/tls.ts";
import { SharedReads } from "./shared-reads.ts";

const CLIENTS = 5;
const PIECES = 20;

let authority: CertificateAuthority;

beforeAll(async () => {
  authority = await createCertificateAuthority();
});

const servers: Server[] = [];
afterAll(() => {
  for (const server of servers) server.close();
});

describe.each([false, true])("SharedReads, TLS: %s", (isTls) => {
  it("what each of several sockets sends comes whole, in order and for itself; then its end is seen", async () => {
    const reads = new SharedReads();
    const received = new Map<Socket, string>();
    let isAsData = false;
    let closed = 0;
    let onAllClosed: () => void = () => undefined;
    const allClosed = new Promise<void>((resolve) => {
      onAllClosed = resolve;
    });
    const accept = (socket: Socket): void => {
      received.set(socket, "");
      reads.attach(socket, (bytes) => {
        received.set(socket, (received.get(socket) ?? "") + bytes.toString("latin1"));
        // Whoever kept the view would see this.
        bytes.fill(0);
      });
      isAsData ||= socket.listenerCount("data") > 0;
      socket.on("close", () => {
        if (++closed === CLIENTS) onAllClosed();
      });
    };
    const { cert, key } = await authority.issue({ commonName: "fanout", hosts: ["127.0.0.1"] });
    const server = isTls ? createTlsServer({ cert, key }, accept) : createServer(accept);
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const sent = await Promise.all(
      Array.from({ length: CLIENTS }, async (_, index) => {
        const client = isTls ? connectTls({ port, host: "127.0.0.1", ca: authority.cert }) : connectTcp({ port, host: "127.0.0.1" });
        const text = Array.from({ length: PIECES }, (_unused, piece) => `${index}:${piece};`);
        for (const piece of text) await new Promise<void>((resolve) => client.write(piece, () => resolve()));
        // Longer than the buffer, so that it comes in several reads.
        const long = String(index).repeat(200_000);
        client.end(long);
        return text.join("") + long;
      }),
    );
    await allClosed;
    expect([...received.values()].sort()).toEqual(sent.sort());
    expect(isAsData).toBe(false);
  });
});
