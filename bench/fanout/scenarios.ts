/**
 * The scenarios as data. `kind` says which change the cluster makes; a change that concerns all nodes must cost as many deliveries as there are agents, one
 * that concerns 20 nodes 20.
 */
export const SCENARIO_NAMES = ["idle", "broadcast", "scoped", "churn", "burst", "hot-key", "slow", "clients", "reconnect", "storm", "restart"] as const;
export type ScenarioName = (typeof SCENARIO_NAMES)[number];

/** broadcast: a node's address. scoped: a pod that comes or goes, which 20 nodes have in an address set. hot: always the same node's address. */
export type ChangeKind = "broadcast" | "scoped" | "hot";

export interface Load {
  readonly kind: ChangeKind;
  readonly ratePerSecond: number;
  /** Changes given to the server at once. */
  readonly batch: number;
  /** Fixed number of changes instead of so many seconds. */
  readonly changes?: number;
  /** The next change waits until the nodes concerned have acknowledged the one before, so that no two share a message. */
  readonly isEachAlone: boolean;
  /** Changes before anything is measured. */
  readonly warmUpChanges: number;
}

export interface Scenario {
  readonly name: ScenarioName;
  readonly what: string;
  /** Undefined: nothing changes. */
  readonly load: Load | undefined;
}

export const SCENARIOS: Readonly<Record<ScenarioName, Scenario>> = {
  idle: { name: "idle", what: "nothing changes; heartbeats", load: undefined },
  broadcast: {
    name: "broadcast",
    what: "one change that reaches every agent, spaced",
    load: { kind: "broadcast", ratePerSecond: 2, batch: 1, isEachAlone: false, warmUpChanges: 10 },
  },
  scoped: {
    name: "scoped",
    what: "one change that concerns 20 nodes, each alone",
    load: { kind: "scoped", ratePerSecond: 20, batch: 1, isEachAlone: true, warmUpChanges: 50 },
  },
  churn: {
    name: "churn",
    what: "pods that come and go at a rate, 20 nodes concerned by each",
    load: { kind: "scoped", ratePerSecond: 100, batch: 1, isEachAlone: false, warmUpChanges: 100 },
  },
  burst: {
    name: "burst",
    what: "ten changes at once that reach every agent",
    load: { kind: "broadcast", ratePerSecond: 20, batch: 10, isEachAlone: false, warmUpChanges: 50 },
  },
  "hot-key": {
    name: "hot-key",
    what: "10,000 changes of one record that every agent has, within a second",
    load: { kind: "hot", ratePerSecond: 10_000, batch: 1, changes: 10_000, isEachAlone: false, warmUpChanges: 200 },
  },
  slow: { name: "slow", what: "churn while some agents read nothing, and before it the same while all read", load: undefined },
  clients: { name: "clients", what: "the operator lists all agents: sedge clients", load: undefined },
  storm: { name: "storm", what: "all agents connect at the same moment with nothing, and get their whole view", load: undefined },
  restart: { name: "restart", what: "the server is killed and started again; all agents come back by themselves with what they have", load: undefined },
  reconnect: { name: "reconnect", what: "all agents lose their connection at once and come back with what they have", load: undefined },
};
