/**
 * Run inside the fabric's namespace: carries TCP connections from the fabric to the server's unix socket, as a Service's address would. TLS goes
 * through end to end. So the server needs no foot in a namespace of the demo, and the demo none in the machine's.
 */
import { createConnection, createServer } from "node:net";

const [host = "", port = "", socketPath = ""] = process.argv.slice(2);

createServer((client) => {
  const server = createConnection(socketPath);
  const end = (): void => {
    client.destroy();
    server.destroy();
  };
  client.on("error", end).on("close", end).pipe(server);
  server.on("error", end).on("close", end).pipe(client);
}).listen(Number(port), host);
