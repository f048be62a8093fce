/** `node packets.ts`: sends datagrams to many addresses and prints what the fastest of some rounds took for each (ns). For kernel-sets, in its namespace. */
import { createSocket } from "node:dgram";
import { performance } from "node:perf_hooks";

const ROUNDS = 12;
const BATCHES = 40;
const BATCH = 64;

const socket = createSocket("udp4");
const send = (address: string): Promise<void> =>
  new Promise((resolve, reject) => socket.send("x", 9, address, (error) => (error === null ? resolve() : reject(error))));
// Outside of all members.
const addresses = Array.from({ length: BATCH }, (_, i) => `${100 + (i >> 2)}.${(i * 37) & 255}.${(i * 101) & 255}.${i + 1}`);
let fastest = Number.POSITIVE_INFINITY;
for (let round = 0; round < ROUNDS; round++) {
  const began = performance.now();
  for (let batch = 0; batch < BATCHES; batch++) await Promise.all(addresses.map(send));
  fastest = Math.min(fastest, ((performance.now() - began) * 1e6) / (BATCHES * BATCH));
}
socket.close();
process.stdout.write(`${Math.round(fastest)}\n`);
