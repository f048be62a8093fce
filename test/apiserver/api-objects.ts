// What the cases of the API suite have in common: where objects are, what minimal ones look like, names that nobody else has.
import { randomBytes } from "node:crypto";
import type { ApiClient, Body } from "./api-client.ts";

export interface Scope {
  readonly api: ApiClient;
  readonly kubeconfigPath: string;
  /** A fresh namespace. */
  namespace(): Promise<string>;
}

export type GetScope = () => Scope;

export const PODS = (namespace: string): string => `/api/v1/namespaces/${namespace}/pods`;
export const POLICIES = (namespace: string): string => `/apis/networking.k8s.io/v1/namespaces/${namespace}/networkpolicies`;
export const POOLS = "/apis/projectcalico.org/v3/ippools";

export function uniqueName(prefix: string): string {
  return `${prefix}-${randomBytes(5).toString("hex")}`;
}

export function podManifest(name: string, more: { readonly labels?: Body; readonly spec?: Body } = {}): Body {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, labels: more.labels ?? {} },
    spec: { containers: [{ name: "main", image: "registry.example/main:1", ports: [{ containerPort: 8080, name: "http" }] }], ...more.spec },
  };
}

export function policyManifest(name: string, spec: Body = { podSelector: {} }): Body {
  return { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { name }, spec };
}

export function poolManifest(name: string, spec: Body): Body {
  return { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name }, spec };
}
