/** Ranges of port numbers, both ends included. Invariant of merged lists: ascending, neither overlapping nor adjacent. */

/** Both ends included, 0 to 65535. */
export interface PortSpan {
  readonly first: number;
  readonly last: number;
}

/** The union of the ranges as the fewest ranges, ascending. */
export function mergePortRanges(ranges: readonly PortSpan[]): PortSpan[] {
  const merged: { first: number; last: number }[] = [];
  for (const range of [...ranges].sort((a, b) => a.first - b.first)) {
    const previous = merged.at(-1);
    if (previous !== undefined && range.first <= previous.last + 1) previous.last = Math.max(previous.last, range.last);
    else merged.push({ first: range.first, last: range.last });
  }
  return merged.slice();
}
