import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { pod } from "../../test/fakes/cluster-objects.ts";
import { type NodeName, podKey } from "../model/names.ts";
import { parseSelector } from "../selector/parse-selector.ts";
import { type AddressSet, AddressSets, type SetUser } from "./address-sets.ts";
import { Audience } from "./audience.ts";
import { AccountState, EndpointState, NamespaceState, type PolicyItem } from "./endpoint.ts";
import { Ledger } from "./ledger.ts";
import { NodeIndex } from "./node-index.ts";
import { SelectorIndex } from "./selector-index.ts";
import { Services } from "./services.ts";
import { addressSetUse, portSetUse, type SetSources } from "./set-source.ts";
import { SmallSet } from "./small-collections.ts";

class User implements SetUser {
  readonly audience = new Audience();
  readonly uses = new SmallSet<AddressSet>();
  readonly joint = new SmallSet<AddressSet>();
}

function sourcesOfOne(): SetSources {
  const index = new SelectorIndex<PolicyItem>();
  const item = pod("web", { on: "n1", ips: ["10.0.0.1"] });
  const endpoint = new EndpointState({
    key: podKey("shop", "web"),
    pod: item,
    node: "n1" as NodeName,
    parent: new AccountState(new NamespaceState(item.namespace), "default"),
  });
  endpoint.addresses = item.addresses;
  index.add(endpoint, []);
  return { endpoints: index, nodes: new NodeIndex().index, services: new Services() };
}

describe("AddressSets: the audience of a set", () => {
  it("is that of all subjects that use it, through any history of uses and nodes", () => {
    const user = fc.nat(3);
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom("use" as const, "drop" as const), user }) },
      { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom("enter" as const, "leave" as const), user, node: fc.constantFrom("n1", "n2", "n3") }) },
      { weight: 2, arbitrary: fc.constant({ kind: "commit" as const }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80, size: "max" }), (history) => {
        const sets = new AddressSets(sourcesOfOne());
        const use = addressSetUse(parseSelector("all()"));
        const users = Array.from({ length: 4 }, () => new User());
        const uses = new Map<User, number>();
        const moved = new Set<User>();
        const held = new Set<NodeName>();
        for (const event of [...history, { kind: "commit" as const }]) {
          if (event.kind === "commit") {
            const ledger = new Ledger();
            sets.commit(ledger, moved);
            for (const each of moved) each.audience.settle();
            moved.clear();
            for (const { entered, left } of ledger.changes()) {
              for (const name of left) expect(held.delete(name)).toBe(true);
              for (const name of entered) expect(held.size).toBeLessThan(held.add(name).size);
            }
            const expected = new Set([...uses].flatMap(([each, count]) => (count > 0 ? each.audience.sorted() : [])));
            expect(held).toEqual(expected);
            continue;
          }
          const subject = users[event.user] ?? new User();
          const count = uses.get(subject) ?? 0;
          if (event.kind === "use") {
            sets.acquire(use).addUser(subject);
            uses.set(subject, count + 1);
          } else if (event.kind === "drop") {
            const set = sets.find(use.id);
            if (count === 0 || set === undefined) continue;
            set.removeUser(subject);
            sets.release(set);
            uses.set(subject, count - 1);
          } else if ("node" in event) {
            const name = event.node as NodeName;
            if (event.kind === "leave" && !subject.audience.has(name)) continue;
            const isMoved = event.kind === "enter" ? subject.audience.acquire(name) : subject.audience.release(name);
            if (!isMoved) continue;
            moved.add(subject);
            for (const set of subject.joint) {
              if (event.kind === "enter") set.nodeEntered(name);
              else set.nodeLeft(name);
            }
          }
        }
        for (const each of users) {
          const others = users.filter((other) => other !== each && (uses.get(other) ?? 0) > 0).length;
          const isUser = (uses.get(each) ?? 0) > 0;
          expect([each.uses.size, each.joint.size]).toEqual([isUser ? 1 : 0, isUser && others > 0 ? 1 : 0]);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("without a node, nothing is taken from the index", () => {
    const sources = sourcesOfOne();
    const sets = new AddressSets(sources);
    sets.acquire(addressSetUse(parseSelector("all()"))).addUser(new User());
    sets.commit(new Ledger(), []);
    expect(sources.endpoints.sizes.selectors).toBe(0);
  });
});

describe("portSetUse", () => {
  const web = parseSelector("app == 'web'");
  it("equal uses are one set; each part of the use tells sets apart", () => {
    const ids = [
      portSetUse({ selector: web, port: "http", protocol: 6 }),
      portSetUse({ selector: undefined, port: "http", protocol: 6 }),
      portSetUse({ selector: web, port: "https", protocol: 6 }),
      portSetUse({ selector: web, port: "http", protocol: 17 }),
    ].map(({ id }) => id);
    expect(new Set(ids).size).toBe(4);
    expect(portSetUse({ selector: parseSelector('app=="web"'), port: "http", protocol: 6 }).id).toBe(ids[0]);
    for (const id of ids) expect(id).toMatch(/^n:[0-9a-f]{40}$/);
  });
});
