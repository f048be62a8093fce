/**
 * A pod's limits on its traffic, from its annotations, as Calico's users write them. Pure.
 *
 * qos.projectcalico.org/{ingress,egress}{Bandwidth,Burst,Peakrate,Minburst,PacketRate,PacketBurst,MaxConnections} and dscp; for the bandwidth alone also
 * kubernetes.io/{ingress,egress}-bandwidth, which the first win over. Ingress is to the pod, egress from it.
 * Invariant: an annotation that is not understood is named in `problems`, and the others hold all the same. In its place stands what this pod had there last that
 * was understood (`before`), so that a slip of the pen lifts no limit of a pod that runs; without that it limits nothing, as in Calico.
 */
import type { Labels } from "./resource.ts";

/** One direction; absent: no such limit. Rates are bits and packets a second, sizes are bytes. */
export interface DirectionLimits {
  readonly bitsPerSecond?: number;
  /** With bitsPerSecond only: so many bytes may go at once after a pause. */
  readonly burstBytes?: number;
  /** With bitsPerSecond only, and above it: what a burst goes out with. */
  readonly peakBitsPerSecond?: number;
  /** With peakBitsPerSecond only; at least one packet. */
  readonly minBurstBytes?: number;
  readonly packetsPerSecond?: number;
  /** With packetsPerSecond only. */
  readonly packetBurst?: number;
  readonly maxConnections?: number;
}

export interface TrafficLimits {
  readonly ingress: DirectionLimits;
  readonly egress: DirectionLimits;
  /** Code point (0 to 63) of what the pod sends to addresses outside of all pools. */
  readonly dscp?: number;
  /** Annotations that are not understood, each with the reason. */
  readonly problems: readonly string[];
}

const QOS_PREFIX = "qos.projectcalico.org/";
const DIRECTIONS = ["ingress", "egress"] as const;
const KUBERNETES_BANDWIDTH = { ingress: "kubernetes.io/ingress-bandwidth", egress: "kubernetes.io/egress-bandwidth" } as const;
const NAMES = ["Bandwidth", "Burst", "Peakrate", "Minburst", "PacketRate", "PacketBurst", "MaxConnections"] as const;

/** Keys of annotations that limit traffic. */
export const LIMIT_ANNOTATIONS: readonly string[] = [
  ...DIRECTIONS.flatMap((direction) => [KUBERNETES_BANDWIDTH[direction], ...NAMES.map((name) => `${QOS_PREFIX}${direction}${name}`)]),
  `${QOS_PREFIX}dscp`,
];

const SUFFIXES: Readonly<Record<string, number>> = {
  "": 1,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};
/** Calico's: 4 Gibit, so that a rate is a mean over seconds. */
const DEFAULT_BURST_BITS = 2 ** 32;
const DEFAULT_PACKET_BURST = 5;
const MIN_RATE = 1e3;
const MAX_RATE = 1e15;
/** A token bucket counts bytes in 32 bits. */
const MAX_SIZE_BITS = 8 * (2 ** 32 - 1);
const MAX_PACKET_RATE = 10_000;
const MAX_COUNT = 2 ** 32 - 1;
const CODE_POINTS: Readonly<Record<string, number>> = {
  DF: 0,
  EF: 46,
  VA: 44,
  LE: 1,
  ...Object.fromEntries(Array.from({ length: 8 }, (_, index) => [`CS${index}`, 8 * index])),
  ...Object.fromEntries([1, 2, 3, 4].flatMap((group) => [1, 2, 3].map((precedence) => [`AF${group}${precedence}`, 8 * group + 2 * precedence]))),
};

export interface ReadLimits {
  readonly limits: TrafficLimits;
  /** The annotations that the limits are made of: `before` of the next. */
  readonly inForce: Labels;
}

/** What is wrong with an annotation, by its key. `isText`: with what it says itself, not with what it says beside another. */
type Problems = Map<string, { readonly reason: string; readonly isText: boolean }>;

/** undefined: the pod has no such annotation. `before`: what was in force of this pod's annotations; empty for one that is new. */
export function readTrafficLimits(annotations: Labels, before: Labels = {}): ReadLimits | undefined {
  if (!LIMIT_ANNOTATIONS.some((key) => annotations[key] !== undefined)) return undefined;
  const wrong: Problems = new Map();
  const limits = readAll(annotations, wrong);
  if (wrong.size === 0) return { limits: { ...limits, problems: [] }, inForce: annotations };
  const kept = new Map([...wrong].flatMap(([key, { isText }]): [string, string][] => (!isText || before[key] === undefined ? [] : [[key, before[key]]])));
  const mended: Labels = { ...annotations, ...Object.fromEntries(kept) };
  const stillWrong: Problems = new Map();
  const mendedLimits = readAll(mended, stillWrong);
  const problems = [...new Map([...[...wrong].filter(([key]) => kept.has(key)), ...stillWrong])].map(([key, { reason }]) => {
    const isKept = !stillWrong.has(key);
    return `${key}: ${reason}; ${isKept ? `${JSON.stringify(kept.get(key))} of before stays in force` : "it limits nothing"}`;
  });
  return {
    limits: { ...mendedLimits, problems },
    inForce: Object.fromEntries(Object.entries(mended).filter(([key]) => !stillWrong.has(key))),
  };
}

function readAll(annotations: Labels, problems: Problems): Omit<TrafficLimits, "problems"> {
  const dscp = readCodePoint(annotations, problems);
  return {
    ingress: readDirection(annotations, "ingress", problems),
    egress: readDirection(annotations, "egress", problems),
    ...(dscp === undefined ? {} : { dscp }),
  };
}

function readDirection(annotations: Labels, direction: (typeof DIRECTIONS)[number], problems: Problems): DirectionLimits {
  const key = (name: (typeof NAMES)[number]): string => `${QOS_PREFIX}${direction}${name}`;
  const read = (name: (typeof NAMES)[number], from: number, to: number): number | undefined => readQuantity(annotations, key(name), { from, to }, problems);
  const needs = (name: (typeof NAMES)[number], other: (typeof NAMES)[number]): void => {
    if (annotations[key(name)] !== undefined)
      problems.set(key(name), { reason: `${JSON.stringify(annotations[key(name)])} needs ${key(other)}`, isText: false });
  };
  const bitsPerSecond =
    annotations[key("Bandwidth")] === undefined
      ? readQuantity(annotations, KUBERNETES_BANDWIDTH[direction], { from: MIN_RATE, to: MAX_RATE }, problems)
      : read("Bandwidth", MIN_RATE, MAX_RATE);
  const packetsPerSecond = read("PacketRate", 1, MAX_PACKET_RATE);
  const maxConnections = read("MaxConnections", 1, MAX_COUNT);
  if (packetsPerSecond === undefined) needs("PacketBurst", "PacketRate");
  const limits = {
    ...(packetsPerSecond === undefined ? {} : { packetsPerSecond, packetBurst: read("PacketBurst", 1, MAX_PACKET_RATE) ?? DEFAULT_PACKET_BURST }),
    ...(maxConnections === undefined ? {} : { maxConnections }),
  };
  if (bitsPerSecond === undefined) {
    for (const name of ["Burst", "Peakrate", "Minburst"] as const) needs(name, "Bandwidth");
    return limits;
  }
  const burstBytes = Math.floor((read("Burst", 1e3, MAX_SIZE_BITS) ?? DEFAULT_BURST_BITS) / 8);
  let peakBitsPerSecond = read("Peakrate", MIN_RATE, MAX_RATE);
  if (peakBitsPerSecond !== undefined && peakBitsPerSecond <= bitsPerSecond) {
    problems.set(key("Peakrate"), { reason: `${JSON.stringify(annotations[key("Peakrate")])} must be above ${key("Bandwidth")}`, isText: false });
    peakBitsPerSecond = undefined;
  }
  if (peakBitsPerSecond === undefined) {
    if (annotations[key("Peakrate")] === undefined) needs("Minburst", "Peakrate");
    return { ...limits, bitsPerSecond, burstBytes };
  }
  const minBurst = readQuantity(annotations, key("Minburst"), { from: 1, to: 2 ** 32 - 1 }, problems);
  return { ...limits, bitsPerSecond, burstBytes, peakBitsPerSecond, ...(minBurst === undefined ? {} : { minBurstBytes: minBurst }) };
}

/** A Kubernetes quantity: "10M", "1.5Gi", "1000", "1e6". */
function readQuantity(annotations: Labels, key: string, { from, to }: { readonly from: number; readonly to: number }, problems: Problems): number | undefined {
  const text = annotations[key];
  if (text === undefined) return undefined;
  const [, digits, suffix] = /^([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)$/.exec(text.trim()) ?? [];
  const unit = SUFFIXES[suffix ?? "?"];
  if (digits === undefined || unit === undefined) {
    problems.set(key, { reason: `${JSON.stringify(text)} is no quantity, for example 10M`, isText: true });
    return undefined;
  }
  const value = Math.floor(Number(digits) * unit);
  if (value >= from && value <= to) return value;
  problems.set(key, { reason: `${JSON.stringify(text)} is not from ${from} to ${to}`, isText: true });
  return undefined;
}

function readCodePoint(annotations: Labels, problems: Problems): number | undefined {
  const key = `${QOS_PREFIX}dscp`;
  const text = annotations[key];
  if (text === undefined) return undefined;
  const value = CODE_POINTS[text.trim().toUpperCase()] ?? (/^[0-9]{1,2}$/.test(text.trim()) ? Number(text) : undefined);
  if (value !== undefined && value <= 63) return value;
  problems.set(key, { reason: `${JSON.stringify(text)} is neither 0 to 63 nor a name, for example EF, AF21 or CS1`, isText: true });
  return undefined;
}
