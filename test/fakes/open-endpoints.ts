/** Endpoints of a node without policy: with a kernel it routes addresses to pods as the reconcile loop does; everything is allowed. */
import type { LocalEndpoint, LocalEndpoints, ProgrammedEndpoint } from "../../agent/apply/local-endpoints.ts";
import type { Rtnetlink } from "../../agent/drivers/rtnetlink/driver.ts";
import type { PodKey } from "../../src/model/names.ts";
import { hostCidr } from "../../src/net/cidr.ts";

export class OpenEndpoints implements LocalEndpoints {
  readonly #host: Rtnetlink | undefined;
  readonly #endpoints = new Map<PodKey, LocalEndpoint>();
  restored: readonly LocalEndpoint[] | undefined;

  constructor(host?: Rtnetlink) {
    this.#host = host;
  }

  restore(endpoints: readonly LocalEndpoint[]): void {
    this.restored = endpoints;
    for (const endpoint of endpoints) this.#endpoints.set(endpoint.podKey, endpoint);
  }

  upsert(endpoint: LocalEndpoint): Promise<ProgrammedEndpoint> {
    this.#endpoints.set(endpoint.podKey, endpoint);
    const linkIndex = this.#host?.findIndex(endpoint.interfaceName);
    if (linkIndex !== undefined)
      this.#host?.changeRoutes(endpoint.addresses.map((address) => ({ kind: "replace", route: { destination: hostCidr(address), linkIndex } })));
    return Promise.resolve({ hasPolicy: true });
  }

  remove(podKey: PodKey, containerId: string): Promise<void> {
    const endpoint = this.#endpoints.get(podKey);
    if (endpoint?.containerId !== containerId) return Promise.resolve();
    this.#endpoints.delete(podKey);
    this.#host?.changeRoutes(endpoint.addresses.map((address) => ({ kind: "delete", route: { destination: hostCidr(address) } })));
    return Promise.resolve();
  }

  list(): readonly LocalEndpoint[] {
    return [...this.#endpoints.values()];
  }
}
