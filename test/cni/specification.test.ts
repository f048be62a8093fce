/**
 * The CNI specification 1.1.0, sentence by sentence: which test shows what it asks of a plugin.
 *
 * A sentence is named by the beginning of its SHA-256 and told in our own words. The table checks itself: every test that it names is there, and, where the
 * specification's text is on this machine (the Go module that cnitool is built from has it), every sentence with a MUST, SHOULD, SHALL or REQUIRED is in
 * exactly one of the three lists.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const CONFORMANCE = "cni/conformance.test.ts";
const PODS = "test/cni/pods.kernel.test.ts";
const EXECUTABLE = "test/cni/executable.fv.test.ts";
const MANAGER = "agent/pods/manager.test.ts";
const SERVICE = "agent/socket/cni-service.test.ts";
const RUNTIMES = "test/cni/runtimes.kernel.test.ts";
const CRI = "test/cni/cri.kernel.test.ts";
const FAULTS = "test/cni/fault-points.kernel.test.ts";
const ENVIRONMENT = "cni/environment.test.ts";
const ERROR_CODES = "test/cni/error-codes.test.ts";

interface Shown {
  readonly sentence: string;
  /** What it asks of us. */
  readonly asks: string;
  /** File, and a test in it. */
  readonly by: readonly (readonly [file: string, test: string])[];
}

const SHOWN: readonly Shown[] = [
  {
    sentence: "94f60de6",
    asks: "name and CNI_CONTAINERID: alphanumeric first, then also _ . -",
    by: [
      [CONFORMANCE, "ADD, wrong name → 7"],
      [CONFORMANCE, "ADD, wrong CNI_CONTAINERID → 4"],
      [CONFORMANCE, "of a name and a container id: letters and digits first, then also _ . - and nothing else"],
    ],
  },
  { sentence: "0f9154ed", asks: "name: nothing that a path could not hold", by: [[CONFORMANCE, "ADD, wrong name → 7"]] },
  {
    sentence: "5c54ad29",
    asks: "well-known keys mean what they are meant to mean",
    by: [[CRI, "a hostPort by portmap: from another node, from a pod and from the node itself; gone with the sandbox"]],
  },
  {
    sentence: "89b9236e",
    asks: "a configuration of any version that we know is taken",
    by: [
      [CONFORMANCE, "ADD, cniVersion 0.3.1 → ok"],
      [CONFORMANCE, "ADD, unknown cniVersion → 1"],
    ],
  },
  { sentence: "61507211", asks: "CNI_CONTAINERID is not empty", by: [[CONFORMANCE, "ADD, no CNI_CONTAINERID → 4"]] },
  {
    sentence: "3d40ad5d",
    asks: "an interface name that cannot be used is an error",
    by: [
      [CONFORMANCE, "ADD, long CNI_IFNAME → 4"],
      [PODS, "refused: no namespace, the host's own, a plain file, an interface of that name; nothing is left"],
    ],
  },
  {
    sentence: "5603b52c",
    asks: "exit code 0 for success, another for failure",
    by: [
      [EXECUTABLE, "ADD, ADD again, CHECK, STATUS, GC, DEL, DEL again"],
      [EXECUTABLE, "without an agent: ADD says try again, STATUS not available, DEL is written down and done at the next start"],
    ],
  },
  {
    sentence: "9d4e7d1b",
    asks: "an error is an error object on stdout",
    by: [
      [CONFORMANCE, "ADD, agent away → 11"],
      [EXECUTABLE, "an agent that closes, is silent about the length, or answers garbage"],
    ],
  },
  {
    sentence: "4f88cc95",
    asks: "ADD makes the interface in the namespace",
    by: [[PODS, "two pods and their host reach each other, both families, with the first packet after ADD"]],
  },
  {
    sentence: "718a3e26",
    asks: "ADD's result is on stdout",
    by: [
      [CONFORMANCE, "in 1.1.0"],
      [EXECUTABLE, "ADD, ADD again, CHECK, STATUS, GC, DEL, DEL again"],
    ],
  },
  { sentence: "90aac45d", asks: "prevResult is passed on by ADD", by: [[CONFORMANCE, "of a plugin before us in a chain is passed on, ours after it"]] },
  {
    sentence: "291bf85c",
    asks: "an interface of that name in the container is an error",
    by: [[PODS, "refused: no namespace, the host's own, a plain file, an interface of that name; nothing is left"]],
  },
  {
    sentence: "dd22c8cb",
    asks: "each command's required variables",
    by: [
      [CONFORMANCE, "the table has every command and every situation"],
      [CONFORMANCE, "ADD, no CNI_IFNAME → 4"],
      [CONFORMANCE, "DEL, empty CNI_NETNS → ok"],
    ],
  },
  {
    sentence: "19aeb691",
    asks: "DEL removes what ADD made",
    by: [
      [PODS, "CHECK finds each thing that is taken away; DEL leaves nothing, also without a namespace and twice"],
      [FAULTS, "of a DEL"],
    ],
  },
  {
    sentence: "a9d67b03",
    asks: "DEL succeeds though something is missing",
    by: [
      [PODS, "CHECK finds each thing that is taken away; DEL leaves nothing, also without a namespace and twice"],
      [MANAGER, "ADD: address, pair, policy; again: the same; DEL: all gone; again: nothing"],
    ],
  },
  {
    sentence: "80c21816",
    asks: "the address is released though the namespace is gone",
    by: [[PODS, "CHECK finds each thing that is taken away; DEL leaves nothing, also without a namespace and twice"]],
  },
  {
    sentence: "32ed7e2f",
    asks: "DEL again and again",
    by: [
      [EXECUTABLE, "ADD, ADD again, CHECK, STATUS, GC, DEL, DEL again"],
      [RUNTIMES, "cnitool: add, check, del, del again"],
    ],
  },
  {
    sentence: "76b96aef",
    asks: "CHECK reads what to expect from prevResult",
    by: [
      [CONFORMANCE, "tells the agent what prevResult says of the container's own interface and addresses, and nothing of others"],
      [MANAGER, "CHECK names what is missing"],
    ],
  },
  {
    sentence: "06a2a833",
    asks: "CHECK allows what a later plugin changed",
    by: [[PODS, "CHECK takes what a plugin behind us changed and told: tuning's hardware address; what nobody told it does not"]],
  },
  {
    sentence: "16b4fda2",
    asks: "CHECK finds interfaces, addresses and routes that are missing or wrong",
    by: [[PODS, "CHECK finds each thing that is taken away; DEL leaves nothing, also without a namespace and twice"]],
  },
  {
    sentence: "5f1b568a",
    asks: "CHECK finds missing policy and reservations",
    by: [
      [MANAGER, "CHECK names what is missing"],
      [PODS, "CHECK finds each thing that is taken away; DEL leaves nothing, also without a namespace and twice"],
    ],
  },
  { sentence: "4ed7c885", asks: "CHECK fails without the agent", by: [[CONFORMANCE, "CHECK, agent away → 11"]] },
  {
    sentence: "5337b069",
    asks: "CHECK fails where a container cannot be reached",
    by: [[PODS, "CHECK finds each thing that is taken away; DEL leaves nothing, also without a namespace and twice"]],
  },
  {
    sentence: "2c5b02cd",
    asks: "CHECK right after ADD",
    by: [
      [EXECUTABLE, "ADD, ADD again, CHECK, STATUS, GC, DEL, DEL again"],
      [FAULTS, "of an ADD that is only asked for again, under the same id: the same pod, once, and whole"],
    ],
  },
  {
    sentence: "efeb4b9a",
    asks: "STATUS: 0 when ADDs can be served",
    by: [
      [SERVICE, "well: success"],
      [CRI, "the network is ready when the installer has run, not before"],
    ],
  },
  {
    sentence: "8b6b1a51",
    asks: "STATUS: an error when they cannot",
    by: [
      [SERVICE, "no address can be given: 50, with the reason"],
      [SERVICE, "the kernel does not have the pods' policy: 51, also when no address can be given"],
    ],
  },
  {
    sentence: "3f73bcd5",
    asks: "STATUS: an error without the agent",
    by: [
      [CONFORMANCE, "STATUS, agent away → 50"],
      [EXECUTABLE, "without an agent: ADD says try again, STATUS not available, DEL is written down and done at the next start"],
    ],
  },
  { sentence: "33092851", asks: "STATUS: an error when no address is left", by: [[SERVICE, "no address can be given: 50, with the reason"]] },
  { sentence: "6ce5ec0d", asks: "nothing depends on STATUS", by: [[RUNTIMES, "cnitool: add, check, del, del again"]] },
  {
    sentence: "3fc06189",
    asks: "other commands come whatever STATUS said",
    by: [[CRI, "the agent away: RunPodSandbox fails with the reason and leaves nothing; StopPodSandbox succeeds, and the address comes back with the agent"]],
  },
  { sentence: "03784e99", asks: "VERSION's result is on stdout", by: [[CONFORMANCE, "VERSION: the versions, in the version that was asked"]] },
  {
    sentence: "768f447f",
    asks: "GC removes what it can",
    by: [
      [MANAGER, "GC goes on behind one that cannot be removed, and names it"],
      [SERVICE, "what could not be removed is named, each"],
    ],
  },
  {
    sentence: "8cfb46f4",
    asks: "GC frees addresses of attachments that are not listed",
    by: [
      [PODS, "GC frees exactly what is not valid"],
      [MANAGER, "GC removes what is not valid in this network, and nothing of another"],
    ],
  },
  { sentence: "917d6869", asks: "GC succeeds", by: [[SERVICE, "all removed: success"]] },
  { sentence: "3f768b8e", asks: "GC goes on after an error and reports it", by: [[SERVICE, "what could not be removed is named, each"]] },
  {
    sentence: "d01477ba",
    asks: "many containers at once",
    by: [[PODS, "a pool of 16 addresses and 40 pods at once: 16 connected, 24 told; after one DEL the next ADD succeeds"]],
  },
  {
    sentence: "e7e8b006",
    asks: "what is shared is guarded",
    by: [
      [EXECUTABLE, "40 pods at once in a pool of 16: 16 have an address, 24 are told that the pool is full"],
      [MANAGER, "ADD and DEL of one pod at once end in one of both orders, with nothing half"],
    ],
  },
  { sentence: "72928425", asks: "results where there are results", by: [[CONFORMANCE, "ADD, all well → ok"]] },
  { sentence: "bafde411", asks: "results are JSON on stdout", by: [[CONFORMANCE, "in 1.1.0"]] },
  { sentence: "f3b07bce", asks: "ADD's keys", by: [[CONFORMANCE, "in 1.1.0"]] },
  {
    sentence: "2ecf0516",
    asks: "sandbox is CNI_NETNS",
    by: [
      [CONFORMANCE, "in 1.1.0"],
      [PODS, "two pods and their host reach each other, both families, with the first packet after ADD"],
    ],
  },
  { sentence: "107dde67", asks: "ips name their interface by index", by: [[CONFORMANCE, "of a plugin before us in a chain is passed on, ours after it"]] },
  {
    sentence: "69b4fffd",
    asks: "prevResult with our changes is the result",
    by: [[CONFORMANCE, "of a plugin before us in a chain is passed on, ours after it"]],
  },
  { sentence: "5f05704b", asks: "what we do not change stays as it was", by: [[CONFORMANCE, "of a plugin before us in a chain is passed on, ours after it"]] },
  { sentence: "02956df5", asks: "VERSION's keys", by: [[CONFORMANCE, "VERSION: the versions, in the version that was asked"]] },
  { sentence: "81abb2b6", asks: "an error's keys", by: [[CONFORMANCE, "ADD, agent away → 11"]] },
  { sentence: "b23b4cc8", asks: "an error about a field names it and its value", by: [[CONFORMANCE, "every wrong key is named, not only the first"]] },
  { sentence: "0c20e659", asks: "an error about variables names them", by: [[ENVIRONMENT, "every variable that is missing or wrong is named"]] },
  {
    sentence: "6953cdab",
    asks: "11 for what passes",
    by: [
      [ERROR_CODES, "only what a retry can help says try again"],
      [CONFORMANCE, "ADD, agent away → 11"],
    ],
  },
];

/** Of the runtime, of the administrator, or of the specification itself: nothing that a plugin does. */
const OF_THE_RUNTIME = [
  "695c4e58",
  "90f783b9",
  "e6b20f54",
  "1740f82a",
  "47141e2f",
  "053fc6c6",
  "aae69d00",
  "03fa2b73",
  "86bbb506",
  "c044695b",
  "6eab0bc5",
  "ab9c70e7",
  "d42d3444",
  "b7665ff7",
  "fac6d0f4",
  "cfa23148",
  "c38692d1",
  "8c27e47a",
  "941e6cee",
  "b41b3d7e",
  "020c7c1f",
  "03773ec1",
  "a950ffd3",
  "0fc2d30d",
  "4fac2b42",
  "0eac6ef5",
  "2ffabafe",
  "61023cec",
  "a3ffef46",
  "63a87017",
  "584fb341",
  "a383559e",
  "54bc6974",
  "0c4a8427",
  "a1f43976",
  "f7561942",
  "dd3e1afa",
  "3c5c7f7e",
  "23e40d02",
  "210f131b",
  "765fc781",
  "6f8e93b6",
] as const;

/** Of plugins that call other plugins, and of those that are called for addresses: ours does neither. */
const OF_DELEGATION = [
  "2bb00da3",
  "8878573b",
  "0aae3d85",
  "a3ab1184",
  "b8523036",
  "e03c9e8b",
  "3d3f5078",
  "99b8bcbe",
  "d4bbe7e2",
  "c70215e4",
  "61f64295",
  "fd3d90f7",
  "daac64c6",
] as const;

const root = new URL("../../", import.meta.url).pathname;

/** Whether a file has the test: by its own line, or, where a loop makes its names, by what the loop is over. */
function hasTest(file: string, name: string): boolean {
  const text = readFileSync(join(root, file), "utf8");
  if (text.includes(`it(${JSON.stringify(name)}`)) return true;
  if (file !== CONFORMANCE) return false;
  const [, command, situation] = /^(\w+), (.+) → /.exec(name) ?? [];
  if (command !== undefined && situation !== undefined)
    return text.includes(`  ${JSON.stringify(situation)}: `) && text.includes("for (const command of COMMANDS)");
  return /^in \d+\.\d+\.\d+$/.test(name) && text.includes("it(`in ${cniVersion}`");
}

function specificationFile(): string | undefined {
  const version = /containernetworking\/cni (v[0-9.]+)/.exec(readFileSync(join(root, "test/foreign/cnitool/go.mod"), "utf8"))?.[1] ?? "";
  const modules = process.env["GOMODCACHE"] ?? join(process.env["GOPATH"] ?? join(homedir(), "go"), "pkg/mod");
  const file = join(modules, "github.com/containernetworking", `cni@${version}`, "SPEC.md");
  return existsSync(file) ? file : undefined;
}

/** Hash to text of every sentence that demands something; the examples at the end left out. */
function demands(specification: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const line of specification.slice(0, specification.indexOf("## Appendix")).split("\n")) {
    if (/^#{2,4} /.test(line)) continue;
    for (const sentence of line.split(/(?<=[.:;])\s+(?=[A-Z`])/)) {
      if (!/\b(must|should|shall|required)\b/i.test(sentence)) continue;
      const words = sentence
        .replaceAll(/[^A-Za-z0-9]+/g, " ")
        .trim()
        .toLowerCase();
      found.set(createHash("sha256").update(words).digest("hex").slice(0, 8), sentence.trim());
    }
  }
  return found;
}

describe("CNI specification 1.1.0", () => {
  for (const { sentence, asks, by } of SHOWN) {
    it(`${asks} (${sentence}): its tests are there`, () => {
      expect(by.length).toBeGreaterThan(0);
      for (const [file, name] of by) expect(hasTest(file, name), `${file}: ${name}`).toBe(true);
    });
  }

  it("every sentence that demands something is in exactly one list", ({ skip }) => {
    const file = specificationFile();
    if (file === undefined) return skip("the specification's text is not on this machine: node scripts/build-go-tools.mjs cnitool");
    const listed = [...SHOWN.map(({ sentence }) => sentence), ...OF_THE_RUNTIME, ...OF_DELEGATION];
    expect(new Set(listed).size).toBe(listed.length);
    const wanted = demands(readFileSync(file, "utf8"));
    for (const [hash, text] of wanted) expect(listed, text).toContain(hash);
    for (const hash of listed) expect(wanted.has(hash), `${hash} is no sentence of ${file}`).toBe(true);
  });
});
