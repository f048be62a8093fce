/** Calls an agent's socket as the CNI executable does, without the executable. */
import { request } from "node:http";

/** undefined: no whole answer came. */
export function askSocket(socketPath: string, verb: string, body: object): Promise<Readonly<Record<string, unknown>> | undefined> {
  return new Promise((resolve) => {
    const call = request(
      { socketPath, path: `/v1/cni/${verb}`, method: "POST", headers: { "content-type": "application/json" }, timeout: 60_000 },
      (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => (text += chunk));
        response.on("error", () => resolve(undefined));
        response.on("close", () => {
          try {
            resolve(response.complete ? (JSON.parse(text) as Readonly<Record<string, unknown>>) : undefined);
          } catch {
            resolve(undefined);
          }
        });
      },
    );
    call.on("error", () => resolve(undefined));
    call.on("timeout", () => call.destroy());
    call.end(JSON.stringify(body));
  });
}
