/** Policies, tiers and network sets of the naive evaluator as manifests. */
import { type CalicoWorld, type Condition, conditionText, type Entity, type Rule } from "./naive-calico.ts";

export function calicoManifests({ sets, tiers, policies }: Pick<CalicoWorld, "sets" | "tiers" | "policies">): unknown[] {
  const calico = (kind: string, namespace: string, name: string, rest: object): unknown => ({
    apiVersion: "projectcalico.org/v3",
    kind,
    ...rest,
    metadata: { name, ...(namespace === "" ? {} : { namespace }), ...("metadata" in rest ? (rest.metadata as object) : {}) },
  });
  return [
    ...sets.map(({ namespace, name, labels, nets }) =>
      calico(namespace === "" ? "GlobalNetworkSet" : "NetworkSet", namespace, name, { metadata: { labels }, spec: { nets } }),
    ),
    ...tiers.map(({ name, order, defaultAction }) => calico("Tier", "", name, { spec: { order, defaultAction } })),
    ...policies.map(({ namespace, name, ingress, egress, selector, namespaceSelector, tier, order }) => {
      const types = [...(ingress === undefined ? [] : ["Ingress"]), ...(egress === undefined ? [] : ["Egress"])];
      const written = (rule: Rule): unknown => ({ ...rule, source: entityManifest(rule.source), destination: entityManifest(rule.destination) });
      return calico(namespace === "" ? "GlobalNetworkPolicy" : "NetworkPolicy", namespace, name, {
        spec: {
          tier,
          order,
          types,
          selector: textOf(selector),
          ...(namespaceSelector === undefined ? {} : { namespaceSelector: textOf(namespaceSelector) }),
          ingress: (ingress ?? []).map(written),
          egress: (egress ?? []).map(written),
        },
      });
    }),
  ];
}

function entityManifest({ selector, notSelector, namespaceSelector, accounts, ...rest }: Entity): unknown {
  return {
    ...rest,
    selector: textOf(selector),
    notSelector: textOf(notSelector),
    namespaceSelector: textOf(namespaceSelector),
    ...(accounts === undefined ? {} : { serviceAccounts: { names: accounts } }),
  };
}

function textOf(given: Condition | undefined): string | undefined {
  return given === undefined ? undefined : conditionText(given);
}
