/**
 * An image for pods' sandboxes, made here: one static program that waits, in an archive that `ctr image import` takes (OCI image layout 1.0). Nothing is
 * pulled, since a test has no registry.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const SOURCE =
  "#include <unistd.h>\n#include <signal.h>\nstatic void end(int s){_exit(0);}\nint main(void){signal(SIGTERM,end);signal(SIGINT,end);for(;;)pause();}\n";
const TAR_BLOCK = 512;
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

/** Path of the archive. Throws when there is no C compiler with a static libc. */
export function makePauseImage(directory: string, name: string): string {
  const program = join(directory, "pause");
  writeFileSync(`${program}.c`, SOURCE);
  execFileSync("cc", ["-static", "-Os", "-o", program, `${program}.c`]);
  const blobs = new Map<string, Buffer>();
  const blob = (bytes: Buffer, mediaType: string): { mediaType: string; digest: string; size: number } => {
    const hex = createHash("sha256").update(bytes).digest("hex");
    blobs.set(`blobs/sha256/${hex}`, bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value), "utf8");
  const layer = blob(tar(new Map([["pause", readFileSync(program)]])), "application/vnd.oci.image.layer.v1.tar");
  const config = blob(
    json({
      architecture: ARCHITECTURES[process.arch] ?? process.arch,
      os: "linux",
      config: { Entrypoint: ["/pause"], Env: ["PATH=/"], WorkingDir: "/" },
      rootfs: { type: "layers", diff_ids: [layer.digest] },
    }),
    "application/vnd.oci.image.config.v1+json",
  );
  const manifest = blob(
    json({ schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json", config, layers: [layer] }),
    "application/vnd.oci.image.manifest.v1+json",
  );
  const index = {
    schemaVersion: 2,
    manifests: [{ ...manifest, annotations: { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name } }],
  };
  const archive = join(directory, "pause.tar");
  writeFileSync(archive, tar(new Map([["oci-layout", json({ imageLayoutVersion: "1.0.0" })], ["index.json", json(index)], ...blobs])));
  return archive;
}

/** POSIX ustar, regular files that all may run. */
function tar(files: ReadonlyMap<string, Buffer>): Buffer {
  const parts: Buffer[] = [];
  for (const [name, bytes] of files) {
    const header = Buffer.alloc(TAR_BLOCK);
    header.write(name, 0, 100, "utf8");
    header.write("0000755\0", 100);
    header.write("0000000\0", 108);
    header.write("0000000\0", 116);
    header.write(`${bytes.length.toString(8).padStart(11, "0")}\0`, 124);
    header.write("00000000000\0", 136);
    header.write("        ", 148);
    header.write("0", 156);
    header.write("ustar\u000000", 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    parts.push(header, bytes, Buffer.alloc((TAR_BLOCK - (bytes.length % TAR_BLOCK)) % TAR_BLOCK));
  }
  return Buffer.concat([...parts, Buffer.alloc(2 * TAR_BLOCK)]);
}
