import { expect, it } from "vitest";
import type { EndpointReport } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import type { NodeId } from "../table/node-ids.ts";
import { comeAgain, Outstanding } from "./outstanding.ts";

const NODE = 1 as NodeId;
const BLOCK = { address: Buffer.from([10, 0, 0, 0]), length: 26 };
const report = (generation: bigint): EndpointReport => ({ block: BLOCK, generation }) as EndpointReport;
const result = (generation: bigint) => comeAgain({ block: BLOCK, generation }, "");

it("the newest report of a block waits for its own result: one of an older report settles nothing", () => {
  const outstanding = new Outstanding();
  outstanding.add(NODE, report(1n));
  outstanding.add(NODE, report(2n));
  outstanding.settle(NODE, result(1n));
  expect(outstanding.takeAll()).toMatchObject([[NODE, { generation: 2n, retry: true, error: expect.stringContaining("lost its parent") }]]);
  expect(outstanding.takeAll()).toEqual([]);
  outstanding.add(NODE, report(3n));
  outstanding.settle(NODE, result(3n));
  expect(outstanding.takeAll()).toEqual([]);
});
