/** Ready endpoints of Services, for rules that name a Service as a peer. */
import type { SetMember } from "../model/record.ts";
import type { EndpointSlice } from "../model/resource.ts";
import type { MemberSink, MemberSource } from "./member-source.ts";

export class Services {
  /** Slices by "namespace/name". */
  readonly #slices = new Map<string, EndpointSlice>();
  /** Slices by "namespace/service". */
  readonly #byService = new Map<string, Map<string, EndpointSlice>>();
  readonly #listeners = new Map<string, Set<ServiceMembers>>();

  setSlice(key: { readonly namespace: string; readonly name: string }, slice: EndpointSlice | undefined): void {
    const name = `${key.namespace}/${key.name}`;
    const before = this.#slices.get(name);
    if (before !== undefined && before.service !== "") {
      const service = `${before.namespace}/${before.service}`;
      for (const listener of this.#listeners.get(service) ?? []) listener.lost(before);
      const slices = this.#byService.get(service);
      slices?.delete(name);
      if (slices?.size === 0) this.#byService.delete(service);
    }
    if (slice === undefined) {
      this.#slices.delete(name);
      return;
    }
    this.#slices.set(name, slice);
    if (slice.service === "") return;
    const service = `${slice.namespace}/${slice.service}`;
    let slices = this.#byService.get(service);
    if (slices === undefined) {
      slices = new Map();
      this.#byService.set(service, slices);
    }
    slices.set(name, slice);
    for (const listener of this.#listeners.get(service) ?? []) listener.gained(slice);
  }

  /** Members of the Service's set; with `hasPorts` addresses with ports. */
  source(options: { readonly namespace: string; readonly name: string; readonly hasPorts: boolean }): MemberSource {
    return new ServiceMembers({ ...options, services: this });
  }

  listen(service: string, listener: ServiceMembers): Iterable<EndpointSlice> {
    let listeners = this.#listeners.get(service);
    if (listeners === undefined) {
      listeners = new Set();
      this.#listeners.set(service, listeners);
    }
    listeners.add(listener);
    return this.#byService.get(service)?.values() ?? [];
  }

  unlisten(service: string, listener: ServiceMembers): void {
    const listeners = this.#listeners.get(service);
    listeners?.delete(listener);
    if (listeners?.size === 0) this.#listeners.delete(service);
  }
}

class ServiceMembers implements MemberSource {
  readonly #services: Services;
  readonly #service: string;
  readonly #hasPorts: boolean;
  #sink: MemberSink | undefined;

  constructor(options: { readonly services: Services; readonly namespace: string; readonly name: string; readonly hasPorts: boolean }) {
    this.#services = options.services;
    this.#service = `${options.namespace}/${options.name}`;
    this.#hasPorts = options.hasPorts;
  }

  start(sink: MemberSink): void {
    this.#sink = sink;
    for (const slice of this.#services.listen(this.#service, this)) this.gained(slice);
  }

  stop(): void {
    this.#services.unlisten(this.#service, this);
    this.#sink = undefined;
  }

  gained(slice: EndpointSlice): void {
    for (const member of this.#members(slice)) this.#sink?.add(member);
  }

  lost(slice: EndpointSlice): void {
    for (const member of this.#members(slice)) this.#sink?.remove(member);
  }

  #members({ addresses, ports }: EndpointSlice): readonly SetMember[] {
    if (!this.#hasPorts) return addresses;
    return addresses.flatMap((address) => ports.map(({ protocol, port }) => `${address},${protocol.toLowerCase()}:${port}`));
  }
}
