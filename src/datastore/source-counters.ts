/** What the source counts. A closed set, so that a program's metrics can name each; values only grow. */

export const COUNTER_NAMES = [
  "upserts",
  "deletes",
  "invalids",
  /** Objects read whose part that counts had not changed: heartbeats, status noise, what a new list repeats. */
  "unchanged",
  /** Objects without a name: nothing can be said about them. */
  "nameless",
  "bookmarks",
  /** Questions whether a silent watch has everything. */
  "proofs",
  "streamLists",
  "pagedLists",
  "pages",
  "completedLists",
  "watches",
  "reconnectsEnded",
  "reconnectsExpired",
  "reconnectsAhead",
  "reconnectsRefused",
  "reconnectsDisconnected",
  "reconnectsSilent",
  "reconnectsMissing",
  "fallbacksToPages",
] as const;

export type CounterName = (typeof COUNTER_NAMES)[number];
export type SourceCounters = Record<CounterName, number>;

export function zeroCounters(): SourceCounters {
  return Object.fromEntries(COUNTER_NAMES.map((name) => [name, 0])) as SourceCounters;
}
