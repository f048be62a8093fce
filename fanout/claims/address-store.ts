/** What block claims need of the API. `src/datastore/writer.ts` implements it; tests have a store in memory with the same compare-and-swap. */
import type { AddressWriter } from "../../src/datastore/writer.ts";

export type AddressStore = Pick<AddressWriter, "read" | "create" | "update" | "delete">;
