/**
 * Directories on file systems of their own that are small: one that can be filled and made read-only, one that fails under who uses it; unmounted at the end.
 * Needs root.
 */
import { mkdirSync, readFileSync, rmSync, statfsSync, truncateSync, writeFileSync } from "node:fs";
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

/** An ext4 that stops as on an I/O error: read-only from then on, also for files that are open for writing, which a remount refuses to do. */
export class FailingDisk implements AsyncDisposable {
  readonly #image: string;
  readonly #path: string;

  private constructor(image: string, path: string) {
    this.#image = image;
    this.#path = path;
  }

  /** `path` is made; what was there is hidden while the disk is mounted. The image is made beside it. */
  static async mount(path: string): Promise<FailingDisk> {
    const image = `${path}.image`;
    mkdirSync(path, { recursive: true });
    writeFileSync(image, "");
    truncateSync(image, 8 << 20);
    await execOk(["mkfs.ext4", "-q", "-F", image]);
    const disk = new FailingDisk(image, path);
    await disk.#mount();
    return disk;
  }

  async fail(): Promise<void> {
    await execOk(["mount", "-o", "remount,abort", this.#path]);
  }

  /** As a person does: looked through and mounted again. Nobody may use it meanwhile. */
  async repair(): Promise<void> {
    await execOk(["umount", this.#path]);
    // 1: errors were corrected.
    const { code = 8, stderr } = await exec(["e2fsck", "-p", this.#image]);
    if (code > 1) throw new Error(`e2fsck: ${stderr}`);
    await this.#mount();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await exec(["umount", "-l", this.#path]);
    rmSync(this.#image, { force: true });
  }

  async #mount(): Promise<void> {
    await execOk(["mount", "-o", "loop,errors=remount-ro", this.#image, this.#path]);
  }
}

/** True when a FailingDisk can be made here. */
export async function canMountImages(): Promise<boolean> {
  return (await exec(["sh", "-c", "command -v mkfs.ext4 e2fsck && test -e /dev/loop-control"])).code === 0;
}

/** For a directory whose run was killed: a disk that is still mounted in it would keep it from being removed. */
export async function unmountBelow(directory: string): Promise<void> {
  const points = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((point) => point.startsWith(`${directory}/`));
  for (const point of points.toReversed()) await exec(["umount", "-l", point]);
}
