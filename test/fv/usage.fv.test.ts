/**
 * What a person gets wrong on the command line, at every program, verb and benchmark: one clear error with exit code 2 before anything is done, no stack.
 *
 * Run in this process, with what is printed caught: some hundred starts would take minutes. What needs a start of its own is in wrong-settings.fv.test.ts.
 */
import { describe, expect, it } from "vitest";
import { BENCHMARKS } from "../../bench/main.ts";
import { PROGRAMS } from "../../bin/programs.ts";
import { sedgeCommand } from "../fakes/sedge-command.ts";

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly text: string;
}

async function sedge(...argv: readonly string[]): Promise<Ended> {
  const { code, stdout, stderr } = await sedgeCommand(...argv);
  return { code, out: stdout, text: stdout + stderr };
}

/** Nobody is there: discard's port on loopback is reserved, and nothing of this machine listens at it. */
const NOBODY = "127.0.0.1:9";
const MISSING = "/nonexistent/kubeconfig";

interface Alone {
  readonly argv: readonly string[];
  readonly says: string;
}

interface Command {
  /** Flags without which nothing else is looked at. */
  readonly required?: readonly string[];
  /** Words that are missing or wrong, beside its flags: each is wrong usage. */
  readonly wrong?: readonly (readonly string[])[];
  /** What asks somebody who is not there: exit code 1, with who it was. */
  readonly alone?: Alone;
  /** Its first words are verbs of its own, each a row. */
  readonly verbs?: readonly string[];
}

const server = (...argv: readonly string[]): Alone => ({ argv: [...argv, "--server", NOBODY], says: NOBODY });
const api = (...argv: readonly string[]): Alone => ({ argv: [...argv, "--kubeconfig", MISSING], says: MISSING });

const COMMANDS: Readonly<Record<string, Command>> = {
  fanout: {
    wrong: [
      ["--insecure-listen", "nowhere"],
      ["--workers", "-1"],
    ],
  },
  agent: { required: ["--node-name", "n1", "--server", NOBODY], wrong: [[], ["--node-name", "n1"], ["--node-name", "n1", "--server", "no-port"]] },
  controllers: { alone: api() },
  "cni-install": { wrong: [["--sysctl", "nonsense"]] },
  issuer: { wrong: [["--authority", "nobody"]] },
  manifests: {
    wrong: [
      ["--namespace", "Not A Name"],
      ["--values", "/nonexistent"],
    ],
  },
  api: {
    wrong: [
      ["--listen", "nowhere"],
      ["--listen", "127.0.0.1:70000"],
    ],
  },
  demo: {},
  bench: { verbs: Object.keys(BENCHMARKS) },
  "bench fanout": {
    wrong: [
      ["--scenario", "nothing"],
      ["--agents", "5", "--nodes", "3"],
    ],
  },
  "bench tier": {},
  "bench stuck": {
    wrong: [
      ["--agents", "5"],
      ["--delivery", "pigeon"],
    ],
  },
  "bench delivery": { wrong: [["x"], ["0"]] },
  "bench page": {},
  "bench compute": { wrong: [["z"]] },
  "bench plan": {},
  "bench kernel-sets": {},
  "bench addresses": { wrong: [["--directory", "/nonexistent/directory"]] },
  "bench policy-status": { wrong: [["--nodes", "0"]] },
  "bench set-change": {},
  "bench cni": { wrong: [["--rounds", "0"]] },
  status: {
    wrong: [
      ["--server", "127.0.0.1:99999"],
      ["--server", "no-port"],
      ["-o", "xml"],
    ],
    alone: server(),
  },
  clients: { alone: server() },
  get: { wrong: [[], ["nothing"]], alone: server("pods") },
  watch: { wrong: [["--count", "0"]], alone: server() },
  why: { wrong: [[], ["n1"]], alone: server("n1", "pod/a/b") },
  trace: { wrong: [[], ["a/b", "c/d"], ["a/b", "c/d", "http"]], alone: server("a/b", "c/d", "80") },
  diff: { wrong: [[]], alone: server("n1") },
  wait: { wrong: [[], ["--revision", "x"], ["--revision", "1", "--timeout", "soon"]], alone: server("policy/x") },
  "log-level": { wrong: [[], ["loud"]], alone: server("debug") },
  rebalance: { alone: server() },
  ipam: { wrong: [[], ["nothing"]], verbs: ["show", "check", "doctor", "release", "migrate", "split"] },
  "ipam show": { wrong: [["--ip", "x"], ["--fix"]], alone: api() },
  "ipam check": { alone: api() },
  "ipam doctor": { alone: api() },
  "ipam release": { alone: api("--ip", "10.0.0.1", "--handle", "h") },
  "ipam migrate": { wrong: [[], ["a"]], alone: api("a", "b") },
  "ipam split": { wrong: [[]], alone: api("2", "--name", "p") },
  policy: { wrong: [[], ["nothing"]], verbs: ["evaluate", "diff", "status"] },
  "policy evaluate": { wrong: [[], ["-f", "/nonexistent", "--probes", "/nonexistent"]] },
  "policy diff": { wrong: [[], ["-f", "/nonexistent", "-w", "/nonexistent"]] },
  "policy status": { alone: server() },
};
const NAMES = Object.keys(COMMANDS);

/** No stack, no dump of an object, and not nothing. */
function expectClear({ text }: Ended): void {
  expect(text).not.toMatch(/^\s+at /m);
  expect(text).not.toMatch(/\[object Object\]|undefined:/);
  expect(text.trim()).not.toBe("");
}

/** Flags with a value, as `--help` lists them, and the default where it says one. */
function flagsOf(help: string): { readonly flag: string; readonly standard: string | undefined }[] {
  return [...help.matchAll(/^ {2}(--[a-z0-9-]+) VALUE\n {6}(.*)$/gm)].map(([, flag = "", meaning = ""]) => ({
    flag,
    standard: /\(default: (.*)\)$/.exec(meaning)?.[1],
  }));
}

describe("the command line", () => {
  it("has a row here for every program, verb and benchmark", () => {
    const verbs = Object.entries(COMMANDS).flatMap(([name, { verbs: own = [] }]) => own.map((verb) => `${name} ${verb}`));
    expect(NAMES.toSorted()).toEqual([...Object.keys(PROGRAMS), ...verbs].toSorted());
  });

  it("no program, or none of that name → the list", async () => {
    expect(await sedge()).toMatchObject({ code: 0 });
    for (const name of ["--help", "-h", "help"]) expect(await sedge(name)).toMatchObject({ code: 0, out: expect.stringContaining("usage: sedge <program>") });
    for (const name of ["nothing", "constructor", "--version-that-is-not", ""]) {
      const ended = await sedge(name);
      expectClear(ended);
      expect(ended).toMatchObject({ code: 2, out: "", text: expect.stringContaining(`no program "${name}"`) });
    }
    for (const name of ["nothing", "constructor"])
      expect(await sedge("bench", name)).toMatchObject({ code: 2, text: expect.stringContaining(`no benchmark "${name}"`) });
  });

  it.for([
    ["get", "usage: sedge get <kind> [name] [flags]"],
    ["policy", "sedge policy status [[KIND/]NAME]"],
    ["status", "usage: sedge status [flags]"],
  ] as const)("%s --help says what stands beside the flags", async ([name, says]) => {
    expect((await sedge(name, "--help")).out).toContain(says);
  });

  it.for(NAMES)("%s --help, -h: the flags on stdout", async (name) => {
    for (const flag of ["--help", "-h"]) {
      const ended = await sedge(...name.split(" "), flag);
      expectClear(ended);
      expect(ended).toMatchObject({ code: 0, out: ended.text });
      expect(ended.out).toContain("sedge");
    }
  });

  it.for(NAMES.filter((name) => COMMANDS[name]?.verbs === undefined || !["bench", "policy"].includes(name)))("%s: unknown flags and words", async (name) => {
    for (const [argument, says] of [
      ["--no-such-flag", "no-such-flag"],
      ["-z", "-z"],
    ] as const) {
      const ended = await sedge(...name.split(" "), argument);
      expectClear(ended);
      expect(ended).toMatchObject({ code: 2, out: "", text: expect.stringContaining(says) });
    }
    const surplus = await sedge(...name.split(" "), ...(COMMANDS[name]?.required ?? []), "w1", "w2", "w3", "w4", "w5");
    expectClear(surplus);
    expect(surplus).toMatchObject({ code: 2, out: "" });
    expect(surplus.text).toMatch(/w[1-5]|usage/i);
  });

  it.for(NAMES)("%s: a flag without its value, a number that is none", async (name) => {
    const words = name.split(" ");
    const { out } = await sedge(...words, "--help");
    for (const { flag, standard } of flagsOf(out)) {
      const without = await sedge(...words, flag);
      expectClear(without);
      expect(without, flag).toMatchObject({ code: 2, out: "", text: expect.stringContaining(flag) });
      if (standard === undefined || !/^-?[\d.]+$/.test(standard)) continue;
      const wrong = await sedge(...words, flag, "many");
      expectClear(wrong);
      expect(wrong, flag).toMatchObject({ code: 2, out: "", text: expect.stringContaining(`${flag}: `) });
    }
  });

  it.for(NAMES.filter((name) => COMMANDS[name]?.wrong !== undefined))("%s: wrong usage of its own", async (name) => {
    for (const argv of COMMANDS[name]?.wrong ?? []) {
      const ended = await sedge(...name.split(" "), ...argv);
      expectClear(ended);
      expect(ended, argv.join(" ")).toMatchObject({ code: 2, out: "" });
    }
  });

  it.for(NAMES.filter((name) => COMMANDS[name]?.alone !== undefined))("%s: nobody is there", async (name) => {
    const { argv = [], says = "" } = COMMANDS[name]?.alone ?? {};
    const ended = await sedge(...name.split(" "), ...argv);
    expectClear(ended);
    expect(ended).toMatchObject({ code: 1, text: expect.stringContaining(says) });
  });
});
