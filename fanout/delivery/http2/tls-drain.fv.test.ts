/** Over TLS a write is taken later than it is made, and below the socket's high-water mark no "drain" event says so: the session must hear of it all the same. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type CertificateAuthority, createCertificateAuthority } from "../../../src/runtime/tls.ts";
import { RawSyncService } from "../../../src/wire/service.ts";
import type { PeerStream } from "../delivery.ts";
import { startHttp2Delivery } from "./http2-delivery.ts";

/** Above what an answer may have in flight when its place is given to the next (4 KiB), below the high-water mark of a socket. */
const MESSAGE_BYTES = 10_000;

let directory: string;
let authority: CertificateAuthority;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "sedge-drain-"));
  authority = await createCertificateAuthority();
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe.each([1, 5])("a message in %i parts, over TLS", (parts) => {
  it("the handler hears when the transport has taken it, without anything else happening", async () => {
    const files = { ca: join(directory, "ca"), cert: join(directory, "cert"), key: join(directory, "key") };
    const issued = await authority.issue({ commonName: "fanout", hosts: ["127.0.0.1"] });
    writeFileSync(files.ca, authority.cert);
    writeFileSync(files.cert, issued.cert);
    writeFileSync(files.key, issued.key);
    let stream: PeerStream | undefined;
    let isTaken: () => void = () => undefined;
    const taken = new Promise<void>((resolve) => {
      isTaken = resolve;
    });
    const delivery = await startHttp2Delivery({
      listen: [{ host: "127.0.0.1", port: 0, tls: files }],
      accept: (opened) => {
        stream = opened;
        setImmediate(() => {
          for (let i = 0; i < parts; i++) opened.send(Buffer.alloc(MESSAGE_BYTES / parts));
        });
        return {
          onMessage: () => undefined,
          onDrain: () => {
            if (stream?.bytesInFlight === 0) isTaken();
          },
          onClosed: () => undefined,
        };
      },
      unary: () => ({}),
      services: [],
      // Nothing of its own wakes the connection during the test.
      keepaliveMs: 3_600_000,
      keepaliveTimeoutMs: 3_600_000,
      onStreamError: (error) => {
        throw error;
      },
    });
    const agent = await authority.issue({ commonName: "n1", uris: ["spiffe://sedge/node/n1"] });
    const client = connect(`https://${delivery.addresses[0]?.address ?? ""}`, { ca: authority.cert, cert: agent.cert, key: agent.key });
    try {
      const request = client.request({ ":method": "POST", ":path": RawSyncService.sync.path, "content-type": "application/grpc", te: "trailers" });
      request.resume();
      await taken;
      expect(stream?.bytesInFlight).toBe(0);
      request.close();
    } finally {
      client.destroy();
      await delivery.stop(100);
    }
  }, 10_000);
});
