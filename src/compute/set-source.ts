/**
 * Where the members of sets come from: what a selector over endpoints or nodes matches, or a Service.
 */
import type { SetMember, SetType } from "../model/record.ts";
import { parseSelector } from "../selector/parse-selector.ts";
import type { Selector } from "../selector/selector.ts";
import { hexDigest } from "../selector/text-digest.ts";
import type { PolicyItem } from "./endpoint.ts";
import type { IndexedSelector, LabelItem, MatchListener } from "./label-index.ts";
import type { MemberSink, MemberSource } from "./member-source.ts";
import type { NodeItem } from "./node-index.ts";
import type { SelectorIndex } from "./selector-index.ts";
import type { Services } from "./services.ts";
import { portProtocolName } from "./set-member.ts";

/** What sets can be made from. */
export interface SetSources {
  readonly endpoints: SelectorIndex<PolicyItem>;
  readonly nodes: SelectorIndex<NodeItem>;
  readonly services: Services;
}

/** What a set is made of. Equal uses have equal ids. */
export type SetUse =
  | {
      readonly kind: "endpoints";
      readonly id: string;
      readonly selector: Selector;
      /** undefined: addresses alone. Protocol 0: of any protocol. */
      readonly port: { readonly name: string; readonly protocol: number } | undefined;
      /** Network sets and host endpoints that match are members too. */
      readonly includesSets: boolean;
    }
  | { readonly kind: "nodes"; readonly id: string; readonly selector: Selector }
  | { readonly kind: "service"; readonly id: string; readonly namespace: string; readonly name: string; readonly hasPorts: boolean };

const ALL_ENDPOINTS = parseSelector("all()");
/** 160 bits: collisions are out of reach, and the id stays as short as a selector's. */
const DIGEST_BYTES = 20;

/** With sets, the id is another one: the selector's own with "x" before it. */
export function addressSetUse(selector: Selector, options: { readonly includesSets: boolean } = { includesSets: false }): SetUse {
  const { includesSets } = options;
  return { kind: "endpoints", id: includesSets ? `x${selector.id}` : selector.id, selector, port: undefined, includesSets };
}

export interface PortSetOptions {
  /** undefined: every endpoint. */
  readonly selector: Selector | undefined;
  readonly port: string;
  readonly protocol: number;
  readonly includesSets?: boolean;
}

export function portSetUse({ selector, port: name, protocol, includesSets = false }: PortSetOptions): SetUse {
  const scope = selector === undefined ? "all" : selector.id;
  const id = `${includesSets ? "x" : ""}n:${digest(`${scope}\0${name}\0${protocol}`)}`;
  return { kind: "endpoints", id, selector: selector ?? ALL_ENDPOINTS, port: { name, protocol }, includesSets };
}

export function nodeSetUse(selector: Selector): SetUse {
  return { kind: "nodes", id: `k:${digest(selector.canonical)}`, selector };
}

export function serviceSetUse(service: { readonly namespace: string; readonly name: string; readonly hasPorts: boolean }): SetUse {
  const { namespace, name, hasPorts } = service;
  return { kind: "service", id: `v:${digest(`${namespace}/${name}${hasPorts ? " ports" : ""}`)}`, namespace, name, hasPorts };
}

function digest(text: string): string {
  return hexDigest(text, DIGEST_BYTES);
}

/** Type of the set's members; prefixes may come beside addresses. */
export function setTypeOf(use: SetUse): SetType {
  const hasPorts = use.kind === "endpoints" ? use.port !== undefined : use.kind === "service" && use.hasPorts;
  return hasPorts ? "address-port" : "address";
}

export function sourceOf(use: SetUse, sources: SetSources): MemberSource {
  switch (use.kind) {
    case "endpoints":
      return new SelectedMembers(sources.endpoints, use.selector, (item) => endpointMembers(item, use));
    case "nodes":
      return new SelectedMembers(sources.nodes, use.selector, ({ addresses }) => addresses);
    case "service":
      return sources.services.source(use);
  }
}

const NO_MEMBERS: readonly SetMember[] = [];

class SelectedMembers<Item extends LabelItem<Item>> implements MemberSource, MatchListener<Item> {
  readonly #index: SelectorIndex<Item>;
  readonly #selector: Selector;
  readonly #membersOf: (item: Item) => readonly SetMember[];
  #live: { readonly entry: IndexedSelector<Item>; readonly sink: MemberSink } | undefined;
  /** Of the item that is changing. */
  #before: readonly SetMember[] = NO_MEMBERS;

  constructor(index: SelectorIndex<Item>, selector: Selector, membersOf: (item: Item) => readonly SetMember[]) {
    this.#index = index;
    this.#selector = selector;
    this.#membersOf = membersOf;
  }

  start(sink: MemberSink): void {
    const entry = this.#index.acquire(this.#selector);
    this.#live = { entry, sink };
    for (const item of entry.matches) this.matched(item);
    entry.listeners.add(this);
  }

  stop(): void {
    if (this.#live === undefined) return;
    this.#live.entry.listeners.delete(this);
    this.#index.release(this.#live.entry);
    this.#live = undefined;
  }

  matched(item: Item): void {
    for (const member of this.#membersOf(item)) this.#live?.sink.add(member);
  }

  unmatched(item: Item): void {
    for (const member of this.#membersOf(item)) this.#live?.sink.remove(member);
  }

  changing(item: Item): void {
    this.#before = this.#membersOf(item);
  }

  /** Touches what differs only: one prefix of a network set of 100,000 is one member. */
  changed(item: Item): void {
    const after = this.#membersOf(item);
    const kept = new Set(this.#before);
    for (const member of after) if (!kept.delete(member)) this.#live?.sink.add(member);
    for (const member of kept) this.#live?.sink.remove(member);
    this.#before = NO_MEMBERS;
  }
}

/** Each member once, however often the item states it. */
function endpointMembers(item: PolicyItem, { port, includesSets }: Extract<SetUse, { readonly kind: "endpoints" }>): readonly SetMember[] {
  if (item.kind !== "pod" && !includesSets) return NO_MEMBERS;
  if (item.kind === "network-set") return port === undefined ? item.members : NO_MEMBERS;
  if (port === undefined) return item.addresses;
  const wanted = portProtocolName(port.protocol);
  const members: SetMember[] = [];
  if (wanted === undefined && port.protocol !== 0) return members;
  for (const named of item.namedPorts) {
    const protocol = named.protocol.toLowerCase();
    if (named.name !== port.name || (wanted !== undefined && protocol !== wanted)) continue;
    for (const address of item.addresses) members.push(`${address},${protocol}:${named.port}`);
  }
  return members.length < 2 ? members : [...new Set(members)];
}
