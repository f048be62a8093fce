/** What the server is told of this node's blocks: each block that changed, once for each turn of the event loop. */
import type { Cidr } from "../../src/net/cidr.ts";
import { compareIps, type IpAddress } from "../../src/net/ip.ts";
import type { ReportClient } from "../sync/claims.ts";
import { handleOf } from "./attachment.ts";
import type { Ledger } from "./ledger.ts";
import type { Lending } from "./lending.ts";

export class BlockReports {
  readonly #options: { readonly ledger: Ledger; readonly lending: () => Lending; readonly client: ReportClient };
  readonly #dirty = new Set<Cidr>();

  constructor(options: { readonly ledger: Ledger; readonly lending: () => Lending; readonly client: ReportClient }) {
    this.#options = options;
  }

  /** The blocks of these are to be reported. */
  touch(addresses: readonly IpAddress[]): void {
    for (const address of addresses) {
      const block = this.#options.ledger.blocks.blockOf(address);
      if (block !== undefined) this.mark(block);
    }
  }

  mark(block: Cidr): void {
    if (this.#dirty.size === 0) setImmediate(() => this.#report());
    this.#dirty.add(block);
  }

  #report(): void {
    const { client, ledger } = this.#options;
    const { blocks, state } = ledger;
    const lending = this.#options.lending();
    for (const block of this.#dirty) {
      const known = state.blocks.get(block);
      if (known === undefined) continue;
      const allocations = [...blocks.usedIn(block)]
        .sort(([a], [b]) => compareIps(a, b))
        .flatMap(([address, id]) => {
          // Taken and not yet on the disk: the append marks the block again.
          const attachment = state.attachments.get(id);
          return attachment?.addresses.includes(address) === true
            ? { address, handle: handleOf(attachment), namespace: attachment.namespace, pod: attachment.pod }
            : [];
        });
      const { claim = "", generation, of } = known;
      const [lent, declined] = of === undefined ? [lending.lentOf(block), lending.declinedOf(block)] : [[], []];
      client.report({ block, generation, allocations, claim, ...(of === undefined ? {} : { of }), lent, declined });
    }
    this.#dirty.clear();
  }
}
