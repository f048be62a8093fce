/** Settings of `sedge bench fanout`. The schema is the only home of name, type, range, default and meaning. */
import { z } from "zod";
import { DEFAULT_DELIVERY, DELIVERY_KINDS } from "../../fanout/delivery/delivery.ts";
import { ACK_MODES } from "./acks.ts";
import { SCENARIO_NAMES } from "./scenarios.ts";

export const benchConfigSchema = z
  .object({
    agents: z.number().int().min(2).max(25_000).default(1_000).describe("Simulated agents, each with a TCP connection and a record stream of its own"),
    nodes: z.number().int().min(2).max(50_000).optional().describe("Nodes of the cluster, at least as many as agents; as many when not given"),
    podsPerNode: z.number().int().min(0).max(50).default(10).describe("Pods on a node, the pods of policies included as far as they go"),
    policies: z.number().int().min(1).max(5_000).optional().describe("Policies, each concerning 20 nodes; one for five agents, at most 200, when not given"),
    seconds: z
      .number()
      .min(0.1)
      .max(3_600)
      .default(10)
      .describe("How long the load of one scenario lasts; where a scenario counts changes, it is their number divided by the rate"),
    rate: z.number().min(0.1).max(100_000).optional().describe("Changes per second; each scenario has its own default"),
    scenario: z
      .array(z.enum(SCENARIO_NAMES))
      .min(1)
      .default([...SCENARIO_NAMES])
      .describe(`Scenarios, in the order given (repeat the flag): ${SCENARIO_NAMES.join(", ")}; all when not given`),
    delivery: z
      .enum(DELIVERY_KINDS)
      .default(DEFAULT_DELIVERY)
      .describe(`What carries the record stream: ${DELIVERY_KINDS.join(" or ")}`),
    tls: z.boolean().default(false).describe("Mutual TLS, with a certificate for each agent"),
    slow: z.number().min(0.001).max(0.5).default(0.1).describe("Share of the agents that read nothing in the scenario slow"),
    acks: z
      .enum(ACK_MODES)
      .default("paced")
      .describe("When agents acknowledge: paced (as the server asks), each (every commit at once), none (when the load is over: what sending alone costs)"),
    seed: z.number().int().min(0).max(4_294_967_295).default(1).describe("Seed of the generated cluster and its changes"),
    sample: z
      .number()
      .int()
      .min(1)
      .max(1_000)
      .default(10)
      .describe("Agents that keep a whole view and check every record and digest; the others count, and keep digests"),
    baseline: z.boolean().default(true).describe("Replay the same messages on bare sockets, from Node and (with a C compiler on the machine) from C"),
    out: z.string().default("bench/results").describe("Directory for the picture and the results as one file"),
    profile: z.string().optional().describe("Directory for CPU profiles of the server, one a scenario (they slow it down)"),
  })
  .strict();

export type BenchConfig = z.infer<typeof benchConfigSchema>;
