/** `node udp-flood.ts NETNS ADDRESS PORT`: datagrams as fast as one core makes them, until it is killed. Prints "ready" first. */
import { parseIp } from "../../src/net/ip.ts";
import { AF_INET, connectSocket, openSocket, SOCK_DGRAM, sendTo } from "./sockets.ts";

const [netns = "", address = "", port = "0"] = process.argv.slice(2);
const fd = openSocket(netns, AF_INET, SOCK_DGRAM);
connectSocket(fd, { address: parseIp(address), port: Number(port) });
process.stdout.write("ready\n");
const bytes = Buffer.from("flood");
// Killed from outside; a signal needs no turn of the event loop.
for (;;) sendTo(fd, bytes);
