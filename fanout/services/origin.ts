/** Where a server's table comes from: the engine, or a relay's parent. */
import type { ObjectProblems } from "../../src/compute/problems.ts";
import type { RecordKey } from "../../src/model/record.ts";
import type { ObjectLog } from "../object-log.ts";

export interface Origin {
  /** Of the source. */
  readonly status: string;
  readonly isInSync: boolean;
  readonly problems: readonly ObjectProblems[];
  readonly objects: ObjectLog;
  /** The selector behind a policy's or a set's record, in words; undefined: not known. */
  describe(key: RecordKey): string | undefined;
  /** See Engine.refreshVersions. */
  refreshVersions(): void;
}

/** Of the problems those of objects that could not be understood in whole: what is only unused is in force. */
export function invalidOf({ problems }: Pick<Origin, "problems">): readonly ObjectProblems[] {
  return problems.filter(({ outcome }) => outcome !== "unused");
}
