/**
 * Tokens as the API server knows them (TokenReview, authentication.k8s.io/v1).
 *
 * A service account token names its node when it is bound to a pod (KEP-4193): the kubelet's projected token of the agent's pod is a credential of that node
 * and no other. A Kubernetes bootstrap token names no node.
 *
 * Refused tokens are remembered for a while, so that who guesses does not make the API server work.
 */
import { createHash } from "node:crypto";
import type { ApiClient } from "../datastore/api-client.ts";
import { arrayAt, objectAt, stringAt } from "../datastore/json-object.ts";
import type { Clock } from "../runtime/clock.ts";
import { NODE_NAME } from "../wire/identity-uris.ts";
import type { Applicant, TokenJudge } from "./applicant.ts";

export interface TokenReviewOptions {
  readonly client: Pick<ApiClient, "requestJson">;
  readonly clock: Clock;
  readonly audience: string;
  /** "NAMESPACE:NAME" */
  readonly agentAccount: string;
  readonly bootstrapGroup: string;
}

/** kubeadm's form; such tokens have no audience of their own. */
const BOOTSTRAP_TOKEN = /^[a-z0-9]{6}\.[a-z0-9]{16}$/;
const NODE_NAME_EXTRA = "authentication.kubernetes.io/node-name";
const REFUSED_MS = 10_000;
const MAX_REFUSED = 10_000;
const TIMEOUT_MS = 10_000;

export function reviewedTokens({ client, clock, audience, agentAccount, bootstrapGroup }: TokenReviewOptions): TokenJudge {
  /** Digest of the token → until when. In order of time. */
  const refused = new Map<string, number>();
  return async (token, signal) => {
    const digest = createHash("sha256").update(token).digest("base64");
    if ((refused.get(digest) ?? 0) > clock.now()) return undefined;
    const isBootstrap = BOOTSTRAP_TOKEN.test(token);
    const review = await client.requestJson("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {
      signal,
      timeoutMs: TIMEOUT_MS,
      body: { apiVersion: "authentication.k8s.io/v1", kind: "TokenReview", spec: isBootstrap ? { token } : { token, audiences: [audience] } },
    });
    const status = objectAt(review, "status");
    const user = objectAt(status, "user");
    const applicant = status?.["authenticated"] !== true ? undefined : isBootstrap ? ofBootstrapToken() : ofServiceAccount();
    if (applicant === undefined) remember(digest);
    return applicant;

    function ofBootstrapToken(): Applicant | undefined {
      return arrayAt(user, "groups")?.includes(bootstrapGroup) === true ? { kind: "any-node", by: "bootstrap-token" } : undefined;
    }

    function ofServiceAccount(): Applicant | undefined {
      if (arrayAt(status, "audiences")?.includes(audience) !== true || stringAt(user, "username") !== `system:serviceaccount:${agentAccount}`) return undefined;
      const node = arrayAt(objectAt(user, "extra"), NODE_NAME_EXTRA)?.[0];
      return typeof node === "string" && NODE_NAME.test(node) ? { kind: "node", node, by: "service-account" } : undefined;
    }
  };

  function remember(digest: string): void {
    refused.delete(digest);
    refused.set(digest, clock.now() + REFUSED_MS);
    for (const oldest of refused.keys()) {
      if (refused.size <= MAX_REFUSED) break;
      refused.delete(oldest);
    }
  }
}
