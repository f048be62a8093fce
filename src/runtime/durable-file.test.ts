import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { moveAside, replaceFile } from "./durable-file.ts";

let directory = "";
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sedge-durable-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

describe("replaceFile", () => {
  it("makes and replaces, readable by its owner alone, and leaves nothing else", async () => {
    const path = join(directory, "f");
    await replaceFile(path, Buffer.from("one"));
    await replaceFile(path, Buffer.from("two"));
    expect(await readFile(path, "utf8")).toBe("two");
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readdir(directory)).toEqual(["f"]);
  });

  it("a left-over of a crash does not stand in its way", async () => {
    const path = join(directory, "f");
    await writeFile(`${path}.new`, "half");
    await replaceFile(path, Buffer.from("whole"));
    expect(await readFile(path, "utf8")).toBe("whole");
  });

  it("a directory that is not there is the disk's own error, and the old file stays", async () => {
    await expect(replaceFile(join(directory, "missing", "f"), Buffer.from("x"))).rejects.toMatchObject({ code: "ENOENT" });
  });
});

describe("moveAside", () => {
  it("never overwrites what was moved before", async () => {
    const path = join(directory, "f");
    for (const content of ["first", "second"]) {
      await writeFile(path, content);
      await moveAside(path);
    }
    expect(await readdir(directory)).toEqual(["f.corrupt-1", "f.corrupt-2"]);
    expect(await readFile(join(directory, "f.corrupt-1"), "utf8")).toBe("first");
  });

  it("a file that is not there gives a name and no error", async () => {
    expect(await moveAside(join(directory, "f"))).toBe(join(directory, "f.corrupt-1"));
  });
});
