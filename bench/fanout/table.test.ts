import { expect, it } from "vitest";
import type { ScenarioResult } from "./result.ts";
import { aboveIdle } from "./table.ts";

const idle = { scenario: "idle", coreShare: 0.02, seconds: 10 } as ScenarioResult;
const broadcast = { scenario: "broadcast", coreShare: 0.1, seconds: 10, cpuUsPerDelivery: 10, deliveries: { messages: 100_000 } } as ScenarioResult;

it("aboveIdle: the deliveries' share of the processor without the idle agents', which goes with the time; nothing where idle was not measured", () => {
  expect(aboveIdle(broadcast, [idle, broadcast])).toBe(8);
  expect(aboveIdle(broadcast, [broadcast])).toBeUndefined();
  expect(aboveIdle(idle, [idle, broadcast])).toBeUndefined();
});
