/**
 * kill -9 of the CNI executable at each step of an ADD and of a DEL, and at each file system call of a DEL that it leaves on disk. The steps are told apart
 * from outside: by what its stdin, the socket that it asks and its stdout let it do. Afterwards, as a runtime does: again. The same address, freed by a DEL.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { exec, execOk } from "../../src/runtime/exec.ts";
import { type CniAgentOptions, runCniAgent } from "../fakes/cni-agent.ts";
import { type CniCall, type CniReply, callCni, cniExecutable, cniInput, hasCniExecutable } from "../fakes/cni-caller.ts";

const dyingQueue = new URL("../fakes/dying-queue-delete.ts", import.meta.url).pathname;

const STEPS = ["reads its configuration", "is connected", "has sent the request", "is worked for", "has half of the answer", "prints"] as const;
type Step = (typeof STEPS)[number];

/** An agent that is started and stopped, behind a socket of the test's own. */
class World implements AsyncDisposable {
  readonly directory: string;
  #stop = new AbortController();
  #running: Promise<void> | undefined;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async start(): Promise<World> {
    const world = new World(await mkdtemp(join(tmpdir(), "sedge-kill-")));
    await world.startAgent();
    return world;
  }

  async startAgent(): Promise<void> {
    const options: CniAgentOptions = { directory: this.directory, pools: ["10.65.0.0/24", "fd00:65::/64"], hasKernel: false };
    this.#stop = new AbortController();
    await new Promise<void>((resolve, reject) => {
      this.#running = runCniAgent(options, this.#stop.signal, resolve);
      this.#running.catch(reject);
    });
  }

  async stopAgent(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  /** The executable's end at the step; `isSecondAsk`: its first connection breaks, so that a DEL goes to the queue and asks again. */
  async killAt(step: Step, call: CniCall, { isSecondAsk = false } = {}): Promise<void> {
    const path = join(this.directory, "between.sock");
    const fifo = join(this.directory, "stdout");
    const { env, stdin } = cniInput(this.directory, { ...call, config: { socket: path } });
    let child: ChildProcess | undefined;
    const kill = (): void => void child?.kill("SIGKILL");
    let asks = 0;
    const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
      socket.on("error", () => undefined);
      if (isSecondAsk && asks++ === 0) socket.destroy();
      else this.#serve(step, socket, kill);
    }).listen(path);
    await once(server, "listening");
    await execOk(["mkfifo", fifo]);
    const [reader, writer] = [openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK), openSync(fifo, constants.O_WRONLY)];
    try {
      // Full: whoever prints waits.
      for (const bytes of [Buffer.alloc(4096), Buffer.alloc(1)]) while (tryWrite(reader, bytes));
      child = spawn(cniExecutable, [], { env, stdio: ["pipe", writer, "inherit"] });
      const ended = once(child, "exit");
      child.stdin?.on("error", () => undefined);
      if (step === "reads its configuration") child.stdin?.write(stdin.slice(0, 20), kill);
      else child.stdin?.end(stdin);
      expect(await ended, step).toEqual([null, "SIGKILL"]);
    } finally {
      closeSync(reader);
      closeSync(writer);
      await new Promise((resolve) => server.close(resolve));
      await rm(fifo);
    }
  }

  #serve(step: Step, socket: Socket, kill: () => void): void {
    const end = (): void => {
      kill();
      socket.destroy();
    };
    if (step === "is connected") return end();
    socket.once("data", (request: Buffer) => {
      if (step === "has sent the request") return end();
      const agent = connect(join(this.directory, "agent.sock"));
      let answer = Buffer.alloc(0);
      agent.on("data", (bytes: Buffer) => (answer = Buffer.concat([answer, bytes])));
      agent.once("end", () => {
        if (step === "has half of the answer") socket.write(answer.subarray(0, answer.length >> 1), end);
        else if (step === "prints") socket.end(answer);
      });
      // It closes the connection before it prints.
      if (step === "prints") socket.once("close", kill);
      agent.write(request, () => step === "is worked for" && end());
    });
    socket.resume();
  }

  async call(command: string): Promise<CniReply> {
    return await callCni(this.directory, { command, containerId: "a", netns: "/run/netns/a" });
  }

  async used(): Promise<readonly string[]> {
    const blocks = JSON.parse(await readFile(join(this.directory, "api.json"), "utf8")) as { allocations: { address: string }[] }[];
    return blocks.flatMap(({ allocations }) => allocations.map(({ address }) => address)).sort();
  }

  async queued(): Promise<readonly string[]> {
    const names = await readdir(join(this.directory, "cni-queue")).catch(() => []);
    return names.filter((name) => name.endsWith(".json"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopAgent();
    await rm(this.directory, { recursive: true });
  }
}

function tryWrite(file: number, bytes: Uint8Array): boolean {
  try {
    return writeSync(file, bytes) > 0;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return false;
    throw error;
  }
}

const addresses = ({ json }: CniReply): readonly string[] => (json.ips ?? []).map(({ address }) => address.split("/")[0] ?? "").sort();
const CALL = { containerId: "a", netns: "/run/netns/a" };

describe.skipIf(!hasCniExecutable())("kill -9 of the executable", () => {
  it.each(STEPS)("while an ADD %s: again it gives one address of each family, the same as before, and a DEL frees it", async (step) => {
    await using world = await World.start();
    await world.killAt(step, { ...CALL, command: "ADD" });
    if (step === "has half of the answer" || step === "prints") expect(await world.used()).toHaveLength(2);
    const again = await world.call("ADD");
    expect(again.code, again.stdout).toBe(0);
    expect(addresses(again)).toHaveLength(2);
    await expect.poll(() => world.used()).toEqual(addresses(again));
    expect(addresses(await world.call("ADD"))).toEqual(addresses(again));
    expect((await world.call("DEL")).code).toBe(0);
    await expect.poll(() => world.used()).toEqual([]);
  });

  it.each(STEPS)("while an ADD %s and is never asked for again: a DEL frees all", async (step) => {
    await using world = await World.start();
    await world.killAt(step, { ...CALL, command: "ADD" });
    expect((await world.call("DEL")).code).toBe(0);
    // The ADD may still be at work; its DEL comes behind it.
    await expect.poll(() => world.used().catch(() => [])).toEqual([]);
  });

  // A DEL prints nothing.
  it.each(STEPS.filter((step) => step !== "prints"))("while a DEL %s: again it frees the address", async (step) => {
    await using world = await World.start();
    expect((await world.call("ADD")).code).toBe(0);
    await world.killAt(step, { ...CALL, command: "DEL" });
    expect((await world.call("DEL")).code).toBe(0);
    await expect.poll(() => world.used()).toEqual([]);
    expect(addresses(await world.call("ADD"))).toHaveLength(2);
  });

  it.each(["is connected", "is worked for"] as const)(
    "while a DEL that is on disk asks again and %s: the same container added anew keeps its address",
    async (step) => {
      await using world = await World.start();
      expect((await world.call("ADD")).code).toBe(0);
      await world.killAt(step, { ...CALL, command: "DEL" }, { isSecondAsk: true });
      expect(await world.queued()).toHaveLength(1);
      // The runtime asks again, and its DEL is answered by the agent; the file of the killed one is still there when the container comes back.
      expect((await world.call("DEL")).code).toBe(0);
      const again = await world.call("ADD");
      expect(again.code, again.stdout).toBe(0);
      expect(await world.queued()).toEqual([]);
      await expect.poll(() => world.used()).toEqual(addresses(again));
    },
  );

  it("at each file system call of a DEL for an agent that is away: no file or a whole one, and again it frees the address", async () => {
    await using world = await World.start();
    const request = { version: 1, containerId: "a", netns: "", ifname: "eth0", args: {}, config: { name: "k8s-pod-network" } };
    const queue = join(world.directory, "cni-queue");
    const found: string[] = [];
    for (let at = 1; ; at++) {
      expect((await world.call("ADD")).code).toBe(0);
      await world.stopAgent();
      const { signal } = await exec([process.execPath, dyingQueue, queue, String(at), JSON.stringify(request)]);
      const files = await world.queued();
      found.push(`${signal === "SIGKILL" ? "killed" : "ended"}, ${files.length}`);
      for (const name of files) expect(JSON.parse(await readFile(join(queue, name), "utf8"))).toEqual(request);
      // Half of the runtimes ask again while there is no agent.
      if (at % 2 === 0) expect((await world.call("DEL")).code).toBe(0);
      await world.startAgent();
      await expect.poll(() => world.queued()).toEqual([]);
      expect((await world.call("DEL")).code).toBe(0);
      await expect.poll(() => world.used()).toEqual([]);
      if (signal !== "SIGKILL") break;
    }
    // Directory, open, write, sync, close, rename; then it is there: open, sync, close of the directory.
    expect(found).toEqual([...Array<string>(6).fill("killed, 0"), ...Array<string>(3).fill("killed, 1"), "ended, 1"]);
  });
});
