/** What a relay's table comes from, for who asks: its parent, which alone knows the cluster's objects. */
import type { RecordKey } from "../../src/model/record.ts";
import { ObjectLog } from "../object-log.ts";
import type { Origin } from "../services/origin.ts";
import type { Upstream } from "./upstream.ts";

export class RelayOrigin implements Origin {
  /** Empty: questions about objects go to the parent. */
  readonly objects = new ObjectLog();
  readonly problems = [];
  readonly #upstream: Upstream;

  constructor(upstream: Upstream) {
    this.#upstream = upstream;
  }

  get status(): string {
    return this.#upstream.syncStatus;
  }

  get isInSync(): boolean {
    return this.#upstream.isInSync;
  }

  refreshVersions(): void {
    // They come with the parent's heartbeats.
  }

  describe(_key: RecordKey): undefined {
    return undefined;
  }
}
