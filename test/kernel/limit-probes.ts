/** Programs that send packets in pods' namespaces, for tests of what limits them: how many datagrams come, how many connections are opened. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { execOk } from "../../src/runtime/exec.ts";

/** Counts UDP datagrams to port 9 and prints how many came, half a second after the last; "ready" first. */
const COUNT = `const s=require("node:dgram").createSocket("udp4");let n=0,t;const end=()=>{console.log(n);process.exit()};s.on("message",()=>{n++;clearTimeout(t);t=setTimeout(end,500)});s.bind(9,()=>{console.log("ready");t=setTimeout(end,4000)})`;
/** Sends so many datagrams of 1000 bytes to ADDRESS, at once. */
const SEND = `const s=require("node:dgram").createSocket("udp4");let n=+process.argv[2];const one=()=>{if(n--===0)return s.close();s.send(Buffer.alloc(1000),9,process.argv[1],one)};one()`;
/** Opens so many TCP connections to ADDRESS port 80 and prints how many were there after a second. */
const CONNECT = `const net=require("node:net");let n=0;for(let i=0;i<+process.argv[2];i++){const s=net.connect(80,process.argv[1],()=>n++);s.on("error",()=>0)}setTimeout(()=>{console.log(n);process.exit()},1000)`;
const ACCEPT = `require("node:net").createServer(()=>0).listen(80,()=>console.log("ready"))`;

/** A namespace by its path. */
export interface Place {
  readonly path: string;
}

/** How many of `count` datagrams come. */
export async function datagramsReceived(options: {
  readonly from: Place;
  readonly to: Place;
  readonly address: string;
  readonly count: number;
}): Promise<number> {
  const { address, count, from, to } = options;
  const counting = start(to, COUNT);
  await counting.ready;
  await run(from, SEND, address, String(count));
  return Number(await counting.rest);
}

/** How many of `count` connections to port 80 are opened. */
export async function connectionsOpened(options: { readonly from: Place; readonly address: string; readonly count: number }): Promise<number> {
  return Number(await run(options.from, CONNECT, options.address, String(options.count)));
}

/** Accepts connections on port 80 until it is disposed. */
export async function acceptConnections(at: Place): Promise<Disposable> {
  const { child, ready } = start(at, ACCEPT);
  await ready;
  return { [Symbol.dispose]: () => void child.kill("SIGKILL") };
}

function command(place: Place, script: string, args: readonly string[]): readonly [string, ...string[]] {
  return ["nsenter", `--net=${place.path}`, process.execPath, "-e", script, ...args];
}

async function run(place: Place, script: string, ...args: readonly string[]): Promise<string> {
  return (await execOk(command(place, script, args))).trim();
}

/** `ready` when it has said so, `rest` is what it printed after that. */
function start(place: Place, script: string): { readonly child: ReturnType<typeof spawn>; readonly ready: Promise<void>; readonly rest: Promise<string> } {
  const [program, ...args] = command(place, script, []);
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.on("data", (bytes: Buffer) => (text += bytes.toString()));
  const ready = new Promise<void>((resolve, reject) => {
    child.stdout.on("data", () => text.includes("ready\n") && resolve());
    child.once("exit", () => reject(new Error("it ended before it was ready")));
  });
  return { child, ready, rest: once(child, "close").then(() => text.replace("ready\n", "").trim()) };
}
