/** docs/protocol.md and the code say the same: tables cell by cell, invariants and their tests both ways, and every test that the page names exists. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { AGENT_TRANSITIONS, type AgentEffect } from "../src/wire/agent-protocol.ts";
import {
  FEED_TRANSITIONS,
  type FeedEffect,
  type FeedEvent,
  UPSTREAM_TRANSITIONS,
  type UpstreamEffect,
  type UpstreamEvent,
} from "../src/wire/relay-protocol.ts";
import { SESSION_TRANSITIONS, type SessionEffect, type SessionEvent } from "../src/wire/session-protocol.ts";

const ROOT = join(import.meta.dirname, "..");
const PAGE = readFileSync(join(ROOT, "docs/protocol.md"), "utf8");
const FOLDERS = ["fanout", "src/datastore", "src/wire", "agent", "test/model", "test/fv", "test/foreign"];
const TITLE = /\bit(?:\.each\([^)]*\))?\(\s*["`]([ASR]\d+) /g;

const read = (file: string): string => readFileSync(join(ROOT, file), "utf8");
const rows = (heading: string): string[][] => {
  const start = PAGE.indexOf(`## ${heading}\n`);
  const end = PAGE.indexOf("\n## ", start + 1);
  return PAGE.slice(start, end === -1 ? undefined : end)
    .split("\n")
    .filter((line) => line.startsWith("| "))
    .map((line) =>
      line
        .slice(2, -2)
        .split(" | ")
        .map((cell) => cell.trim()),
    );
};

/** Rows of the table of the section "Relay" whose first heading is this. */
const rowsAfter = (heading: string): string[][] => {
  const all = rows("Relay");
  const start = all.findIndex(([first]) => first === heading);
  const width = all[start]?.length ?? 0;
  const length = all.slice(start + 1).findIndex((row) => row.length !== width || row[0]?.startsWith("---") === true || row[0]?.endsWith("event") === true);
  return all.slice(start + 1, start + 1 + length);
};

describe("docs/protocol.md", () => {
  it("each invariant is tested in the files that it names, and each numbered test belongs to an invariant that names its file", () => {
    const told = new Set(
      [...rows("Agent"), ...rows("Server"), ...rows("Relay")]
        .filter(([id]) => /^[ASR]\d+$/.test(id ?? ""))
        .flatMap(([id, , files]) => [...(files ?? "").matchAll(/`([^`]+)`/g)].map(([, file]) => `${id} ${file}`)),
    );
    const found = new Set(
      FOLDERS.flatMap((folder) => globSync(`${folder}/**/*.test.ts`, { cwd: ROOT })).flatMap((file) =>
        [...read(file).matchAll(TITLE)].map(([, id]) => `${id} ${file}`),
      ),
    );
    expect([...found].toSorted()).toEqual([...told].toSorted());
    expect(found.size).toBeGreaterThan(32);
  });

  it("the agent's table is the code's", () => {
    const WORDS: Readonly<Record<string, readonly AgentEffect[]>> = {
      "send Hello": ["hello"],
      begin: ["begin"],
      "send Hello, begin": ["begin-anew"],
      stage: ["stage"],
      apply: ["apply"],
      "apply, compare digest": ["finish-answer"],
      "compare digest": ["check-digest"],
      note: ["note", "wait", "choose"],
      "pass on": ["report", "move"],
      ignore: ["ignore"],
      violation: ["violation"],
      "time out": ["time-out"],
      "": ["close"],
    };
    const EVENTS: Readonly<Record<string, string>> = {
      Welcome: "welcome",
      Heartbeat: "heartbeat",
      ReportResult: "report-result",
      Move: "move",
      Queued: "queued",
      ServerList: "servers",
      "unknown message": "unknown",
      "stream closed": "closed",
    };
    const states = ["idle", "greeting", "answering", "live", "repairing"] as const;
    const cells = rows("Agent")
      .filter(([, first]) => first !== undefined)
      .filter((row) => row.length === states.length + 1 && row[0] !== "event" && !row[0]?.startsWith("---"));
    const events = new Set<string>();
    for (const [name, ...texts] of cells) {
      const event = EVENTS[name ?? ""] ?? name ?? "";
      events.add(event);
      for (const [i, state] of states.entries()) {
        const transition = AGENT_TRANSITIONS[state][event as keyof (typeof AGENT_TRANSITIONS)["idle"]];
        const [words, next] = (texts[i] ?? "").split("→").map((part) => part.trim());
        expect(WORDS[words ?? ""], `${name} in ${state}: "${texts[i]}"`).toContain(transition.effect);
        const told = words === "violation" ? "over" : (next ?? state);
        expect(transition.next, `${name} in ${state}`).toBe(told);
      }
    }
    expect([...events].toSorted()).toEqual(Object.keys(AGENT_TRANSITIONS.idle).toSorted());
  });

  it("the server's table is the code's", () => {
    const WORDS: Readonly<Record<string, readonly SessionEffect[]>> = {
      "check, Welcome, enter the line": ["greet"],
      INVALID_ARGUMENT: ["end-invalid", "end-overdue"],
      record: ["record-ack"],
      take: ["take-report"],
      "enter the line": ["queue-repair"],
      "check, enter the line": ["take-hello"],
      "Welcome again": ["greet-anew"],
      "compare buckets": ["answer"],
      RESOURCE_EXHAUSTED: ["end-refused"],
      "commit with digest": ["go-live"],
      UNAVAILABLE: ["end-draining"],
      Move: ["send-move"],
      ABORTED: ["end-replaced"],
      forget: ["forget"],
      "–": ["ignore"],
    };
    const EVENTS: Readonly<Record<string, SessionEvent>> = {
      Hello: "hello",
      Ack: "ack",
      EndpointReport: "report",
      repair: "repair",
      "not understood": "broken",
      admitted: "admitted",
      "line is full": "refused",
      "answer sent": "answered",
      "another run of the root": "restart",
      draining: "drain",
      "deadline of the drain": "drain-overdue",
      "other session of the node": "replaced",
      "Hello overdue": "hello-overdue",
      "stream closed": "closed",
    };
    const states = ["greeting", "waiting", "answering", "live", "restating"] as const;
    const cells = rows("Server").filter((row) => EVENTS[row[0] ?? ""] !== undefined && row.length === states.length + 1);
    expect(cells.map(([name]) => String(EVENTS[name ?? ""])).toSorted()).toEqual(Object.keys(SESSION_TRANSITIONS.live).toSorted());
    for (const [name, ...texts] of cells) {
      for (const [i, state] of states.entries()) {
        const transition = SESSION_TRANSITIONS[state][EVENTS[name ?? ""] ?? "closed"];
        const [words, next] = (texts[i] ?? "").split("→").map((part) => part.trim());
        expect(WORDS[words ?? ""], `${name} while ${state}: "${texts[i]}"`).toContain(transition.effect);
        const isEnd = transition.effect.startsWith("end-") || transition.effect === "forget";
        expect(transition.next, `${name} while ${state}`).toBe(isEnd ? "over" : (next ?? state));
      }
    }
  });

  it("the parent's table is the code's", () => {
    const WORDS: Readonly<Record<string, readonly FeedEffect[]>> = {
      "check, RelayWelcome": ["greet"],
      INVALID_ARGUMENT: ["end-invalid", "end-overdue"],
      "compare, mark": ["subscribe"],
      "take out": ["unsubscribe"],
      record: ["record-ack"],
      take: ["take-report"],
      "send what is marked": ["answer"],
      "commit with digest": ["go-live"],
      UNAVAILABLE: ["end-draining"],
      Move: ["send-move"],
      ABORTED: ["end-replaced"],
      forget: ["forget"],
      "–": ["ignore"],
    };
    const EVENTS: Readonly<Record<string, FeedEvent>> = {
      RelayHello: "hello",
      Subscribe: "subscribe",
      Unsubscribe: "unsubscribe",
      RelayAck: "ack",
      NodeReport: "report",
      "not understood": "broken",
      "all nodes named and held": "complete",
      "answer sent": "answered",
      draining: "drain",
      "deadline of the drain": "drain-overdue",
      "other session of the relay": "replaced",
      "RelayHello overdue (its Subscribes too)": "hello-overdue",
      "stream closed": "closed",
    };
    const cells = rowsAfter("parent's event");
    expect(cells.map(([name]) => String(EVENTS[name ?? ""])).toSorted()).toEqual(Object.keys(FEED_TRANSITIONS.live).toSorted());
    for (const [name, ...texts] of cells)
      for (const [i, state] of (["greeting", "subscribing", "answering", "live"] as const).entries()) {
        const transition = FEED_TRANSITIONS[state][EVENTS[name ?? ""] ?? "closed"];
        const [words, next] = (texts[i] ?? "").split("→").map((part) => part.trim());
        expect(WORDS[words ?? ""], `${name} while ${state}: "${texts[i]}"`).toContain(transition.effect);
        const isEnd = transition.effect.startsWith("end-") || transition.effect === "forget";
        expect(transition.next, `${name} while ${state}`).toBe(isEnd ? "over" : (next ?? state));
      }
  });

  it("the relay's table is the code's", () => {
    const WORDS: Readonly<Record<string, readonly UpstreamEffect[]>> = {
      "send RelayHello, Subscribe": ["hello"],
      begin: ["begin"],
      stage: ["stage"],
      apply: ["apply"],
      "compare digest": ["heartbeat"],
      "pass on": ["report", "move"],
      ignore: ["ignore"],
      violation: ["violation"],
      "time out": ["time-out"],
      "": ["close"],
    };
    const EVENTS: Readonly<Record<string, UpstreamEvent>> = {
      open: "open",
      RelayWelcome: "welcome",
      part: "part",
      delta: "delta",
      answer: "answer",
      RelayHeartbeat: "heartbeat",
      NodeReportResult: "report-result",
      Move: "move",
      "unknown message": "unknown",
      silence: "silence",
      "stream closed": "closed",
    };
    const cells = rowsAfter("relay's event");
    expect(cells.map(([name]) => String(EVENTS[name ?? ""])).toSorted()).toEqual(Object.keys(UPSTREAM_TRANSITIONS.live).toSorted());
    for (const [name, ...texts] of cells)
      for (const [i, state] of (["idle", "greeting", "answering", "live"] as const).entries()) {
        const transition = UPSTREAM_TRANSITIONS[state][EVENTS[name ?? ""] ?? "closed"];
        const [words, next] = (texts[i] ?? "").split("→").map((part) => part.trim());
        expect(WORDS[words ?? ""], `${name} while ${state}: "${texts[i]}"`).toContain(transition.effect);
        expect(transition.next, `${name} while ${state}`).toBe(words === "violation" ? "over" : (next ?? state));
      }
  });

  it("every behaviour of Typha has a test that exists, or a reason", () => {
    const behaviours = rows("Behaviours of Typha").filter(([id]) => /^\d+$/.test(id ?? ""));
    expect(behaviours.map(([id]) => Number(id))).toEqual(Array.from({ length: 66 }, (_, i) => i + 1));
    for (const [id, , here] of behaviours) {
      const [, file, title] = /^`([^`]+)`: "(.+)"$/.exec(here ?? "") ?? [];
      if (file === undefined || title === undefined) expect(here, `behaviour ${id}`).toMatch(/^– .{10,}/);
      else expect(read(file), `behaviour ${id} in ${file}`).toContain(title);
    }
  });
});
