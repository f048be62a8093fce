/**
 * The CNI specification (1.1.0), verb by verb: each command in each situation, with what the runtime must get. The table is complete by its own check:
 * every command has a row for every situation.
 */
import { describe, expect, it } from "vitest";
import { type AgentAnswer, AgentCallError } from "./agent-call.ts";
import { type CommandContext, runCommand } from "./command.ts";
import { COMMANDS, type Command } from "./environment.ts";
import { SUPPORTED_VERSIONS } from "./versions.ts";

const ENVIRONMENT = {
  CNI_CONTAINERID: "abc123",
  CNI_NETNS: "/run/netns/p",
  CNI_IFNAME: "eth0",
  CNI_PATH: "/opt/cni/bin",
  CNI_ARGS: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web",
};
const CONFIG = {
  cniVersion: "1.1.0",
  name: "k8s-pod-network",
  type: "sedge-cni",
  prevResult: { cniVersion: "1.1.0", ips: [{ address: "10.65.0.2/32" }] },
  "cni.dev/valid-attachments": [{ containerID: "abc123", ifname: "eth0" }],
};
const CONNECTED: AgentAnswer = {
  ok: true,
  result: {
    hostInterface: { name: "cali0", mac: "ee:ee:ee:ee:ee:ee" },
    containerInterface: { name: "eth0", mac: "02:00:00:00:00:01", sandbox: "/run/netns/p" },
    mtu: 1450,
    ips: [
      { address: "10.65.0.2/32", gateway: "169.254.1.1" },
      { address: "fd00::2/128", gateway: "fe80::1" },
    ],
    routes: [{ dst: "0.0.0.0/0", gw: "169.254.1.1" }],
  },
};
const refusal = (code: number): AgentAnswer => ({ ok: false, error: { code, msg: "refused", details: "why" } });

interface Run {
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly stdin?: unknown;
  readonly agent?: () => AgentAnswer;
  readonly queue?: () => string;
}

interface Ran {
  readonly code: number | undefined;
  readonly stdout: string;
  readonly asked: readonly { readonly verb: string; readonly request: Record<string, unknown> }[];
  readonly queued: readonly object[];
  readonly unqueued: readonly string[];
}

function run(command: string | undefined, { environment = {}, stdin = CONFIG, agent = () => CONNECTED, queue = () => "/q/file" }: Run = {}): Ran {
  const asked: { verb: string; request: Record<string, unknown> }[] = [];
  const queued: object[] = [];
  const unqueued: string[] = [];
  const context: CommandContext = {
    variables: { ...ENVIRONMENT, CNI_COMMAND: command, ...environment },
    readStdin: () => (typeof stdin === "string" ? stdin : JSON.stringify(stdin)),
    ask: (_socket, verb, request) => {
      asked.push({ verb, request: request as Record<string, unknown> });
      return agent();
    },
    queueDelete: (_directory, _key, request) => {
      const path = queue();
      queued.push(request);
      return path;
    },
    unqueueDelete: (path) => {
      unqueued.push(path);
    },
  };
  const { exitCode, stdout } = runCommand(context);
  const code = exitCode === 0 ? undefined : (JSON.parse(stdout) as { code: number }).code;
  // stdout is one JSON object, or nothing.
  if (stdout !== "") expect(stdout.trimEnd().includes("\n")).toBe(false);
  return { code, stdout, asked, queued, unqueued };
}

const away = (): never => {
  throw new AgentCallError("unreachable", "no agent answers");
};
const lost = (): never => {
  throw new AgentCallError("lost", "cut off");
};
const unreadable = (): never => {
  throw new AgentCallError("unreadable", "garbage");
};

/** Exit code of the error object; "ok" for success. */
type Outcome = number | "ok";
const SITUATIONS = {
  "all well": {},
  "agent away": { agent: away },
  "agent lost in the middle": { agent: lost },
  "agent answers garbage": { agent: unreadable },
  "agent refuses with 101": { agent: () => refusal(101) },
  "agent says try again": { agent: () => refusal(11) },
  "no CNI_CONTAINERID": { environment: { CNI_CONTAINERID: undefined } },
  "wrong CNI_CONTAINERID": { environment: { CNI_CONTAINERID: "-x" } },
  "no CNI_IFNAME": { environment: { CNI_IFNAME: "" } },
  "long CNI_IFNAME": { environment: { CNI_IFNAME: "eth0123456789012" } },
  "empty CNI_NETNS": { environment: { CNI_NETNS: "" } },
  "no CNI_PATH": { environment: { CNI_PATH: undefined } },
  "broken CNI_ARGS": { environment: { CNI_ARGS: "nonsense" } },
  "stdin empty": { stdin: "" },
  "stdin not JSON": { stdin: "{" },
  "stdin a list": { stdin: [] },
  "no cniVersion": { stdin: { ...CONFIG, cniVersion: undefined } },
  "unknown cniVersion": { stdin: { ...CONFIG, cniVersion: "9.0.0" } },
  "cniVersion 0.2.0": { stdin: { ...CONFIG, cniVersion: "0.2.0" } },
  "cniVersion 0.3.1": { stdin: { ...CONFIG, cniVersion: "0.3.1" } },
  "cniVersion 0.4.0": { stdin: { ...CONFIG, cniVersion: "0.4.0" } },
  "cniVersion 1.0.0": { stdin: { ...CONFIG, cniVersion: "1.0.0" } },
  "no name": { stdin: { ...CONFIG, name: undefined } },
  "wrong name": { stdin: { ...CONFIG, name: "a b" } },
  "no prevResult": { stdin: { ...CONFIG, prevResult: undefined } },
  "wrong prevResult": { stdin: { ...CONFIG, prevResult: "x" } },
  "no valid-attachments": { stdin: { ...CONFIG, "cni.dev/valid-attachments": undefined } },
  "wrong valid-attachments": { stdin: { ...CONFIG, "cni.dev/valid-attachments": [{}] } },
  "wrong mtu": { stdin: { ...CONFIG, mtu: "1500" } },
  "wrong socket": { stdin: { ...CONFIG, socket: "agent.sock" } },
  "unknown keys": { stdin: { ...CONFIG, capabilities: { portMappings: true }, runtimeConfig: {}, whatever: [1] } },
} as const satisfies Record<string, Run>;
type Situation = keyof typeof SITUATIONS;

const ATTACHMENT: Readonly<Record<Situation, Outcome>> = {
  "all well": "ok",
  "agent away": 11,
  "agent lost in the middle": 11,
  "agent answers garbage": 5,
  "agent refuses with 101": 101,
  "agent says try again": 11,
  "no CNI_CONTAINERID": 4,
  "wrong CNI_CONTAINERID": 4,
  "no CNI_IFNAME": 4,
  "long CNI_IFNAME": 4,
  "empty CNI_NETNS": 4,
  "no CNI_PATH": "ok",
  "broken CNI_ARGS": 4,
  "stdin empty": 6,
  "stdin not JSON": 6,
  "stdin a list": 6,
  "no cniVersion": 7,
  "unknown cniVersion": 1,
  "cniVersion 0.2.0": 1,
  "cniVersion 0.3.1": "ok",
  "cniVersion 0.4.0": "ok",
  "cniVersion 1.0.0": "ok",
  "no name": 7,
  "wrong name": 7,
  "no prevResult": "ok",
  "wrong prevResult": 7,
  "no valid-attachments": "ok",
  "wrong valid-attachments": 7,
  "wrong mtu": 7,
  "wrong socket": 7,
  "unknown keys": "ok",
};
const withoutContainer = {
  "no CNI_CONTAINERID": "ok",
  "wrong CNI_CONTAINERID": "ok",
  "no CNI_IFNAME": "ok",
  "long CNI_IFNAME": "ok",
  "empty CNI_NETNS": "ok",
  "broken CNI_ARGS": "ok",
} as const;
const since110 = { "cniVersion 0.3.1": 1, "cniVersion 0.4.0": 1, "cniVersion 1.0.0": 1 } as const;

const EXPECTED: Readonly<Record<Command, Readonly<Record<Situation, Outcome>>>> = {
  ADD: ATTACHMENT,
  // DEL succeeds where the agent is away (queued) and where the namespace is gone.
  DEL: { ...ATTACHMENT, "agent away": "ok", "agent lost in the middle": "ok", "agent says try again": "ok", "empty CNI_NETNS": "ok" },
  // CHECK came with 0.4.0 and compares with prevResult.
  CHECK: { ...ATTACHMENT, "cniVersion 0.3.1": 1, "no prevResult": 7 },
  STATUS: { ...ATTACHMENT, ...withoutContainer, ...since110, "agent away": 50, "agent lost in the middle": 50 },
  GC: { ...ATTACHMENT, ...withoutContainer, ...since110, "no valid-attachments": 7 },
  // VERSION needs neither agent nor a whole configuration.
  VERSION: {
    ...(Object.fromEntries(Object.keys(SITUATIONS).map((situation) => [situation, "ok"])) as Record<Situation, Outcome>),
    "stdin not JSON": 6,
    "stdin a list": 6,
  },
};

describe("CNI conformance", () => {
  for (const command of COMMANDS) {
    for (const situation of Object.keys(SITUATIONS) as Situation[]) {
      it(`${command}, ${situation} → ${EXPECTED[command][situation]}`, () => {
        const { code, stdout } = run(command, SITUATIONS[situation]);
        expect(code ?? "ok").toBe(EXPECTED[command][situation]);
        // Only ADD and VERSION have a result; every error is an object with the version, a code and a message.
        if (code === undefined) expect(stdout !== "").toBe(command === "ADD" || command === "VERSION");
        else expect(JSON.parse(stdout)).toMatchObject({ cniVersion: expect.any(String) as unknown, code, msg: expect.stringMatching(/./) as unknown });
      });
    }
  }

  it("the table has every command and every situation", () => {
    expect(Object.keys(EXPECTED).sort()).toEqual([...COMMANDS].sort());
    for (const row of Object.values(EXPECTED)) expect(Object.keys(row).sort()).toEqual(Object.keys(SITUATIONS).sort());
  });

  it("a CNI_COMMAND that is not set or not known", () => {
    expect(run(undefined).code).toBe(4);
    expect(run("add").code).toBe(4);
  });

  it("VERSION: the versions, in the version that was asked", () => {
    expect(JSON.parse(run("VERSION", { stdin: { cniVersion: "0.4.0" } }).stdout)).toEqual({
      cniVersion: "0.4.0",
      supportedVersions: ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    });
    expect(JSON.parse(run("VERSION", { stdin: {} }).stdout)).toMatchObject({ cniVersion: "1.1.0" });
  });

  it("of a name and a container id: letters and digits first, then also _ . - and nothing else", () => {
    for (const [text, isGood] of [
      ["a", true],
      ["9", true],
      ["A_b.c-9", true],
      ["a..", true],
      ["", false],
      ["-a", false],
      [".a", false],
      ["_a", false],
      ["a/b", false],
      ["a b", false],
      ["a\\b", false],
      ["a:b", false],
      ["é", false],
      ["a\n", false],
    ] as const) {
      expect([text, run("ADD", { stdin: { ...CONFIG, name: text } }).code]).toEqual([text, isGood ? undefined : 7]);
      expect([text, run("ADD", { environment: { CNI_CONTAINERID: text } }).code]).toEqual([text, isGood ? undefined : 4]);
    }
  });

  it("every wrong key is named, not only the first", () => {
    const { stdout } = run("ADD", { stdin: { cniVersion: 1, name: "", mtu: -1, socket: "x", prevResult: [] } });
    const { details } = JSON.parse(stdout) as { details: string };
    for (const key of ["cniVersion must", "name must", "mtu must", "socket must", "prevResult must"]) expect(details).toContain(key);
  });
});

describe("ADD's result", () => {
  for (const cniVersion of SUPPORTED_VERSIONS) {
    it(`in ${cniVersion}`, () => {
      const { stdout } = run("ADD", { stdin: { ...CONFIG, cniVersion, prevResult: undefined } });
      const mtu = cniVersion === "1.1.0" ? { mtu: 1450 } : {};
      const family = (version: string): object => (cniVersion.startsWith("0.") ? { version } : {});
      expect(JSON.parse(stdout)).toEqual({
        cniVersion,
        interfaces: [
          { name: "cali0", mac: "ee:ee:ee:ee:ee:ee", ...mtu },
          { name: "eth0", mac: "02:00:00:00:00:01", sandbox: "/run/netns/p", ...mtu },
        ],
        ips: [
          { ...family("4"), interface: 1, address: "10.65.0.2/32", gateway: "169.254.1.1" },
          { ...family("6"), interface: 1, address: "fd00::2/128", gateway: "fe80::1" },
        ],
        routes: [{ dst: "0.0.0.0/0", gw: "169.254.1.1" }],
        dns: {},
      });
    });
  }

  it("of a plugin before us in a chain is passed on, ours after it", () => {
    const prevResult = {
      cniVersion: "1.1.0",
      interfaces: [{ name: "other" }],
      ips: [{ address: "192.0.2.1/24", interface: 0 }],
      routes: [{ dst: "198.51.100.0/24", gw: "192.0.2.254" }],
      dns: { nameservers: ["192.0.2.53"] },
      custom: 1,
    };
    const result = JSON.parse(run("ADD", { stdin: { ...CONFIG, prevResult } }).stdout) as {
      interfaces: { name: string }[];
      ips: { interface: number }[];
      routes: object[];
    };
    expect([result.interfaces[0], result.ips[0], result.routes[0]]).toEqual([prevResult.interfaces[0], prevResult.ips[0], prevResult.routes[0]]);
    expect(result.interfaces.map(({ name }) => name)).toEqual(["other", "cali0", "eth0"]);
    expect(result.ips.map((ip) => ip.interface)).toEqual([0, 2, 2]);
    expect(result).toMatchObject({ dns: { nameservers: ["192.0.2.53"] }, custom: 1 });
  });
});

describe("CHECK", () => {
  it("tells the agent what prevResult says of the container's own interface and addresses, and nothing of others", () => {
    const prevResult = {
      interfaces: [{ name: "cali0", mac: "ee:ee:ee:ee:ee:ee" }, { name: "eth0", mac: "02:00:00:00:00:09", sandbox: "/run/netns/p" }, "nonsense"],
      ips: [{ address: "10.65.0.2/32", interface: 1 }, { gateway: "192.0.2.1" }],
    };
    const { asked } = run("CHECK", { stdin: { ...CONFIG, prevResult } });
    expect(asked[0]?.request["config"]).toMatchObject({
      prevResult: {
        interfaces: [{ name: "eth0", mac: "02:00:00:00:00:09", sandbox: "/run/netns/p" }],
        ips: [{ address: "10.65.0.2/32", interface: 1 }],
      },
    });
  });
});

describe("DEL without an agent", () => {
  it("is written down as the agent will read it", () => {
    const { queued, asked, unqueued } = run("DEL", { agent: away });
    expect(queued).toEqual([asked[0]?.request]);
    expect(queued[0]).toMatchObject({ version: 1, containerId: "abc123", ifname: "eth0", args: { K8S_POD_NAME: "web" }, config: { name: "k8s-pod-network" } });
    expect(unqueued).toEqual([]);
  });

  it("whose agent comes up meanwhile is done and taken back", () => {
    let calls = 0;
    const { code, unqueued } = run("DEL", { agent: () => (calls++ === 0 ? away() : { ok: true }) });
    expect([code, unqueued]).toEqual([undefined, ["/q/file"]]);
  });

  it("that cannot be written down fails, so that the runtime tries again", () => {
    const full = (): never => {
      throw new Error("ENOSPC: no space left on device");
    };
    const { code, stdout } = run("DEL", { agent: away, queue: full });
    expect(code).toBe(5);
    expect(stdout).toContain("ENOSPC");
  });
});
