// The plainest client that can put questions to a Kubernetes API: one request, one answer, and a watch whose events can be awaited.
// It shares no code with the source or the servers, so that it can judge both.

import { readFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { Agent, request as httpsRequest } from "node:https";
import { parse } from "yaml";

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
export type Body = { [key: string]: Json };

export interface Answer {
  readonly code: number;
  readonly headers: IncomingMessage["headers"];
  readonly text: string;
  readonly body: Body;
}

export interface Ask {
  readonly body?: Json;
  readonly type?: string;
  readonly accept?: string;
  readonly token?: string;
}

export interface WatchEvent {
  readonly type: string;
  readonly object: Body;
}

/** Follows a path of keys and indexes; undefined when it leads nowhere. */
export function at(value: Json | undefined, ...path: readonly (string | number)[]): Json | undefined {
  let current: Json | undefined = value;
  for (const step of path) current = typeof current === "object" && current !== null ? (current as { [key: string]: Json | undefined })[step] : undefined;
  return current;
}

/** The text or number at a path, as text; "undefined" when there is none. */
export function textAt(value: Json | undefined, ...path: readonly (string | number)[]): string {
  const found = at(value, ...path);
  return typeof found === "object" ? JSON.stringify(found) : String(found);
}

/** A watch: events in the order in which they came. */
export class WatchStream {
  readonly #events: WatchEvent[] = [];
  readonly #response: IncomingMessage;
  #read = 0;
  #isOver = false;
  #wake: () => void = () => undefined;

  constructor(response: IncomingMessage) {
    this.#response = response;
    let rest = "";
    response.setEncoding("utf8");
    response.on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line.trim() !== "") this.#events.push(JSON.parse(line) as WatchEvent);
      this.#wake();
    });
    const end = (): void => {
      this.#isOver = true;
      this.#wake();
    };
    response.on("end", end).on("close", end).on("error", end);
  }

  /** The next event, bookmarks left out unless asked for; undefined when the server ended the watch. */
  async next(options: { readonly withBookmarks?: boolean } = {}): Promise<WatchEvent | undefined> {
    for (;;) {
      const event = this.#events[this.#read];
      if (event !== undefined) {
        this.#read++;
        if (event.type === "BOOKMARK" && options.withBookmarks !== true) continue;
        return event;
      }
      if (this.#isOver) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  close(): void {
    this.#response.destroy();
  }
}

export class ApiClient {
  readonly #url: URL;
  readonly #agent: Agent;
  readonly #token: string | undefined;

  constructor(kubeconfigPath: string) {
    const config = parse(readFileSync(kubeconfigPath, "utf8")) as Json;
    const cluster = at(config, "clusters", 0, "cluster");
    const user = at(config, "users", 0, "user");
    const data = (value: Json | undefined): string | undefined => (typeof value === "string" ? Buffer.from(value, "base64").toString("utf8") : undefined);
    const [ca, cert, key] = [data(at(cluster, "certificate-authority-data")), data(at(user, "client-certificate-data")), data(at(user, "client-key-data"))];
    const file = at(cluster, "certificate-authority");
    const token = at(user, "token");
    this.#url = new URL(textAt(cluster, "server"));
    this.#token = typeof token === "string" ? token : undefined;
    this.#agent = new Agent({
      keepAlive: true,
      ...(typeof file === "string" ? { ca: readFileSync(file) } : {}),
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
    });
  }

  close(): void {
    this.#agent.destroy();
  }

  async ask(method: string, path: string, options: Ask = {}): Promise<Answer> {
    const response = await this.#send(method, path, options);
    response.setEncoding("utf8");
    let text = "";
    for await (const chunk of response) text += String(chunk);
    // The real server sends its OpenAPI index as text/plain.
    return { code: response.statusCode ?? 0, headers: response.headers, text, body: text.startsWith("{") ? (JSON.parse(text) as Body) : {} };
  }

  async watch(path: string, options: Ask = {}): Promise<WatchStream> {
    const response = await this.#send("GET", path, options);
    if (response.statusCode !== 200) throw new Error(`watch ${path}: HTTP ${response.statusCode}`);
    return new WatchStream(response);
  }

  #send(method: string, path: string, { body, type = "application/json", accept = "application/json", token = this.#token }: Ask): Promise<IncomingMessage> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const request = httpsRequest(new URL(path, this.#url), {
        method,
        agent: this.#agent,
        headers: {
          accept,
          "user-agent": "api-suite/1",
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(text === undefined ? {} : { "content-type": type, "content-length": Buffer.byteLength(text) }),
        },
      });
      request.on("response", resolve).on("error", reject);
      request.end(text);
    });
  }
}
