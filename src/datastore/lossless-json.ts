/**
 * JSON whose integers beyond 2^53 survive a round trip: Calico's sequence numbers are nanoseconds. They are kept as their source text (ECMAScript's raw JSON
 * values), which JSON.stringify writes back as it was. Only for objects that are read to be written again: it costs a call per value.
 */

interface RawJson {
  rawJSON(text: string): object;
}

const { rawJSON } = JSON as unknown as RawJson;

export function parseLosslessJson(text: string): unknown {
  return JSON.parse(text, keepLargeIntegers);
}

/** A value that JSON.stringify writes as this integer. */
export function jsonInteger(value: bigint): unknown {
  return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : rawJSON(String(value));
}

function keepLargeIntegers(_key: string, value: unknown, context?: { readonly source?: string }): unknown {
  if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
  const source = context?.source ?? "";
  return /^-?\d+$/.test(source) ? rawJSON(source) : value;
}
