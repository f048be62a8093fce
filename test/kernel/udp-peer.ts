/**
 * A UDP sender or receiver as a process of its own, to be run inside a namespace: `node udp-peer.ts receive ADDRESS PORT` and
 * `node udp-peer.ts send ADDRESS PORT INTERVAL_MS [SOURCE]`. Prints "ready", and for each line on stdin one JSON line with what it counted.
 *
 * Each packet has a socket, so a source port, of its own: every packet is the first of a connection, so that none lives on one that was allowed before.
 */
import { createSocket } from "node:dgram";
import { createInterface } from "node:readline";

const [mode, address = "", port = "0", interval = "5", source] = process.argv.slice(2);
const family = address.includes(":") ? "udp6" : "udp4";
const counted = { packets: 0, longestGapMs: 0 };
let last = 0;

if (mode === "receive") {
  const socket = createSocket(family);
  socket.on("message", () => {
    const now = performance.now();
    if (last > 0) counted.longestGapMs = Math.max(counted.longestGapMs, now - last);
    last = now;
    counted.packets++;
  });
  socket.bind(Number(port), address, () => process.stdout.write("ready\n"));
} else {
  setInterval(() => {
    const socket = createSocket(family);
    socket.on("error", () => socket.close());
    socket.bind(0, source, () => {
      // A refusal by the own kernel (EPERM) counts as sent: what matters is what arrives.
      socket.send("probe", Number(port), address, () => {
        counted.packets++;
        socket.close();
      });
    });
  }, Number(interval));
  process.stdout.write("ready\n");
}

createInterface({ input: process.stdin }).on("line", () => process.stdout.write(`${JSON.stringify(counted)}\n`));
