import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ipFromBytes } from "../net/ip.ts";
import { compareMembers, memberBytes, memberHash } from "./set-member.ts";
import { MAX_SHARD_MEMBERS, SetTrie } from "./set-trie.ts";

const address = (n: number): string => `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`;

function contents(trie: SetTrie): ReadonlyMap<string, readonly string[]> {
  return new Map(trie.prefixes().map((prefix) => [prefix, trie.shard(prefix) ?? []]));
}

function trieOf(members: Iterable<string>): SetTrie {
  const trie = new SetTrie();
  for (const member of members) trie.add(member);
  return trie;
}

describe("memberHash", () => {
  // Reference: FNV-1a over the wire bytes, then MurmurHash3's fmix32, written out without the shortcut for IPv4.
  it.each(["0.0.0.0", "10.0.0.1", "255.255.255.255", "fd00::1", "10.0.0.1,tcp:80", "fd00::1,sctp:65535", "10.0.0.0/8", "::/0"])("%s", (member) => {
    let hash = 0x811c9dc5n;
    for (const byte of memberBytes(member)) hash = ((hash ^ BigInt(byte)) * 0x01000193n) & 0xffffffffn;
    hash ^= hash >> 16n;
    hash = (hash * 0x85ebca6bn) & 0xffffffffn;
    hash ^= hash >> 13n;
    hash = (hash * 0xc2b2ae35n) & 0xffffffffn;
    hash ^= hash >> 16n;
    expect(memberHash(member)).toBe(Number(hash));
  });

  it("fixed values: replicas of other versions must cut alike", () => {
    expect(["10.0.0.1", "fd00::1", "10.0.0.1,tcp:80"].map(memberHash)).toMatchInlineSnapshot(`
      [
        4242520943,
        3835486903,
        409349713,
      ]
    `);
  });

  it("spreads neighbouring addresses over the first bit", () => {
    const ones = Array.from({ length: 256 }, (_, i) => memberHash(address(i)) >>> 31).reduce((sum, bit) => sum + bit, 0);
    expect(ones).toBeGreaterThan(96);
    expect(ones).toBeLessThan(160);
  });
});

describe("memberBytes", () => {
  it.each([
    ["10.0.0.1", [10, 0, 0, 1]],
    ["10.0.0.1,tcp:80", [10, 0, 0, 1, 6, 0, 80]],
    ["10.0.0.1,udp:258", [10, 0, 0, 1, 17, 1, 2]],
    ["10.0.0.1,sctp:1", [10, 0, 0, 1, 132, 0, 1]],
    ["10.0.0.0/8", [10, 0, 0, 0, 8]],
    ["fd00::1", [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]],
  ])("%s", (member, bytes) => expect([...memberBytes(member)]).toEqual(bytes));

  it("refuses a protocol without ports", () => expect(() => memberBytes("10.0.0.1,icmp:1")).toThrow(RangeError));
});

describe("compareMembers", () => {
  const members = fc.oneof(
    fc.uint8Array({ minLength: 4, maxLength: 4 }).map((bytes): string => ipFromBytes(bytes)),
    fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes): string => ipFromBytes(bytes)),
  );
  it("is the order of the bytes, IPv4 first", () => {
    fc.assert(
      fc.property(members, members, fc.constantFrom("", ",tcp:80", ",udp:7"), fc.constantFrom(",tcp:80", ",tcp:81", ",sctp:80"), (a, b, portA, portB) => {
        const [left, right] = portA === "" ? [a, b] : [a + portA, b + portB];
        const bytesA = memberBytes(left);
        const bytesB = memberBytes(right);
        const byFamily = bytesA.length - bytesB.length;
        const expected = byFamily === 0 ? Buffer.compare(bytesA, bytesB) : byFamily;
        expect(Math.sign(compareMembers(left, right))).toBe(Math.sign(expected));
      }),
    );
  });
});

describe("SetTrie", () => {
  it("64 members are one shard, 65 are two or more", () => {
    const trie = trieOf(Array.from({ length: 64 }, (_, i) => address(i)));
    expect(trie.prefixes()).toEqual([""]);
    trie.add(address(64));
    expect(trie.prefixes().length).toBeGreaterThan(1);
    expect(trie.shard("")).toBeUndefined();
    trie.remove(address(3));
    expect(trie.prefixes()).toEqual([""]);
  });

  it("an empty set has no shard", () => {
    const trie = trieOf([address(1)]);
    trie.remove(address(1));
    expect(trie.prefixes()).toEqual([]);
    expect(trie.size).toBe(0);
  });

  it("a member added twice is in once, and leaves with the second removal", () => {
    const trie = trieOf([address(1), address(1)]);
    expect(trie.shard("")).toEqual([address(1)]);
    trie.remove(address(1));
    expect(trie.shard("")).toEqual([address(1)]);
    trie.remove(address(1));
    expect(trie.shard("")).toBeUndefined();
    expect(() => trie.remove(address(1))).toThrow("was not in it");
  });

  it("a shard once handed out is never changed in place", () => {
    const trie = trieOf([address(1)]);
    const shard = trie.shard("");
    trie.add(address(2));
    expect(shard).toEqual([address(1)]);
  });

  it("shards keep the order of the wire", () => {
    const trie = trieOf(["fd00::1", "10.0.0.10", "9.0.0.1", "10.0.0.9"]);
    expect(trie.shard("")).toEqual(["9.0.0.1", "10.0.0.9", "10.0.0.10", "fd00::1"]);
  });

  it("the shape follows from the content, whatever the history", () => {
    const step = fc.record({ isAdded: fc.boolean(), first: fc.nat(400), count: fc.integer({ min: 1, max: 120 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (history) => {
        const trie = new SetTrie();
        const members = new Set<string>();
        for (const { isAdded, first, count } of history) {
          for (let i = first; i < first + count; i++) {
            const member = address(i);
            if (isAdded === members.has(member)) continue;
            if (isAdded) {
              trie.add(member);
              members.add(member);
            } else {
              trie.remove(member);
              members.delete(member);
            }
          }
        }
        expect(contents(trie)).toEqual(contents(trieOf(members)));
        expect(trie.size).toBe(members.size);
        const found = [...contents(trie).values()].flat();
        expect(found.sort()).toEqual([...members].sort());
        for (const [prefix, shard] of contents(trie)) {
          expect(shard.length).toBeLessThanOrEqual(MAX_SHARD_MEMBERS);
          for (const member of shard) expect(memberHash(member).toString(2).padStart(32, "0").startsWith(prefix)).toBe(true);
          if (prefix !== "") {
            const parent = prefix.slice(0, -1);
            const around = [...members].filter((member) => memberHash(member).toString(2).padStart(32, "0").startsWith(parent));
            expect(around.length).toBeGreaterThan(MAX_SHARD_MEMBERS);
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  it("dirty names every shard that differs; one member of ten thousand touches one shard, or those of a split or merge", () => {
    const trie = trieOf(Array.from({ length: 10_000 }, (_, i) => address(i)));
    trie.takeDirty();
    let touched = 0;
    for (let i = 0; i < 500; i++) {
      const before = contents(trie);
      if (i % 2 === 0) trie.add(address(20_000 + i));
      else trie.remove(address(i));
      const after = contents(trie);
      const dirty = trie.takeDirty();
      for (const prefix of new Set([...before.keys(), ...after.keys()])) if (before.get(prefix) !== after.get(prefix)) expect(dirty.has(prefix)).toBe(true);
      expect(dirty.size).toBeLessThanOrEqual(4);
      touched += dirty.size;
    }
    expect(touched / 500).toBeLessThan(1.2);
  });
});
