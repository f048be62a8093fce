/**
 * Pretended server and API for blocks: claims the first free block of a pool, keeps what was reported, and says what the real one says when it cannot.
 *
 * With a file it outlives the process. `isAway` makes every call fail as a lost connection does.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { type BlockReport, type ClaimClient, ClaimError, type ClaimedBlock, type ClaimRequest, type Held, type ReportClient } from "../../agent/sync/claims.ts";
import { chooseFreeBlock, type FreeBlocks } from "../../src/ipam/free-blocks.ts";
import type { Pool } from "../../src/model/record.ts";
import { type Cidr, cidrVersion } from "../../src/net/cidr.ts";

export class FakeBlockApi implements ClaimClient, ReportClient {
  readonly pools: readonly Pool[];
  readonly #node: string;
  readonly #file: string | undefined;
  readonly #blocks = new Map<Cidr, ClaimedBlock>();
  readonly #generations = new Map<Cidr, number>();
  isAway = false;
  claimCalls = 0;
  #claims = 0;
  /** Blocks of other nodes. */
  readonly taken: Cidr[] = [];

  constructor(options: { readonly node: string; readonly pools: readonly Pool[]; readonly file?: string }) {
    this.#node = options.node;
    this.pools = options.pools;
    this.#file = options.file;
    for (const block of this.#read()) this.#blocks.set(block.cidr, block);
  }

  claimBlock({ ipVersion, full, pools }: ClaimRequest): Promise<readonly ClaimedBlock[]> {
    this.claimCalls++;
    if (this.isAway) return Promise.reject(new ClaimError("unavailable", "there is no connection to a fan-out server now"));
    const isWanted = (pool: string): boolean =>
      pools === undefined ? this.pools.some(({ name, disabled }) => name === pool && !disabled) : pools.includes(pool);
    for (const block of this.#blocks.values())
      if (cidrVersion(block.cidr) === ipVersion && !full.includes(block.cidr) && isWanted(block.pool)) return Promise.resolve([block]);
    const taken: Iterable<Cidr> | FreeBlocks = [...this.#blocks.keys(), ...this.taken];
    for (const pool of this.pools) {
      if (!isWanted(pool.name) || cidrVersion(pool.cidr) !== ipVersion) continue;
      const cidr = chooseFreeBlock({ pool, node: this.#node, taken });
      if (cidr === undefined) continue;
      const block = { cidr, pool: pool.name, allocations: [], claim: `claim-${++this.#claims}`, lent: [] };
      this.#blocks.set(cidr, block);
      this.#write();
      return Promise.resolve([block]);
    }
    return Promise.reject(new ClaimError("no-free-block", `no pool has a free IPv${ipVersion} block`));
  }

  listBlocks({ takeOver }: { readonly takeOver?: readonly Held[] } = {}): Promise<readonly ClaimedBlock[]> {
    if (this.isAway) return Promise.reject(new ClaimError("unavailable", "there is no connection to a fan-out server now"));
    if (takeOver === undefined) return Promise.resolve([...this.#blocks.values()]);
    for (const { cidr } of takeOver) {
      const block = this.#blocks.get(cidr);
      if (block !== undefined) this.#blocks.set(cidr, { ...block, claim: `claim-${++this.#claims}` });
    }
    this.#write();
    return Promise.resolve(takeOver.flatMap(({ cidr }) => this.#blocks.get(cidr) ?? []));
  }

  releaseBlock({ cidr, claim }: Held & Pick<ClaimedBlock, "claim">): Promise<boolean> {
    if (this.isAway) return Promise.reject(new ClaimError("unavailable", "there is no connection to a fan-out server now"));
    const block = this.#blocks.get(cidr);
    if (block?.claim === claim && block.allocations.length > 0) return Promise.resolve(false);
    if (block?.claim === claim) this.dropBlock(cidr);
    return Promise.resolve(true);
  }

  listen(): void {}

  report({ block, generation, allocations }: BlockReport): void {
    const known = this.#blocks.get(block);
    if (this.isAway || known === undefined || generation < (this.#generations.get(block) ?? 0)) return;
    this.#generations.set(block, generation);
    this.#blocks.set(block, { ...known, allocations });
    this.#write();
  }

  /** What the API has. */
  get blocks(): readonly ClaimedBlock[] {
    return [...this.#blocks.values()];
  }

  dropBlock(block: Cidr): void {
    this.#blocks.delete(block);
    this.#write();
  }

  #read(): readonly ClaimedBlock[] {
    if (this.#file === undefined) return [];
    try {
      return JSON.parse(readFileSync(this.#file, "utf8")) as ClaimedBlock[];
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
  }

  #write(): void {
    if (this.#file === undefined) return;
    writeFileSync(`${this.#file}.new`, JSON.stringify(this.blocks));
    renameSync(`${this.#file}.new`, this.#file);
  }
}
