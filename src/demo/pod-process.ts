/**
 * The program in each pod of the demo: answers on TCP and UDP with the pod's name, and probes others when told to.
 *
 * stdin: a JSON line a request, {"id", "protocol": "tcp"|"udp", "address", "port", "timeoutMs"}; stdout: {"id", "answer": name | null, "error"}.
 * The process lives as long as its stdin is open. null is silence until the time-out; `error` is set when the network said no (a refusal, which policy never does).
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createConnection, createServer } from "node:net";
import { createInterface } from "node:readline";

interface Request {
  readonly id: number;
  readonly protocol: "tcp" | "udp";
  readonly address: string;
  readonly port: number;
  readonly timeoutMs: number;
}

interface Answer {
  readonly answer: string | null;
  readonly error?: string;
}

const [name = "", ports = ""] = process.argv.slice(2);

/** Resolves when both sockets of the port answer. */
async function serve(port: number): Promise<void> {
  const tcp = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.end(name);
  });
  tcp.listen(port, "::").unref();
  const udp = createSocket({ type: "udp6", ipv6Only: false });
  udp.on("message", (_message, from) => udp.send(name, from.port, from.address));
  udp.bind(port, "::").unref();
  await Promise.all([once(tcp, "listening"), once(udp, "listening")]);
}

function probeTcp({ address, port, timeoutMs }: Request): Promise<Answer> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: address, port });
    let text = "";
    const finish = (answer: Answer): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    const timer = setTimeout(() => finish({ answer: null }), timeoutMs);
    socket.setEncoding("utf8").on("data", (part: string) => {
      text += part;
    });
    socket.on("end", () => finish({ answer: text }));
    socket.on("error", (error) => finish({ answer: null, error: error.message }));
  });
}

/**
 * Each datagram from a port of its own: with a port that the kernel chooses, a probe now and then continues the connection of one that was allowed before
 * (conntrack remembers it for half a minute), and policy does not judge what is established.
 */
const FIRST_SOURCE_PORT = 20_000;
const SOURCE_PORTS = 12_000;
let probesSent = 0;

function probeUdp({ address, port, timeoutMs }: Request): Promise<Answer> {
  return new Promise((resolve) => {
    const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
    const finish = (answer: Answer): void => {
      clearTimeout(timer);
      clearInterval(again);
      socket.close();
      resolve(answer);
    };
    const send = (): void => socket.send("?", port, address);
    const timer = setTimeout(() => finish({ answer: null }), timeoutMs);
    // A datagram may be lost to neighbour discovery's first question: ask again within the time.
    const again = setInterval(send, Math.max(50, timeoutMs / 4));
    socket.on("message", (message) => finish({ answer: message.toString("utf8") }));
    socket.on("error", (error) => finish({ answer: null, error: error.message }));
    socket.bind(FIRST_SOURCE_PORT + (probesSent++ % SOURCE_PORTS), send);
  });
}

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const request = JSON.parse(line) as Request;
  const probe = request.protocol === "tcp" ? probeTcp(request) : probeUdp(request);
  void probe.then((answer) => process.stdout.write(`${JSON.stringify({ id: request.id, ...answer })}\n`));
});
await Promise.all(ports.split(",").map((port) => serve(Number(port))));
process.stdout.write(`${JSON.stringify({ id: 0, answer: name })}\n`);
