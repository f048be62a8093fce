import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  advance,
  INITIAL_MACHINE,
  type ResumePoint,
  type WatchAction,
  type WatchFailure,
  type WatchInput,
  type WatchMachine,
  type WatchState,
} from "./watch-machine.ts";

const MEMORY = { canStream: true, hasExpiredPages: false };
const PAGED = { canStream: false, hasExpiredPages: false };
const STATES: Readonly<Record<WatchState["kind"], WatchState>> = {
  idle: { kind: "idle" },
  "stream-list": { kind: "stream-list" },
  "page-list": { kind: "page-list", continueToken: "", isWhole: false },
  watch: { kind: "watch", resourceVersion: "7" },
  waiting: { kind: "waiting", next: { kind: "watch", resourceVersion: "7" } },
};
const FAILURES: Readonly<Record<WatchFailure["kind"], WatchFailure>> = {
  expired: { kind: "expired" },
  ahead: { kind: "ahead", retryAfterMs: 1_000 },
  "no-streaming": { kind: "no-streaming" },
  missing: { kind: "missing" },
  refused: { kind: "refused", retryAfterMs: 2_000 },
  disconnected: { kind: "disconnected", isSilence: false },
};
const INPUTS: Readonly<Record<WatchInput["kind"], WatchInput>> = {
  due: { kind: "due" },
  page: { kind: "page", resourceVersion: "9", continueToken: "" },
  "initial-end": { kind: "initial-end", resourceVersion: "9" },
  progress: { kind: "progress", resourceVersion: "9" },
  ended: { kind: "ended", isShort: false },
  failed: { kind: "failed", failure: FAILURES.disconnected },
};

/** "state → actions" in short, to be read as a table. */
function outcome(state: WatchState, input: WatchInput, memory = MEMORY): string {
  const { machine, actions } = advance({ state, memory }, input);
  return `${stateText(machine.state)} [${actions.map(actionText).join(", ")}]${machine.memory.canStream === memory.canStream ? "" : " pages from now on"}`;
}

function stateText(state: WatchState): string {
  if (state.kind === "watch") return `watch@${state.resourceVersion}`;
  if (state.kind === "page-list") return `page-list${state.continueToken === "" ? "" : `+${state.continueToken}`}${state.isWhole ? " whole" : ""}`;
  return state.kind === "waiting" ? `waiting for ${stateText(state.next)}` : state.kind;
}

function actionText(action: WatchAction): string {
  if (action.kind === "wait") return `wait ${action.pace}${action.atLeastMs === 0 ? "" : ` ${action.atLeastMs}`}`;
  return action.kind;
}

describe("advance: every state × input", () => {
  const same = (state: WatchState): string => `${stateText(state)} []`;
  const EXPECTED: Readonly<Record<WatchState["kind"], Readonly<Record<WatchInput["kind"], string>>>> = {
    idle: {
      due: "stream-list [list-begin, open-stream-list]",
      page: "idle []",
      "initial-end": "idle []",
      progress: "idle []",
      ended: "idle []",
      failed: "idle []",
    },
    "stream-list": {
      due: same(STATES["stream-list"]),
      page: same(STATES["stream-list"]),
      "initial-end": "watch@9 [list-complete]",
      progress: same(STATES["stream-list"]), // versions of objects are no place to resume at (M1)
      ended: "waiting for stream-list [wait backoff]",
      failed: "waiting for stream-list [wait backoff]",
    },
    "page-list": {
      due: same(STATES["page-list"]),
      page: "watch@9 [list-complete, open-watch]",
      "initial-end": same(STATES["page-list"]),
      progress: same(STATES["page-list"]),
      ended: same(STATES["page-list"]),
      failed: "waiting for page-list [wait backoff]",
    },
    watch: {
      due: same(STATES.watch),
      page: same(STATES.watch),
      "initial-end": "watch@9 []",
      progress: "watch@9 []",
      ended: "watch@7 [open-watch]", // M5: the only way back without a wait
      failed: "waiting for watch@7 [wait backoff]",
    },
    waiting: {
      due: "watch@7 [open-watch]",
      page: same(STATES.waiting),
      "initial-end": same(STATES.waiting),
      progress: same(STATES.waiting),
      ended: same(STATES.waiting),
      failed: same(STATES.waiting),
    },
  };
  for (const [name, row] of Object.entries(EXPECTED)) {
    for (const [input, want] of Object.entries(row)) {
      it(`${name} × ${input} → ${want}`, () => expect(outcome(STATES[name as WatchState["kind"]], INPUTS[input as WatchInput["kind"]])).toBe(want));
    }
  }
});

describe("advance: every failure", () => {
  const active = ["stream-list", "page-list", "watch"] as const;
  const EXPECTED: Readonly<Record<(typeof active)[number], Readonly<Record<WatchFailure["kind"], string>>>> = {
    "stream-list": {
      expired: "waiting for stream-list [wait backoff]",
      ahead: "waiting for stream-list [wait backoff 1000]",
      "no-streaming": "page-list [list-begin, get-page] pages from now on",
      missing: "waiting for stream-list [list-missing, wait slow]",
      refused: "waiting for stream-list [wait backoff 2000]",
      disconnected: "waiting for stream-list [wait backoff]",
    },
    "page-list": {
      expired: "waiting for stream-list [wait backoff]",
      ahead: "waiting for page-list [wait backoff 1000]",
      "no-streaming": "waiting for page-list [wait backoff]",
      missing: "waiting for stream-list [list-missing, wait slow]",
      refused: "waiting for page-list [wait backoff 2000]",
      disconnected: "waiting for page-list [wait backoff]",
    },
    watch: {
      expired: "waiting for stream-list [wait backoff]", // M4
      ahead: "waiting for stream-list [wait backoff 1000]",
      "no-streaming": "waiting for stream-list [wait backoff]",
      missing: "waiting for stream-list [list-missing, wait slow]", // M6
      refused: "waiting for watch@7 [wait backoff 2000]",
      disconnected: "waiting for watch@7 [wait backoff]", // M4
    },
  };
  for (const name of active) {
    for (const [failure, want] of Object.entries(EXPECTED[name])) {
      it(`${name} × ${failure} → ${want}`, () =>
        expect(outcome(STATES[name], { kind: "failed", failure: FAILURES[failure as WatchFailure["kind"]] })).toBe(want));
    }
  }

  it("silence in a streaming list → pages from now on: the server does not know the option", () => {
    expect(outcome(STATES["stream-list"], { kind: "failed", failure: { kind: "disconnected", isSilence: true } })).toBe(
      "waiting for page-list [wait backoff] pages from now on",
    );
  });
  it("a page in the middle is asked for again with its token after a reset", () => {
    expect(outcome({ kind: "page-list", continueToken: "t2", isWhole: false }, INPUTS.failed, PAGED)).toBe("waiting for page-list+t2 [wait backoff]");
  });
  it("a token that expires → a new list, whole this time", () => {
    expect(outcome({ kind: "page-list", continueToken: "t2", isWhole: false }, { kind: "failed", failure: FAILURES.expired }, PAGED)).toBe(
      "waiting for page-list whole [wait backoff]",
    );
  });
  it("a watch that ends at once is opened again only after a pause", () => {
    expect(outcome(STATES.watch, { kind: "ended", isShort: true })).toBe("waiting for watch@7 [wait backoff]");
  });
});

describe("advance: invariants over any history", () => {
  const failure = fc.oneof(...Object.values(FAILURES).map((one) => fc.constant(one)), fc.constant<WatchFailure>({ kind: "disconnected", isSilence: true }));
  const version = fc.integer({ min: 1, max: 99 }).map(String);
  const input: fc.Arbitrary<WatchInput> = fc.oneof(
    fc.constant<WatchInput>({ kind: "due" }),
    fc.record({ kind: fc.constant("page" as const), resourceVersion: version, continueToken: fc.constantFrom("", "t1", "t2") }),
    fc.record({ kind: fc.constant("initial-end" as const), resourceVersion: version }),
    fc.record({ kind: fc.constant("progress" as const), resourceVersion: version }),
    fc.record({ kind: fc.constant("ended" as const), isShort: fc.boolean() }),
    fc.record({ kind: fc.constant("failed" as const), failure }),
  );
  const history = fc.array(input, { maxLength: 60 });

  it("M1, M2, M3, M5 hold", () => {
    fc.assert(
      fc.property(history, (inputs) => {
        let machine: WatchMachine = INITIAL_MACHINE;
        const given = new Set<string>();
        for (const one of inputs) {
          const before = machine.state;
          const { machine: after, actions } = advance(machine, one);
          machine = after;
          if ("resourceVersion" in one) given.add(one.resourceVersion);
          for (const action of actions) {
            if (action.kind === "open-watch") expect(given).toContain(action.resourceVersion); // M1
            if (action.kind === "list-complete") {
              // M2, M3
              expect([before.kind, one.kind]).toBeOneOf([
                ["stream-list", "initial-end"],
                ["page-list", "page"],
              ]);
              if (one.kind === "page") expect(one.continueToken).toBe("");
            }
          }
          const reopens = actions.some((action) => action.kind === "open-watch" || action.kind === "get-page" || action.kind === "open-stream-list");
          if (one.kind === "failed" && reopens) expect(one.failure.kind).toBe("no-streaming"); // M5: once, because it switches to pages
          if (one.kind === "ended" && reopens) expect(one.isShort).toBe(false);
          // At most one thing to do at a time, and a waiting machine waits for something.
          expect(actions.filter((action) => !action.kind.startsWith("list-")).length).toBeLessThanOrEqual(1);
          if (machine.state.kind === "waiting")
            expect(["stream-list", "page-list", "watch"] satisfies ResumePoint["kind"][] as string[]).toContain(machine.state.next.kind);
        }
      }),
    );
  });
});
