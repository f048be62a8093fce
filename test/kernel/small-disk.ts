/** A directory on a file system of its own that is small, can be filled and can be made read-only; unmounted at the end. Needs root. */
import { mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { exec, execOk } from "../../src/runtime/exec.ts";

export class SmallDisk implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** `path` is made; what was there is hidden while the disk is mounted. */
  static async mount(path: string, bytes: number): Promise<SmallDisk> {
    mkdirSync(path, { recursive: true });
    await execOk(["mount", "-t", "tmpfs", "-o", `size=${bytes},mode=700`, "sedge-test", path]);
    return new SmallDisk(path);
  }

  /** Leaves no byte free. */
  fill(): void {
    const { bavail, bsize } = statfsSync(this.path);
    writeFileSync(join(this.path, "filler"), Buffer.alloc(bavail * bsize));
  }

  empty(): void {
    rmSync(join(this.path, "filler"), { force: true });
  }

  async setReadOnly(isReadOnly: boolean): Promise<void> {
    await execOk(["mount", "-o", `remount,${isReadOnly ? "ro" : "rw"}`, this.path]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Lazy: a process that is just being killed may still have a file open.
    await exec(["umount", "-l", this.path]);
  }
}

/** For a directory whose run was killed: a disk that is still mounted in it would keep it from being removed. */
export async function unmountBelow(directory: string): Promise<void> {
  const points = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((point) => point.startsWith(`${directory}/`));
  for (const point of points.toReversed()) await exec(["umount", "-l", point]);
}
