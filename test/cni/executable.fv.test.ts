/** The compiled executable and a real agent socket, as a container runtime uses them; no kernel. */
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { exec, execOk } from "../../src/runtime/exec.ts";
import { type CniAgentOptions, runCniAgent } from "../fakes/cni-agent.ts";
import { type CniReply, callCni, cniExecutable, cniInput, hasCniExecutable } from "../fakes/cni-caller.ts";

interface RunningAgent extends AsyncDisposable {
  stop(): Promise<void>;
}

async function startAgent(directory: string, options: Partial<CniAgentOptions> = {}): Promise<RunningAgent> {
  const abort = new AbortController();
  let running: Promise<void> | undefined;
  await new Promise<void>((resolve, reject) => {
    running = runCniAgent({ directory, pools: ["10.65.0.0/24", "fd00:65::/64"], hasKernel: false, ...options }, abort.signal, resolve);
    running.catch(reject);
  });
  const stop = async (): Promise<void> => {
    abort.abort();
    await running;
  };
  return { stop, [Symbol.asyncDispose]: stop };
}

async function temporary(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "sedge-cni-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

const queued = async (directory: string): Promise<readonly string[]> => readdir(join(directory, "cni-queue")).catch(() => []);

describe.skipIf(!hasCniExecutable())("sedge-cni", () => {
  it("ADD, ADD again, CHECK, STATUS, GC, DEL, DEL again", async () => {
    await using directory = await temporary();
    await using _agent = await startAgent(directory.path);
    const added = await callCni(directory.path, { command: "ADD", containerId: "a", netns: "/run/netns/a" });
    expect(added).toMatchObject({ code: 0, stderr: "" });
    expect(added.json).toMatchObject({ cniVersion: "1.1.0", interfaces: [{ mac: "ee:ee:ee:ee:ee:ee" }, { name: "eth0", sandbox: "/run/netns/a" }] });
    expect(added.json.ips?.map(({ address }) => address.slice(address.indexOf("/")))).toEqual(["/32", "/128"]);
    expect((await callCni(directory.path, { command: "ADD", containerId: "a", netns: "/run/netns/a" })).json).toEqual(added.json);
    const prevResult = added.json;
    expect(await callCni(directory.path, { command: "CHECK", containerId: "a", netns: "/run/netns/a", config: { prevResult } })).toMatchObject({
      code: 0,
      stdout: "",
    });
    expect(await callCni(directory.path, { command: "STATUS" })).toMatchObject({ code: 0, stdout: "" });
    await callCni(directory.path, { command: "ADD", containerId: "b", netns: "/run/netns/b" });
    expect(await callCni(directory.path, { command: "GC", config: { "cni.dev/valid-attachments": [{ containerID: "b", ifname: "eth0" }] } })).toMatchObject({
      code: 0,
      stdout: "",
    });
    expect((await callCni(directory.path, { command: "CHECK", containerId: "a", netns: "/run/netns/a", config: { prevResult } })).json.code).toBe(3);
    for (const netns of ["/run/netns/b", ""])
      expect(await callCni(directory.path, { command: "DEL", containerId: "b", netns })).toMatchObject({ code: 0, stdout: "" });
    expect((await callCni(directory.path, { command: "DEL", containerId: "never" })).code).toBe(0);
  });

  it("without an agent: ADD says try again, STATUS not available, DEL is written down and done at the next start", async () => {
    await using directory = await temporary();
    {
      await using _agent = await startAgent(directory.path);
      await callCni(directory.path, { command: "ADD", containerId: "a", netns: "/run/netns/a" });
    }
    expect((await callCni(directory.path, { command: "ADD", containerId: "b", netns: "/run/netns/b" })).json.code).toBe(11);
    expect((await callCni(directory.path, { command: "STATUS" })).json.code).toBe(50);
    expect(await callCni(directory.path, { command: "DEL", containerId: "a", netns: "" })).toMatchObject({ code: 0, stdout: "" });
    expect(await queued(directory.path)).toEqual(["k8s-pod-network.a.eth0.json"]);
    await writeFile(join(directory.path, "cni-queue", "k8s-pod-network.x.eth0.json"), "not json");
    await using _agent = await startAgent(directory.path);
    await expect.poll(() => queued(directory.path), { timeout: 20_000 }).toEqual(["k8s-pod-network.x.eth0.json.corrupt"]);
    const check = await callCni(directory.path, { command: "CHECK", containerId: "a", netns: "/run/netns/a", config: { prevResult: {} } });
    expect(check.json.code).toBe(3);
  });

  it("40 pods at once in a pool of 16: 16 have an address, 24 are told that the pool is full", async () => {
    await using directory = await temporary();
    await using _agent = await startAgent(directory.path, { pools: ["10.65.0.0/28"], blockSize: { v4: 30, v6: 124 } });
    const replies = await Promise.all(
      Array.from({ length: 40 }, (_, i) => callCni(directory.path, { command: "ADD", containerId: `c${i}`, netns: `/run/netns/c${i}` })),
    );
    const given = replies.flatMap(({ json }) => json.ips ?? []).map(({ address }) => address);
    expect([given.length, new Set(given).size]).toEqual([16, 16]);
    const refused = replies.filter(({ code }) => code !== 0);
    expect(refused.map(({ json }) => json.code)).toEqual(Array.from({ length: 24 }, () => 101));
    expect(refused[0]?.json.details).toContain("10.65.0.0/28");
    expect((await callCni(directory.path, { command: "STATUS" })).json.code).toBe(50);
  });

  it("an agent that closes, is silent about the length, or answers garbage", async () => {
    await using directory = await temporary();
    const answers = ["", 'HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{"ok":', "HTTP/1.1 200 OK\r\n\r\nhello"];
    const server = createServer((socket) => socket.once("data", () => socket.end(answers.shift() ?? ""))).listen(join(directory.path, "agent.sock"));
    try {
      const codes: (number | undefined)[] = [];
      for (let i = 0; i < 3; i++) codes.push((await callCni(directory.path, { command: "ADD", containerId: "a", netns: "/run/netns/a" })).json.code);
      expect(codes).toEqual([11, 11, 5]);
    } finally {
      server.close();
    }
  });

  it("a log file gets a line a command, stdout only the result", async () => {
    await using directory = await temporary();
    const logFile = join(directory.path, "cni.log");
    await callCni(directory.path, { command: "ADD", containerId: "a", netns: "/run/netns/a", config: { logFile } });
    expect(JSON.parse(await readFile(logFile, "utf8"))).toMatchObject({ command: "ADD", containerId: "a", ok: false, code: 11 });
  });
});

describe("the agent's socket", () => {
  it("is the owner's alone, takes the place of a dead one, and not of a living one", async () => {
    await using directory = await temporary();
    const socket = join(directory.path, "agent.sock");
    // What a killed agent leaves: a file that nobody listens behind.
    await writeFile(socket, "");
    await using _agent = await startAgent(directory.path);
    expect(((await stat(socket)).mode & 0o777).toString(8)).toBe("600");
    await expect(runCniAgent({ directory: directory.path, pools: [], hasKernel: false }, new AbortController().signal, () => undefined)).rejects.toThrow(
      "is served by another agent",
    );
  });

  it("answers nonsense with what is wrong", async () => {
    await using directory = await temporary();
    await using _agent = await startAgent(directory.path);
    const socket = join(directory.path, "agent.sock");
    const post = async (path: string, body: string): Promise<{ status: number; body: unknown }> => {
      const { request } = await import("node:http");
      return await new Promise((resolve, reject) => {
        const call = request({ socketPath: socket, path, method: "POST" }, (response) => {
          let text = "";
          response.setEncoding("utf8").on("data", (part: string) => (text += part));
          response.on("end", () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) }));
        });
        call.on("error", reject);
        call.end(body);
      });
    };
    expect(await post("/v1/cni/add", "{")).toMatchObject({ status: 400, body: { ok: false, error: { code: 7 } } });
    expect(await post("/v1/cni/add", "{}")).toMatchObject({
      status: 200,
      body: { ok: false, error: { code: 7, details: expect.stringContaining("containerId") as unknown } },
    });
    expect(await post("/v1/cni/add", JSON.stringify({ version: 2 }))).toMatchObject({
      body: { error: { details: expect.stringContaining("version") as unknown } },
    });
    expect(await post("/v1/nothing", "{}")).toMatchObject({ status: 404 });
    expect(await post("/v1/cni/gc", "x".repeat(5 * 1024 * 1024)).catch(() => ({ status: 413 }))).toMatchObject({ status: 413 });
  });
});

describe.skipIf(!hasCniExecutable())("what the executable is given", () => {
  it("text beyond ASCII arrives byte for byte, there and back", async () => {
    await using directory = await temporary();
    const bodies: unknown[] = [];
    const text = "é € 😀 \u0000";
    const server = createServer((socket) =>
      socket.once("data", (bytes: Buffer) => {
        const [head = "", body = ""] = bytes.toString("utf8").split("\r\n\r\n");
        bodies.push(JSON.parse(body), Number(/content-length: (\d+)/i.exec(head)?.[1]) - Buffer.byteLength(body));
        const answer = Buffer.from(JSON.stringify({ ok: false, error: { code: 101, msg: text, details: "" } }));
        socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${answer.length}\r\n\r\n`);
        // Cut within a character.
        socket.write(answer.subarray(0, answer.indexOf("é") + 1), () => socket.end(answer.subarray(answer.indexOf("é") + 1)));
      }),
    ).listen(join(directory.path, "agent.sock"));
    try {
      const netns = "/run/netns/ü€😀";
      const { json } = await callCni(directory.path, { command: "ADD", containerId: "a", netns });
      expect(json.msg).toBe(text);
      expect(bodies).toMatchObject([{ netns }, 0]);
    } finally {
      server.close();
    }
  });

  it("paths that the system refuses: the error says which", async () => {
    await using directory = await temporary();
    const add = async (socket: string): Promise<CniReply["json"]> =>
      (await callCni(directory.path, { command: "ADD", containerId: "a", netns: "/n", config: { socket } })).json;
    expect(await add(`/${"x".repeat(200)}`)).toMatchObject({ code: 11, details: expect.stringContaining("ENAMETOOLONG") as unknown });
    expect(await add("/run/a\u0000b")).toMatchObject({ code: 11, details: expect.stringContaining("EINVAL") as unknown });
    await writeFile(join(directory.path, "file"), "");
    const queueDir = join(directory.path, "file", "queue");
    const del = await callCni(directory.path, { command: "DEL", containerId: "a", config: { queueDir } });
    expect(del.json).toMatchObject({ code: 5, details: expect.stringContaining(`${queueDir}: mkdir ${queueDir}: ENOTDIR`) as unknown });
  });

  it("a queue whose directories are not there: they are made, for the owner alone", async () => {
    await using directory = await temporary();
    const queueDir = join(directory.path, "one", "two", "queue");
    expect((await callCni(directory.path, { command: "DEL", containerId: "a", config: { queueDir } })).code).toBe(0);
    expect(await readdir(queueDir)).toEqual(["k8s-pod-network.a.eth0.json"]);
    expect([(await stat(queueDir)).mode & 0o777, (await stat(join(queueDir, "k8s-pod-network.a.eth0.json"))).mode & 0o777]).toEqual([0o700, 0o600]);
  });

  it("a configuration that is too deep or too long is an error of ours, not the end of the process", async () => {
    const add = async (stdin: string): Promise<unknown> => {
      const { code, stdout } = await exec([cniExecutable], { stdin, env: { ...cniInput("/", { command: "ADD", containerId: "a", netns: "/n" }).env } });
      return { code, json: JSON.parse(stdout) as unknown };
    };
    expect(await add(`{"a":${"[".repeat(1_000_000)}`)).toMatchObject({ code: 1, json: { code: 6 } });
    expect(await add(`"${"x".repeat(16 * 1024 * 1024)}"`)).toMatchObject({ code: 1, json: { code: 5, details: "more than 16777216 bytes" } });
  });
});

describe.skipIf(!hasCniExecutable())("the executable's file", () => {
  it("is linked with all that it needs: it runs on hosts of any libc", async () => {
    const elf = await readFile(cniExecutable);
    // ELF64, elf(5): e_phoff, e_phentsize, e_phnum; p_type is a program header's first field.
    const [offset, size, count] = [Number(elf.readBigUInt64LE(0x20)), elf.readUInt16LE(0x36), elf.readUInt16LE(0x38)];
    const types = Array.from({ length: count }, (_, i) => elf.readUInt32LE(offset + i * size));
    expect(types).toContain(1);
    // PT_INTERP would name the host's dynamic linker.
    expect(types).not.toContain(3);
  });

  it("needs nothing beside it, and says its version without an agent", async () => {
    const output = await execOk([cniExecutable], { stdin: JSON.stringify({ cniVersion: "1.0.0" }), env: { CNI_COMMAND: "VERSION" } });
    expect(JSON.parse(output)).toEqual({ cniVersion: "1.0.0", supportedVersions: ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] });
  });
});
