/**
 * Bandwidth of pods, by their Endpoint records: to the pod by a token bucket on the host end, from the pod by one on an ifb device beside it.
 *
 * Invariants: what is there and is not ours stays (a chained bandwidth plugin shapes by itself; it is reported); an ifb device is there only as long as its
 * pod's interface wants it; a pod that cannot be shaped is connected all the same, and tried again. The first pass after a start reads what the last run left.
 */
import type { PodKey } from "../../src/model/names.ts";
import type { DirectionLimits, TrafficLimits } from "../../src/model/traffic-limits.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import type { Part } from "../../src/runtime/supervisor.ts";
import type { LocalEndpoint } from "../apply/local-endpoints.ts";
import type { Rtnetlink } from "../drivers/rtnetlink/driver.ts";
import type { Shape } from "../drivers/rtnetlink/shaping.ts";

/** What this needs of the kernel. */
export type ShapingDriver = Pick<
  Rtnetlink,
  "findLink" | "links" | "deleteLink" | "createIfb" | "shape" | "unshape" | "redirectReceived" | "receiveDirectly" | "qdiscs"
>;

export interface ShaperOptions {
  readonly kernel: ShapingDriver;
  readonly endpoints: () => readonly LocalEndpoint[];
  /** Of the pod's record, when it is this pod's. */
  readonly limitsOf: (podKey: PodKey, podUid: string | undefined) => TrafficLimits | undefined;
  /** False until the pods of the last run and their records are known: nothing is touched before. */
  readonly isReady: () => boolean;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Wanted {
  readonly toPod: DirectionLimits;
  readonly fromPod: DirectionLimits;
}

const RETRY_MS = 30_000;
const UNREADY_MS = 500;
const IFB_PREFIX = "sdgq";
/** An interface's name has 15 characters at most. */
const IFB_SUFFIX_LENGTH = 15 - IFB_PREFIX.length;
const NOTHING: Wanted = { toPod: {}, fromPod: {} };

export class Shaper implements Part {
  readonly name = "shaper";
  readonly #options: ShaperOptions;
  /** By host interface: what it was given, as text, and the link that has it. */
  readonly #applied = new Map<string, { readonly index: number; readonly text: string }>();
  #problem: string | undefined;
  #isFirst = true;

  constructor(options: ShaperOptions) {
    this.#options = options;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.apply();
      await this.#options.clock.sleep(this.#isFirst ? UNREADY_MS : RETRY_MS, signal);
    }
  }

  /** Brings the kernel to what the records say; costs a look at each connected pod when nothing changed. Never throws. */
  apply(): void {
    const { endpoints, isReady, limitsOf, log } = this.#options;
    if (!isReady()) return;
    let problem: string | undefined;
    try {
      const present = new Set<string>();
      if (this.#isFirst) this.#readKernel();
      this.#isFirst = false;
      for (const { interfaceName, podKey, podUid } of endpoints()) {
        const limits = limitsOf(podKey, podUid);
        present.add(interfaceName);
        const wanted = limits === undefined ? NOTHING : { toPod: bandwidthOf(limits.ingress), fromPod: bandwidthOf(limits.egress) };
        problem = this.#applyOne(interfaceName, wanted) ?? problem;
      }
      for (const name of this.#applied.keys()) {
        if (present.has(name)) continue;
        this.#applied.delete(name);
        this.#deleteIfb(ifbName(name));
      }
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error);
    }
    if (problem !== undefined && problem !== this.#problem) log.warn({ problem }, "a pod's bandwidth cannot be limited: trying again");
    this.#problem = problem;
  }

  /** Whatever the last run left is looked at once more, and devices whose pod is gone are removed. */
  #readKernel(): void {
    const { kernel, endpoints } = this.#options;
    const wanted = new Set(endpoints().map(({ interfaceName }) => ifbName(interfaceName)));
    const shaped = new Set(kernel.qdiscs().flatMap(({ linkIndex, isOurs }) => (isOurs ? [linkIndex] : [])));
    for (const { name, index, kind } of kernel.links()) {
      if (kind === "ifb" && name.startsWith(IFB_PREFIX) && !wanted.has(name)) this.#deleteIfb(name);
      else if (shaped.has(index)) this.#applied.set(name, { index, text: "of an earlier run" });
    }
  }

  /** What went wrong. */
  #applyOne(interfaceName: string, wanted: Wanted): string | undefined {
    const { kernel } = this.#options;
    const text = JSON.stringify(wanted);
    const before = this.#applied.get(interfaceName);
    if (before === undefined && text === JSON.stringify(NOTHING)) return undefined;
    const link = kernel.findLink(interfaceName);
    if (link === undefined) return undefined;
    const isSame = before?.index === link.index;
    if (isSame && before.text === text) return undefined;
    try {
      const toPod = shapeOf(wanted.toPod, link.mtu);
      if (toPod === undefined) kernel.unshape(link.index);
      else this.#shape(link.index, toPod);
      this.#shapeReceived(interfaceName, link, wanted.fromPod);
      if (text === JSON.stringify(NOTHING)) this.#applied.delete(interfaceName);
      else this.#applied.set(interfaceName, { index: link.index, text });
      return undefined;
    } catch (error) {
      this.#applied.set(interfaceName, { index: link.index, text: "not applied" });
      return `${interfaceName}: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  #shapeReceived(interfaceName: string, link: { readonly index: number; readonly mtu: number }, limits: DirectionLimits): void {
    const { kernel } = this.#options;
    const name = ifbName(interfaceName);
    const shape = shapeOf(limits, link.mtu);
    const known = kernel.findLink(name);
    if (shape === undefined) {
      if (known === undefined) return;
      kernel.receiveDirectly(link.index);
      this.#deleteIfb(name);
      return;
    }
    if (known === undefined) kernel.createIfb({ name, mtu: link.mtu });
    const ifb = known ?? kernel.findLink(name);
    if (ifb === undefined) throw new RangeError(`${name} is gone`);
    // Queue first: what is redirected is limited from its first packet.
    this.#shape(ifb.index, shape);
    if (kernel.qdiscs().some(({ linkIndex, kind }) => linkIndex === link.index && kind === "ingress")) return;
    kernel.redirectReceived(link.index, ifb.index);
  }

  #shape(linkIndex: number, shape: Shape): void {
    const { kernel } = this.#options;
    kernel.shape(
      linkIndex,
      shape,
      kernel.qdiscs().some((qdisc) => qdisc.linkIndex === linkIndex && qdisc.isOurs),
    );
  }

  #deleteIfb(name: string): void {
    const { kernel } = this.#options;
    if (kernel.findLink(name)?.kind === "ifb") kernel.deleteLink(name);
  }
}

/** The part of the limits that is a queue's. */
function bandwidthOf({ bitsPerSecond, burstBytes, peakBitsPerSecond, minBurstBytes }: DirectionLimits): DirectionLimits {
  if (bitsPerSecond === undefined) return {};
  return {
    bitsPerSecond,
    ...(burstBytes === undefined ? {} : { burstBytes }),
    ...(peakBitsPerSecond === undefined ? {} : { peakBitsPerSecond }),
    ...(minBurstBytes === undefined ? {} : { minBurstBytes }),
  };
}

function shapeOf({ bitsPerSecond, burstBytes = 0, peakBitsPerSecond, minBurstBytes }: DirectionLimits, mtu: number): Shape | undefined {
  if (bitsPerSecond === undefined) return undefined;
  return {
    bitsPerSecond,
    burstBytes,
    mtu,
    ...(peakBitsPerSecond === undefined ? {} : { peakBitsPerSecond }),
    ...(minBurstBytes === undefined ? {} : { minBurstBytes }),
  };
}

/** Not with the agent's prefix: what passes through it is no pod's interface. The hash at the end of the pod's interface makes it its own. */
function ifbName(interfaceName: string): string {
  return `${IFB_PREFIX}${interfaceName.slice(-IFB_SUFFIX_LENGTH)}`;
}
