/**
 * projectcalico.org/v3 policies and profiles as PolicyIntents.
 *
 * Invariant: what cannot be enforced as written lets nothing more through. An Allow or Log of which a part is not understood is left out; a Deny or Pass
 * becomes "deny all" at its place, since what it was meant for is not known.
 * A rule with ICMP, families or named ports stays one rule: records can state all of it.
 */
import type { Problem } from "../model/event.ts";
import type { PortRange } from "../model/record.ts";
import type { CalicoEntityRule, CalicoNetworkPolicy, CalicoPolicyFields, CalicoPort, CalicoRule, GlobalNetworkPolicy, Profile } from "../model/resource.ts";
import { mergePortRanges } from "../net/port-range.ts";
import { selectorOf } from "../selector/compile.ts";
import { and, type Expression } from "../selector/expression.ts";
import { ANY_SIDE, type Converted, type IntentRule, type IntentSide, type PolicyIntent, type PolicyStage } from "./intent.ts";
import { expressionAt, inNamespace, namespaceCondition, ScopeProblem, serviceAccountCondition, serviceAccounts } from "./scope.ts";

/** Label of a host endpoint for each of its profiles; only compute gives it. */
export const PROFILE_LABEL_PREFIX = "sedge.network/profile/";

type Direction = "ingress" | "egress";

export function convertGlobalNetworkPolicy(policy: GlobalNetworkPolicy): Converted {
  return convert(policy, {
    policyKind: "GlobalNetworkPolicy",
    namespace: "",
    scope: () => (policy.namespaceSelector === "" ? and() : namespaceCondition(policy.namespaceSelector, "spec.namespaceSelector")),
    stage: policy.doNotTrack ? "untracked" : policy.preDNAT ? "preDnat" : "normal",
    appliesOnForward: policy.applyOnForward && !policy.doNotTrack && !policy.preDNAT,
  });
}

export function convertCalicoNetworkPolicy(policy: CalicoNetworkPolicy): Converted {
  const { namespace } = policy;
  return convert(policy, { policyKind: "NetworkPolicy", namespace, scope: () => inNamespace(namespace), stage: "normal", appliesOnForward: false });
}

/** A profile applies to the host endpoints that name it, after the last tier, in both directions. */
export function convertProfile(profile: Profile): Converted {
  const collected = new Rules("");
  const ingress = collected.convert(profile.ingress, "ingress");
  const egress = collected.convert(profile.egress, "egress");
  return { ...collected.result(), intent: profileIntent(profile.name, ingress, egress) };
}

/** The profile that Calico has without an object: everything is allowed. */
export function allowingProfile(name: string): PolicyIntent {
  const allow: IntentRule = { action: "allow", protocol: 0, source: ANY_SIDE, destination: ANY_SIDE, origin: 0 };
  return profileIntent(name, [allow], [allow]);
}

function profileIntent(name: string, ingress: readonly IntentRule[], egress: readonly IntentRule[]): PolicyIntent {
  const subject = selectorOf(expressionAt(`has(${PROFILE_LABEL_PREFIX}${name})`, "metadata.name"));
  return { policyKind: "Profile", namespace: "", name, tier: "", order: undefined, subject, ingress, egress, stage: "profile" };
}

interface Place {
  readonly policyKind: string;
  /** "" for cluster-wide kinds. */
  readonly namespace: string;
  readonly scope: () => Expression;
  readonly stage: PolicyStage;
  readonly appliesOnForward: boolean;
}

function convert(policy: CalicoPolicyFields, place: Place): Converted {
  const { name, tier, order, types } = policy;
  const collected = new Rules(place.namespace);
  const parts = subjectParts(policy, place).map((part) => collected.attempt(part));
  const readable = parts.filter((part) => part !== undefined);
  const ingress = types.includes("Ingress") ? collected.convert(policy.ingress, "ingress") : undefined;
  const egress = types.includes("Egress") ? collected.convert(policy.egress, "egress") : undefined;
  const { policyKind, namespace, stage, appliesOnForward } = place;
  const head = { policyKind, namespace, name, tier, order };
  const extras = {
    ...(stage === "normal" ? {} : { stage }),
    ...(appliesOnForward ? { appliesOnForward } : {}),
    ...(policy.isNeededEverywhere === true ? { isEverywhere: true as const } : {}),
  };
  if (readable.length === parts.length && policy.isStandIn !== true)
    return { ...collected.result(), intent: { ...head, subject: selectorOf(and(...readable)), ingress, egress, ...extras } };
  // To whom a policy of a namespace applies is at most that namespace.
  const denied = [denyAll(0)];
  const intent =
    namespace === ""
      ? { ...head, subject: selectorOf(and(...readable)), ingress: ingress && forAnybody(ingress), egress: egress && forAnybody(egress), ...extras }
      : { ...head, subject: selectorOf(inNamespace(namespace)), ingress: ingress && denied, egress: egress && denied, ...extras };
  return { ...collected.result(), intent };
}

/** All must hold of an endpoint that the policy applies to. */
function subjectParts(policy: CalicoPolicyFields, place: Place): readonly (() => Expression)[] {
  return [
    place.scope,
    () => expressionAt(policy.selector, "spec.selector"),
    () => (policy.serviceAccountSelector === "" ? and() : serviceAccountCondition(policy.serviceAccountSelector, "spec.serviceAccountSelector")),
  ];
}

/**
 * Rules of a cluster-wide policy of which a selector (or the place) of its subject cannot be read, for every endpoint that it may be meant for: none may get more through
 * by it, or by its not being there, than if it was meant. What it allows is left out, so that the end of its tier decides unless another policy does;
 * what it denies is denied; what it passes on is denied, as a later policy of the tier could allow it. A deny-all instead would cut off every endpoint of
 * the cluster for one wrong sign, those included that other policies of the tier allow.
 */
export function forAnybody(rules: readonly IntentRule[]): readonly IntentRule[] {
  return rules.flatMap((rule): readonly IntentRule[] => {
    switch (rule.action) {
      case "allow":
      case "log":
        return [];
      case "pass":
        return [{ ...rule, action: "deny" }];
      case "deny":
      case "reject":
        return [rule];
    }
  });
}

/** Converts the rules of one object and collects what is wrong with them. */
class Rules {
  readonly #namespace: string;
  readonly #problems: Problem[] = [];
  #isUnderstood = true;

  constructor(namespace: string) {
    this.#namespace = namespace;
  }

  result(): Omit<Converted, "intent"> {
    return { problems: this.#problems, isUnderstood: this.#isUnderstood };
  }

  /** undefined, and a problem noted, when something in it cannot be understood. */
  attempt<T>(make: () => T): T | undefined {
    try {
      return make();
    } catch (error) {
      if (error instanceof ScopeProblem) this.#problems.push(error.problem);
      else if (error instanceof RangeError) this.#problems.push({ field: "spec", message: error.message });
      else throw error;
      this.#isUnderstood = false;
      return undefined;
    }
  }

  convert(rules: readonly CalicoRule[], direction: Direction): readonly IntentRule[] {
    return rules.flatMap((rule, origin) => this.#rule(rule, `spec.${direction}[${origin}]`, origin) ?? closed(rule, origin));
  }

  #rule(rule: CalicoRule, field: string, origin: number): IntentRule | undefined {
    if (rule.isBroken) return undefined;
    if (rule.hasHttp) {
      this.#problems.push({ field: `${field}.http`, message: "needs a layer 7 proxy, and there is none: the rule allows nothing" });
      return undefined;
    }
    const sides = this.attempt(() => ({
      source: this.#side(rule.source, `${field}.source`, { hasServicePorts: false }),
      destination: this.#side(rule.destination, `${field}.destination`, { hasServicePorts: true }),
    }));
    if (sides === undefined) return undefined;
    const { ipVersion, protocol = 0, notProtocol, icmp, notIcmp, name, action } = rule;
    return {
      action: ACTIONS[action],
      protocol,
      ...sides,
      origin,
      ...(ipVersion === undefined ? {} : { ipVersion }),
      ...(notProtocol === undefined ? {} : { notProtocol }),
      ...(icmp === undefined ? {} : { icmp: icmpMatch(icmp) }),
      ...(notIcmp === undefined ? {} : { notIcmp: icmpMatch(notIcmp) }),
      ...(name === "" ? {} : { name }),
    };
  }

  #side(entity: CalicoEntityRule, field: string, { hasServicePorts }: { readonly hasServicePorts: boolean }): IntentSide {
    const { nets, notNets, services } = entity;
    if (services !== undefined && services.namespace === "" && this.#namespace === "")
      throw new ScopeProblem(`${field}.services.namespace`, new Error("is required in a cluster-wide policy: the Service's namespace"));
    const selector = this.#peer(entity, field);
    const notSelector = entity.notSelector === "" ? undefined : expressionAt(entity.notSelector, `${field}.notSelector`);
    const { ranges: ports, names: namedPorts } = splitPorts(entity.ports);
    const { ranges: notPorts, names: notNamedPorts } = splitPorts(entity.notPorts);
    return {
      nets,
      notNets,
      selector: selector === undefined ? undefined : selectorOf(selector),
      notSelector: notSelector === undefined ? undefined : selectorOf(notSelector),
      ports,
      namedPorts,
      includesSets: true,
      ...(notPorts.length > 0 ? { notPorts } : {}),
      ...(notNamedPorts.length > 0 ? { notNamedPorts } : {}),
      ...(services === undefined ? {} : { service: { namespace: services.namespace || this.#namespace, name: services.name, hasPorts: hasServicePorts } }),
    };
  }

  /** The condition on the peer; undefined: any address. In a namespaced policy a peer is of the policy's namespace, unless a namespaceSelector says otherwise. */
  #peer(entity: CalicoEntityRule, field: string): Expression | undefined {
    const { selector, notSelector, namespaceSelector } = entity;
    // One that names nothing states nothing, as in Calico.
    const accounts = entity.serviceAccounts?.names.length === 0 && entity.serviceAccounts.selector === "" ? undefined : entity.serviceAccounts;
    if (selector === "" && notSelector === "" && namespaceSelector === "" && accounts === undefined) return undefined;
    const isGlobal = this.#namespace === "";
    if (isGlobal && selector === "" && namespaceSelector === "" && accounts === undefined) return undefined;
    const scope =
      namespaceSelector !== "" ? namespaceCondition(namespaceSelector, `${field}.namespaceSelector`) : isGlobal ? and() : inNamespace(this.#namespace);
    return and(scope, expressionAt(selector, `${field}.selector`), accounts === undefined ? and() : serviceAccounts(accounts, `${field}.serviceAccounts`));
  }
}

const ACTIONS = { Allow: "allow", Deny: "deny", Log: "log", Pass: "pass", Reject: "reject" } as const satisfies Record<
  CalicoRule["action"],
  IntentRule["action"]
>;

/** What stands for a rule that could not be converted. */
function closed(rule: CalicoRule, origin: number): readonly IntentRule[] {
  return rule.action === "Allow" || rule.action === "Log" ? [] : [denyAll(origin)];
}

export function denyAll(origin: number, name = ""): IntentRule {
  return { action: "deny", protocol: 0, source: ANY_SIDE, destination: ANY_SIDE, origin, ...(name === "" ? {} : { name }) };
}

function icmpMatch({ type, code }: { readonly type: number; readonly code: number | undefined }): { readonly type: number; readonly code?: number } {
  return code === undefined ? { type } : { type, code };
}

function splitPorts(ports: readonly CalicoPort[]): { readonly ranges: readonly PortRange[]; readonly names: readonly string[] } {
  const ranges = ports.filter((port): port is PortRange => typeof port !== "string");
  const names = ports.filter((port): port is string => typeof port === "string");
  return { ranges: mergePortRanges(ranges), names: [...new Set(names)].sort() };
}
