/** The agent's own unix socket: JSON over HTTP. Only who may open the file (root) gets through. */
import { request } from "node:http";

export interface AgentCall {
  readonly socketPath: string;
  readonly timeoutMs: number;
  /** "/v1/status" */
  readonly path: string;
  /** POST with this as JSON; GET without. */
  readonly body?: unknown;
}

/** The agent of this node did not give an answer; the message names the socket. */
export class AgentCallError extends Error {
  readonly code = "AGENT_CALL";
}

/** The answer's JSON. Rejects with AgentCallError, which names the socket: nobody serves it, no answer in time, no JSON, or the agent's own refusal. */
export function callAgent({ socketPath, timeoutMs, path, body }: AgentCall): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path, timeout: timeoutMs, method: body === undefined ? "GET" : "POST" }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => {
        text += part;
      });
      response.on("end", () => {
        let answer: unknown;
        try {
          answer = JSON.parse(text);
        } catch {
          reject(new AgentCallError(`${socketPath}: not an agent's answer: ${text.slice(0, 200)}`));
          return;
        }
        if (response.statusCode === 200) resolve(answer);
        else reject(new AgentCallError(`${socketPath}: ${path} was refused (${response.statusCode ?? "?"}): ${text.slice(0, 500)}`));
      });
    });
    call.on("timeout", () => call.destroy(new Error("no answer in time")));
    call.on("error", (error) => reject(new AgentCallError(`${socketPath}: ${error.message} (is the agent of this node running? --socket names its socket)`)));
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
