/** What a relay says of its nodes, with sessions that the test plays. */
import { describe, expect, it } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { seedOf } from "../../src/wire/digest.ts";
import type { RelayAck } from "../../src/wire/gen/sedge/sync/v1/relay.ts";
import type { ClientState } from "../session/client-state.ts";
import { Table } from "../table/table.ts";
import { Uplink } from "./uplink.ts";

function start() {
  const clock = new ManualClock();
  const table = new Table({ seed: seedOf("u") });
  const name = "n1" as NodeName;
  const id = table.nodes.idOf(name);
  table.nodes.hold(id);
  const client = {
    node: { name, id },
    address: "",
    version: "",
    connectedAt: 0,
    acknowledged: { received: 0n, programmed: 0n, failed: [] as string[] },
    certificateEndsAtUnixMs: undefined,
    isCaughtUp: true,
    dirtyKeys: 0,
    bytesSent: 0,
  };
  const sent: RelayAck[] = [];
  const uplink = new Uplink({ table, clients: () => [client as unknown as ClientState], clock, refreshMs: 3_600_000 });
  const send = (ack: RelayAck): void => void sent.push(ack);
  uplink.begin(send);
  let stacks = 0;
  return {
    client,
    clock,
    sent,
    table,
    uplink,
    send,
    /** Something that the node has not got yet. */
    commit(): void {
      const stack = { kind: "stack", id: `s${++stacks}`, tiers: [], noMatchAction: "allow" } as const;
      table.commit([{ key: `stack/${stack.id}`, value: stack, isRemoved: false, entered: [name], left: [] }], 1n);
      client.isCaughtUp = false;
      uplink.touch();
    },
  };
}

describe("Uplink", () => {
  it("a node that is behind for a moment holds back the number and is not named; one that stays behind is named, and the number goes on", async () => {
    const { client, clock, commit, sent, table, uplink } = start();
    const before = sent.at(-1)?.levelRevision;
    commit();
    await clock.advance(100);
    expect(sent.at(-1)?.levelRevision).toBe(before);
    client.isCaughtUp = true;
    uplink.touch();
    await clock.advance(300);
    expect(sent.at(-1)).toMatchObject({ levelRevision: table.revision, nodes: [] });
    commit();
    await clock.advance(400);
    expect(sent.at(-1)?.levelRevision).toBe(table.revision - 1n);
    await clock.advance(400);
    expect(sent.at(-1)).toMatchObject({ levelRevision: table.revision, nodes: [{ slot: client.node.id, level: false }] });
    uplink.end();
  });

  it("a parent that has answered anew is told everything, though nothing has changed", () => {
    const { client, send, sent, table, uplink } = start();
    uplink.begin(send);
    expect(sent).toHaveLength(2);
    expect(sent[1]).toMatchObject({ levelRevision: table.revision, nodes: [{ slot: client.node.id, connected: true, level: true }] });
    uplink.end();
  });
});
