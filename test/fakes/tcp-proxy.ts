/** A TCP proxy on loopback that misbehaves on request: connections are reset, refused, or fall silent, while the server behind it is well. */
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /** Resets every open connection; new ones pass. */
  resetAll(): void;
  /** Keeps back the bytes of the connections that are open, in both directions, until the next `setMode`; new ones pass. */
  freezeOpen(): void;
  /** "refuse": new connections are reset at once (open ones stay). "stall": bytes are kept back in both directions, on open connections too. */
  setMode(mode: "pass" | "refuse" | "stall"): void;
  /** Where new connections go. */
  retarget(target: TcpTarget): void;
}

export interface TcpTarget {
  readonly host: string;
  readonly port: number;
}

export async function startTcpProxy(first: TcpTarget): Promise<TcpProxy> {
  let target = first;
  let mode: "pass" | "refuse" | "stall" = "pass";
  const pairs = new Set<readonly [Socket, Socket]>();
  const server = createServer((client) => {
    if (mode === "refuse") return void client.resetAndDestroy();
    const upstream = connect(target);
    const pair = [client, upstream] as const;
    pairs.add(pair);
    const end = (): void => {
      pairs.delete(pair);
      for (const socket of pair) if (!socket.destroyed) socket.resetAndDestroy();
    };
    for (const socket of pair) socket.on("error", end).on("close", end);
    client.pipe(upstream);
    upstream.pipe(client);
    if (mode === "stall") for (const socket of pair) socket.pause();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const resetAll = (): void => {
    for (const pair of pairs) for (const socket of pair) socket.resetAndDestroy();
  };
  return {
    port: (server.address() as AddressInfo).port,
    resetAll,
    freezeOpen() {
      for (const pair of pairs) for (const socket of pair) socket.pause();
    },
    setMode(next) {
      mode = next;
      for (const pair of pairs)
        for (const socket of pair)
          if (next === "stall") socket.pause();
          else socket.resume();
    },
    retarget(next) {
      target = next;
    },
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      resetAll();
      await closed;
    },
  };
}
