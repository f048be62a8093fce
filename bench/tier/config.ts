/** Settings of `sedge bench tier`. The schema is the only home of name, type, range, default and meaning. */
import { z } from "zod";
import { DEFAULT_DELIVERY, DELIVERY_KINDS } from "../../fanout/delivery/delivery.ts";
import { TIER_SCENARIOS } from "./result.ts";

export const tierConfigSchema = z
  .object({
    agents: z.number().int().min(20).max(25_000).default(5_000).describe("Simulated agents, each with a connection and a record stream of its own"),
    podsPerNode: z.number().int().min(0).max(50).default(10).describe("Pods on a node"),
    scenario: z
      .array(z.enum(TIER_SCENARIOS))
      .min(1)
      .default([...TIER_SCENARIOS])
      .describe(`Scenarios, in the order given (repeat the flag): ${TIER_SCENARIOS.join(", ")}; all when not given`),
    connected: z.number().int().min(1).max(10_000).optional().describe("handshakes: agents that are there already; a fifth of --agents when not given"),
    moves: z.number().int().min(1).max(10_000).default(200).describe("Agents that a server asks to move in a second"),
    drainMs: z.number().int().min(100).max(300_000).default(5_000).describe("rolling-restart: time that a server gives its agents to leave (ms)"),
    settleMs: z
      .number()
      .int()
      .min(100)
      .max(120_000)
      .default(30_000)
      .describe("rolling-restart: longest wait, after a server has come back, for the agents whose first choice it is (ms)"),
    delivery: z.enum(DELIVERY_KINDS).default(DEFAULT_DELIVERY).describe("What carries the record stream"),
    sample: z.number().int().min(1).max(1_000).default(10).describe("Agents that keep a whole view and check every record"),
    seed: z.number().int().min(0).max(4_294_967_295).default(1).describe("Seed of the generated cluster and its changes"),
    out: z.string().default("bench/results").describe("Directory for the results as one file"),
  })
  .strict();
