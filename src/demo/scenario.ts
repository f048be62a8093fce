/** What the demo shows: a dozen pods in three namespaces, and policies that are applied one after the other. */

export interface DemoPod {
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ports: readonly { readonly name: string; readonly port: number }[];
}

export interface DemoPolicy {
  readonly title: string;
  readonly manifest: { readonly metadata: { readonly namespace: string; readonly name: string }; readonly [field: string]: unknown };
}

export const NAMESPACES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  shop: { team: "shop" },
  data: { team: "data" },
  ops: { team: "ops", trusted: "yes" },
};

const WEB = [
  { name: "http", port: 8080 },
  { name: "metrics", port: 9100 },
];

function pod(namespace: string, name: string, node: string, app: string): DemoPod {
  return { namespace, name, node, labels: { app, tier: app === "db" ? "back" : "front" }, ports: WEB };
}

export const PODS: readonly DemoPod[] = [
  pod("shop", "web-1", "n1", "web"),
  pod("shop", "web-2", "n2", "web"),
  pod("shop", "cart-1", "n3", "cart"),
  pod("shop", "cart-2", "n1", "cart"),
  pod("data", "db-1", "n2", "db"),
  pod("data", "db-2", "n3", "db"),
  pod("data", "cache-1", "n1", "cache"),
  pod("data", "loader-1", "n2", "loader"),
  pod("ops", "prom-1", "n3", "prom"),
  pod("ops", "prom-2", "n1", "prom"),
  pod("ops", "shell-1", "n2", "shell"),
  pod("ops", "shell-2", "n3", "shell"),
];

function policy(namespace: string, name: string, title: string, spec: object): DemoPolicy {
  return { title, manifest: { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { namespace, name }, spec } };
}

export const POLICIES: readonly DemoPolicy[] = [
  policy("data", "default-deny", "data: nothing comes in unless allowed", { podSelector: {}, policyTypes: ["Ingress"] }),
  policy("data", "db-from-cart", "data/db: port http, from the carts of shop", {
    podSelector: { matchLabels: { app: "db" } },
    policyTypes: ["Ingress"],
    ingress: [
      {
        from: [{ namespaceSelector: { matchLabels: { team: "shop" } }, podSelector: { matchLabels: { app: "cart" } } }],
        ports: [{ protocol: "TCP", port: "http" }],
      },
    ],
  }),
  policy("data", "metrics-from-ops", "data: port 9100 from trusted namespaces", {
    podSelector: { matchExpressions: [{ key: "app", operator: "In", values: ["db", "cache"] }] },
    policyTypes: ["Ingress"],
    ingress: [{ from: [{ namespaceSelector: { matchExpressions: [{ key: "trusted", operator: "Exists" }] } }], ports: [{ protocol: "TCP", port: 9100 }] }],
  }),
  policy("shop", "web-egress", "shop/web: may only talk to carts, and anything on UDP 9000–9200", {
    podSelector: { matchLabels: { app: "web" } },
    policyTypes: ["Egress"],
    egress: [{ to: [{ podSelector: { matchLabels: { app: "cart" } } }] }, { ports: [{ protocol: "UDP", port: 9000, endPort: 9200 }] }],
  }),
  policy("ops", "shell-isolated", "ops/shell: no way in, no way out", { podSelector: { matchLabels: { app: "shell" } }, policyTypes: ["Ingress", "Egress"] }),
];
