import { describe, expect, it } from "vitest";
import type { JsonObject } from "../datastore/json-object.ts";
import { ManualClock } from "../runtime/clock.ts";
import { reviewedTokens } from "./token-review.ts";

const never = new AbortController().signal;
const BOOTSTRAP = "abcdef.0123456789abcdef";
const agent = { username: "system:serviceaccount:sedge-system:sedge-agent", extra: { "authentication.kubernetes.io/node-name": ["n1"] } };

function judgeWith(status: JsonObject) {
  const bodies: unknown[] = [];
  const clock = new ManualClock();
  const judge = reviewedTokens({
    client: {
      requestJson: (_method, _path, options) => {
        bodies.push(options?.body);
        return Promise.resolve({ status });
      },
    },
    clock,
    audience: "sedge.network",
    agentAccount: "sedge-system:sedge-agent",
    bootstrapGroup: "system:bootstrappers:sedge",
  });
  return { bodies, clock, judge };
}

describe("reviewedTokens", () => {
  const cases: readonly (readonly [what: string, token: string, status: JsonObject, applicant: unknown])[] = [
    ["an agent's pod", "jwt", { authenticated: true, audiences: ["sedge.network"], user: agent }, { kind: "node", node: "n1", by: "service-account" }],
    ["not authenticated", "jwt", { authenticated: false, audiences: ["sedge.network"], user: agent }, undefined],
    ["for another audience", "jwt", { authenticated: true, audiences: ["https://kubernetes.default.svc"], user: agent }, undefined],
    ["no audience at all", "jwt", { authenticated: true, user: agent }, undefined],
    [
      "another account",
      "jwt",
      { authenticated: true, audiences: ["sedge.network"], user: { ...agent, username: "system:serviceaccount:shop:web" } },
      undefined,
    ],
    ["an account that is not bound to a pod", "jwt", { authenticated: true, audiences: ["sedge.network"], user: { username: agent.username } }, undefined],
    [
      "a node name that is none",
      "jwt",
      { authenticated: true, audiences: ["sedge.network"], user: { ...agent, extra: { "authentication.kubernetes.io/node-name": ["N/1"] } } },
      undefined,
    ],
    [
      "a bootstrap token of our group",
      BOOTSTRAP,
      { authenticated: true, user: { username: "system:bootstrap:abcdef", groups: ["system:bootstrappers", "system:bootstrappers:sedge"] } },
      { kind: "any-node", by: "bootstrap-token" },
    ],
    [
      "a bootstrap token of others",
      BOOTSTRAP,
      { authenticated: true, user: { username: "system:bootstrap:abcdef", groups: ["system:bootstrappers"] } },
      undefined,
    ],
    ["a bootstrap token that is over", BOOTSTRAP, { authenticated: false }, undefined],
  ];
  it.each(cases)("%s", async (_what, token, status, applicant) => {
    expect(await judgeWith(status).judge(token, never)).toEqual(applicant);
  });

  it("the audience is asked for where tokens have one", async () => {
    const { bodies, judge } = judgeWith({ authenticated: false });
    await judge("jwt", never);
    await judge(BOOTSTRAP, never);
    expect(bodies.map((body) => (body as { spec: unknown }).spec)).toEqual([{ token: "jwt", audiences: ["sedge.network"] }, { token: BOOTSTRAP }]);
  });

  it("who guesses does not make the API server work: a refusal is remembered for ten seconds, an acceptance is not", async () => {
    const refused = judgeWith({ authenticated: false });
    await refused.judge("a", never);
    await refused.judge("a", never);
    await refused.judge("b", never);
    expect(refused.bodies).toHaveLength(2);
    await refused.clock.advance(10_001);
    await refused.judge("a", never);
    expect(refused.bodies).toHaveLength(3);
    // Of 10,000 at most: the oldest are asked about again.
    await refused.judge("oldest", never);
    for (let i = 0; i < 10_000; i++) await refused.judge(`guess ${i}`, never);
    const asked = refused.bodies.length;
    await refused.judge("guess 5", never);
    expect(refused.bodies).toHaveLength(asked);
    await refused.judge("oldest", never);
    expect(refused.bodies).toHaveLength(asked + 1);
    const accepted = judgeWith({ authenticated: true, audiences: ["sedge.network"], user: agent });
    await accepted.judge("a", never);
    await accepted.judge("a", never);
    expect(accepted.bodies).toHaveLength(2);
  });
});
