/**
 * `sedge demo`, what `npm start` runs: a cluster of three nodes on this machine, pods through the CNI executable, policies, real packets.
 *
 * Exit codes: 0 all as expected (or ended by Ctrl-C), 1 something was not as expected or failed, or a demo of that name runs already, 2 wrong flags.
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiClient } from "../datastore/api-client.ts";
import { findConnection } from "../datastore/kubeconfig.ts";
import { describeFlags, loadConfig } from "../runtime/config.ts";
import { Children, logTail } from "./children.ts";
import { deleteCluster } from "./cluster.ts";
import { demoSchema } from "./config.ts";
import { DemoNetwork } from "./network.ts";
import { Registry } from "./registry.ts";
import { Show } from "./show.ts";

export async function main(argv: readonly string[]): Promise<number> {
  const { config, positional } = loadConfig(demoSchema, { argv, env: process.env, program: "demo" });
  if (config.help) {
    process.stdout.write(`usage: npm start -- [flags]\n${describeFlags(demoSchema)}\n`);
    return 0;
  }
  if (positional.length > 0) {
    process.stderr.write(`sedge demo: unexpected argument ${positional[0]}\n`);
    return 2;
  }
  const isRoot = process.getuid?.() === 0;
  const dir = config.dir ?? (isRoot ? `/run/sedge-${config.name}` : join(tmpdir(), `sedge-${config.name}-${process.getuid?.() ?? 0}`));
  const netnsPrefix = `sedge-${config.name}-`;
  const registry = new Registry(dir, netnsPrefix);
  registry.claim();
  for (const found of await registry.cleanUp()) say(`cleaned up after an earlier run: ${found}`);

  const interrupted = new Promise<"interrupted">((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => resolve("interrupted"));
  });
  const children = new Children(registry);
  const broken = new Promise<never>((_resolve, reject) => {
    children.onUnexpectedEnd = (child, how) => reject(new Error(`${child.name} ended (${how}); the end of its log:\n${logTail(child)}`));
  });
  broken.catch(() => undefined);

  const network = new DemoNetwork(netnsPrefix);
  const show = new Show({ config, dir, children, network, hasKernel: isRoot, say });
  let exitCode = 0;
  try {
    const outcome = await Promise.race([show.run(), broken, interrupted]);
    if (outcome !== "interrupted") {
      if (config.once) process.stdout.write(`${JSON.stringify(outcome, undefined, 2)}\n`);
      exitCode = outcome.ok ? 0 : 1;
      if (!config.once) {
        say(show.instructions());
        await Promise.race([broken, interrupted]);
      }
    }
  } catch (error) {
    process.stderr.write(`sedge demo: ${error instanceof Error ? error.message : String(error)}\n`);
    if (config.once) process.stdout.write(`${JSON.stringify({ ok: false, error: error instanceof Error ? error.message : String(error) }, undefined, 2)}\n`);
    exitCode = 1;
  }
  say("cleaning up");
  network.close();
  await children.stopAll();
  if (config.kubeconfig !== undefined) {
    const api = new ApiClient({ connection: await findConnection({ file: config.kubeconfig, environment: process.env }) });
    await deleteCluster(api).catch((error: unknown) => say(`could not delete the demo's objects: ${String(error)}`));
    api.close();
  }
  await registry.release();
  return exitCode;
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
